"""The road to a machine: one SSH connection, through which the agent's door over there is a Unix socket here.

OpenSSH's client is taken where there is one (`openssh`), else paramiko (`paramiko_client`); `choose` picks. Nothing
here knows a cloud: where a machine is, which key it has and which command leads to it is told by a `Destination`.
"""
