"""What a network of Google Cloud's may be, and how callers come to machines in it."""

from __future__ import annotations

import ipaddress
import re
from typing import Sequence

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Port, Road
from cloudfn.settings import NetworkSettings

IAP = "35.235.240.0/20"
"""Where Identity-Aware Proxy's TCP forwarding comes from: cloud.google.com/iap/docs/using-tcp-forwarding."""
SSH = 22
_NAME = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NETWORK = re.compile(rf"(?:projects/[a-z0-9.:-]+/global/networks/)?{_NAME}")
_SUBNET = re.compile(rf"(?:projects/[a-z0-9.:-]+/regions/([a-z0-9-]+)/subnetworks/)?{_NAME}")


def check(network: NetworkSettings, regions: Sequence[str]) -> None:
    """Raises `InvalidError` for a network that cannot be, or that no caller could reach."""
    if network.id and not _NETWORK.fullmatch(network.id):
        raise InvalidError(
            f"network.id = {network.id!r} is no network of Google Cloud's.",
            hint='Write its name ("default"), or "projects/HOST/global/networks/NAME" for one that is shared.',
        )
    if network.subnets and not network.id:
        raise InvalidError("network.subnets needs network.id: say which network they are in, or leave both out.")
    if network.id:
        _check_subnets(network, regions)
    if network.private and network.road == "ssh" and not network.ssh_from:
        raise InvalidError(
            "network.private with network.road = 'ssh': machines have no public address to come to.",
            hint="Name your own ranges in network.ssh_from (VPN), or take network.road = 'helper' (IAP needs none).",
        )
    for block in network.ssh_from:
        if ipaddress.ip_network(block).version != 4:
            raise InvalidError(
                f"network.ssh_from: {block} is IPv6, but machines have IPv4 addresses: name an IPv4 block."
            )


def _check_subnets(network: NetworkSettings, regions: Sequence[str]) -> None:
    for region, names in network.subnets.items():
        for name in names:
            found = _SUBNET.fullmatch(name)
            if not found or found.group(1) not in (None, region):
                raise InvalidError(
                    f"network.subnets: {name!r} is no subnet of {region}.",
                    hint=f'Write its name, or "projects/HOST/regions/{region}/subnetworks/NAME" for a shared one.',
                )
        if len(names) != 1:
            raise InvalidError(
                f"network.subnets: {region} has {len(names)} subnets, but a group is in one.",
                hint="A subnet of Google Cloud's spans all zones of its region: name the one to use.",
            )
    missing = [region for region in regions if region not in network.subnets]
    if missing:
        raise InvalidError(
            f"network.subnets: none for {', '.join(missing)}, where machines may run.",
            hint=f"gcloud compute networks subnets list --network={network.id.rpartition('/')[2]}",
        )


def road(network: NetworkSettings, helper: bool) -> tuple[Road, tuple[Port, ...]]:
    """How callers reach machines.

    Args:
        helper: whether `gcloud` is installed here; decides where the settings say "auto". Machines without public
            addresses are reached through the helper only, so they leave nothing to decide.
    """
    if network.road == "helper" or (network.road == "auto" and (helper or network.private)):
        words = (
            "SSH through Google's Identity-Aware Proxy (gcloud compute start-iap-tunnel). "
            "Machines take no connection from the internet"
        )
        why = f"SSH from Identity-Aware Proxy's own range; it lets in whom IAM allows. {IAP} belongs to Google"
        return Road("helper", words), (Port("tcp", SSH, (IAP,), why),)
    why = "SSH from the callers' own addresses only; gcloud is not used"
    words = "SSH to the machines' public addresses, from the named addresses only"
    if network.private:
        words = "SSH to the machines' private addresses, from the named addresses only"
    return Road("ssh", words), (Port("tcp", SSH, network.ssh_from or ("caller",), why),)
