"""What a new machine is told, as EC2's user data: a boot hook of cloud-init. It holds no secret, for anybody on the
machine, and whoever may describe launch templates, can read it.

A boot hook runs as soon as cloud-init has the network, before sshd and long before cloud-init's last stage.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, Mapping

MOST = 16_384
"""Bytes of user data that EC2 takes."""
DEADMAN = 900
"""Seconds without a sign of life after which a machine powers itself off."""

_HOOK = r"""#cloud-boothook
#!/bin/sh
# cloudfn: makes this a machine of its stack. What runs here is public; nothing secret is in it.
set -eu
umask 022
[ -d /run/cloudfn ] && exit 0
mkdir -p /run/cloudfn /opt/cloudfn/agent /etc/ssh/sshd_config.d

# First of all the dead-man: whatever fails, this machine does not run on unheard. It needs no agent.
cat > /run/cloudfn/deadman <<'END'
while sleep 15; do
  last=0
  read -r last < /run/cloudfn/alive || :
  read -r now _ < /proc/uptime
  [ $((${now%.*} - ${last%.*})) -gt @DEADMAN@ ] || continue
  echo "no sign of life for @DEADMAN@ s: powering off" > /dev/kmsg || :
  systemctl poweroff --no-block || :
  sleep 180
  echo o > /proc/sysrq-trigger
done
END
cut -d' ' -f1 /proc/uptime > /run/cloudfn/alive
unit() {
  name=$1
  shift
  systemd-run --quiet --no-block --unit="$name" -p DefaultDependencies=no -p Conflicts=shutdown.target \
    -p Before=shutdown.target -p RestartSec=1 -p StartLimitIntervalSec=0 "$@"
}
unit cloudfn-deadman -p Restart=always -p OOMScoreAdjust=-1000 /bin/sh /run/cloudfn/deadman

cat > /run/cloudfn/config.json <<'END'
@CONFIG@
END
cat > /run/cloudfn/bootstrap.py <<'END'
@BOOTSTRAP@
END
run="/usr/bin/python3 -I -S /run/cloudfn/bootstrap.py /run/cloudfn/config.json"

# What fails from here on is told to whoever waits for this machine, and the machine goes.
exec 3>&2 2> /run/cloudfn/boot.log
trap '{ s=$?; set +x; } 2> /dev/null; [ $s = 0 ] || { cat /run/cloudfn/boot.log >&3; $run /run/cloudfn/boot.log; }' EXIT
set -x

# sshd, before it starts: one host key, of this boot only, and no way in but by keys that the controller names.
ssh-keygen -q -t ed25519 -N '' -C cloudfn -f /run/cloudfn/ssh_host_ed25519_key
cat > /etc/ssh/sshd_config.d/00-cloudfn.conf <<'END'
@SSHD@
END
grep -q '^Include /etc/ssh/sshd_config.d' /etc/ssh/sshd_config ||
  sed -i '1i Include /etc/ssh/sshd_config.d/*.conf' /etc/ssh/sshd_config

unit cloudfn-agent -p After=network.target -p Restart=on-failure -p KillMode=mixed -p Delegate=yes \
  -p TimeoutStopSec=@STOP@ -p OOMScoreAdjust=-900 -p TasksMax=infinity -p LimitNOFILE=1048576 $run
systemctl --no-block try-reload-or-restart ssh.service || :
"""

_SSHD = """HostKey /run/cloudfn/ssh_host_ed25519_key
HostKeyAlgorithms ssh-ed25519
UsePAM no
PermitRootLogin no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile none
AuthorizedKeysCommand /usr/bin/python3 -I -S /run/cloudfn/keys.py %u %t %k
AuthorizedKeysCommandUser cloudfn
AllowUsers cloudfn@ADMIN@
MaxStartups 200
LoginGraceTime 20
ClientAliveInterval 15
ClientAliveCountMax 6
X11Forwarding no
AllowAgentForwarding no
AllowStreamLocalForwarding no
Match User cloudfn
  AllowTcpForwarding local
  PermitOpen 127.0.0.1:7060
  PermitListen none
  PermitTTY no
  ForceCommand /bin/false"""

STOP = 180
"""Seconds that the agent may take to end when the machine goes off."""


def render(config: Mapping[str, Any]) -> str:
    """The user data of a machine.

    Args:
        config: `controller_url`, `region`, `bucket`, `stack`, `group` and `agent_sha256`; optional `deadman` (seconds),
            `shell` (people may log in) and `endpoints` (addresses that stand in for AWS's).

    Raises:
        ValueError: it would be larger than EC2 takes.
    """
    text = _HOOK
    for name, value in {
        "@DEADMAN@": str(int(config.get("deadman", DEADMAN))),
        "@STOP@": str(STOP),
        "@SSHD@": _SSHD.replace("@ADMIN@", " cloudfn-admin" if config.get("shell") else ""),
        "@CONFIG@": json.dumps(dict(config), sort_keys=True),
        "@BOOTSTRAP@": stripped(files("cloudfn_boot").joinpath("bootstrap.py").read_text("utf-8")),
    }.items():
        text = text.replace(name, value)
    if len(text.encode()) > MOST:
        raise ValueError(f"the user data has {len(text.encode())} bytes, and EC2 takes {MOST}")
    return text


def stripped(source: str) -> str:
    """A program of ours without docstrings, comments on lines of their own, and empty lines.

    By lines, not by Python's parser: the result must not depend on who renders it.
    """
    kept = []
    inside = False
    for line in source.splitlines():
        bare = line.strip()
        if inside or bare.startswith('"""'):
            ends = bare.endswith('"""') and (inside or len(bare) > 3)
            inside = not ends
            continue
        if bare and not bare.startswith("#"):
            kept.append(line)
    return "\n".join(kept)
