"""Networks on AWS: what a user may ask for, and the road on which callers come."""

from __future__ import annotations

import ipaddress
import re

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Port, Road
from cloudfn.settings import NetworkSettings

HELPER = "session-manager-plugin"
"""AWS's own program, through which sessions of Systems Manager run."""
_VPC = re.compile(r"vpc-(?:[0-9a-f]{8}|[0-9a-f]{17})")
_SUBNET = re.compile(r"subnet-(?:[0-9a-f]{8}|[0-9a-f]{17})")
SSH = 22


def check(network: NetworkSettings, regions: tuple[str, ...]) -> None:
    """Raises `InvalidError` for a network that cannot be. `regions`: where machines may run."""
    _check_existing(network, regions)
    if network.private and not network.id:
        raise InvalidError(
            "network.private: a new network has no NAT, so a machine without public address could fetch nothing.",
            hint="Name your network and subnets that have a NAT (network.id, network.subnets), or leave private out.",
        )
    if network.private and network.road == "ssh" and not network.ssh_from:
        raise InvalidError(
            "network.road is ssh, but private machines do not see the caller's public address.",
            hint="Name the addresses from which callers come inside the network: network.ssh_from.",
        )
    for block in network.ssh_from:
        try:
            ipaddress.IPv4Network(block)
        except ValueError as error:
            raise InvalidError(
                f"network.ssh_from: {block!r} is no IPv4 block ({error}).", hint='Write it as "203.0.113.7/32".'
            ) from error


def _check_existing(network: NetworkSettings, regions: tuple[str, ...]) -> None:
    if network.subnets and not network.id:
        raise InvalidError("network.subnets without network.id.", hint="Name the VPC that the subnets are in.")
    if not network.id:
        return
    if not _VPC.fullmatch(network.id):
        raise InvalidError(
            f"network.id: {network.id!r} is no VPC's ID.",
            hint='It looks like "vpc-0123456789abcdef0": aws ec2 describe-vpcs',
        )
    if len(regions) > 1:
        raise InvalidError(
            f"network.id: a VPC is in one region, but machines may run in {', '.join(regions)}.",
            hint="Keep to one region, or leave network.id out: each region gets a network of its own.",
        )
    for region in regions:
        if not network.subnets.get(region):
            raise InvalidError(
                f"network.subnets: none for {region}.", hint=f"Name the subnets of {network.id} for machines there."
            )
    for region, subnets in network.subnets.items():
        for subnet in subnets:
            if not _SUBNET.fullmatch(subnet):
                raise InvalidError(
                    f"network.subnets: {subnet!r} in {region} is no subnet's ID.",
                    hint='It looks like "subnet-0123456789abcdef0": aws ec2 describe-subnets',
                )


def road(network: NetworkSettings, helper_is_here: bool) -> tuple[Road, tuple[Port, ...]]:
    """The road and its ports.

    Raises:
        InvalidError: "auto" finds no helper, and private machines cannot be reached otherwise.
    """
    login = "; they may log in (network.shell)" if network.shell else "; nobody can log in"
    kind = network.road
    if kind == "auto":
        kind = "helper" if helper_is_here else "ssh"
    if kind == "helper":
        return Road(
            "helper", f"SSH through AWS Systems Manager ({HELPER}; below 1 MB/s): no inbound port at all{login}"
        ), ()
    if network.private and not network.ssh_from:
        raise InvalidError(
            f"{HELPER} is not installed, and private machines do not see the caller's public address.",
            hint=f"Install {HELPER}, or name the addresses inside the network that may connect: network.ssh_from.",
        )
    sources = network.ssh_from or ("caller",)
    who = ", ".join(sources) if network.ssh_from else "the caller's own address"
    port = Port("tcp", SSH, sources, "callers reach workers by SSH")
    return Road("ssh", f"SSH to the machine's address, open to {who} only{login}"), (port,)
