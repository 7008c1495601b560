"""Where machines are: a network of their own, or one that the user has."""

from __future__ import annotations

import ipaddress
import zlib
from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn.settings import NetworkSettings

_SPACE = ipaddress.ip_network("10.0.0.0/9")
"""The upper half of 10.0.0.0/8 belongs to networks in auto mode (10.128.0.0/9), which a user may want to peer with."""
_BITS = 20


@dataclass(frozen=True)
class NetworkArgs:
    """What a network is made of.

    Attributes:
        regions: where machines may run.
        settings: `id` and `subnets` of an existing one; without `id` a new one is made.
    """

    project: str
    prefix: str
    regions: Sequence[str]
    settings: NetworkSettings


class Network(pulumi.ComponentResource):
    """A network and one subnet for each region.

    Attributes:
        network: link of the network.
        project: of the network: the stack's own, or the host project of a shared one.
        subnets: link of the subnet, by region.
    """

    network: pulumi.Output[str]
    project: str
    subnets: Mapping[str, pulumi.Output[str]]

    def __init__(
        self, name: str, args: NetworkArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:Network", name, {}, opts)
        if args.settings.id:
            self._take(args)
        else:
            self._make(args, pulumi.ResourceOptions(parent=self, depends_on=list(after)))
        self.register_outputs({"network": self.network})

    def _make(self, args: NetworkArgs, opts: pulumi.ResourceOptions) -> None:
        made = gcp.compute.Network(
            "network",
            project=args.project,
            name=args.prefix,
            description="Machines of cloudfn; nothing comes in but what its firewall rules allow.",
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            opts=opts,
        )
        self.project = args.project
        self.network = made.self_link
        self.subnets = {
            region: gcp.compute.Subnetwork(
                f"subnet-{region}",
                project=args.project,
                name=f"{args.prefix}-{region}",
                region=region,
                network=made.self_link,
                ip_cidr_range=str(block(region)),
                private_ip_google_access=True,
                opts=opts,
            ).self_link
            for region in args.regions
        }

    def _take(self, args: NetworkArgs) -> None:
        link = args.settings.id
        link = link if "/" in link else f"projects/{args.project}/global/networks/{link}"
        self.project = link.split("/")[1]
        self.network = pulumi.Output.from_input(link)
        self.subnets = {region: pulumi.Output.from_input(self._subnet(args, region)) for region in args.regions}

    def _subnet(self, args: NetworkArgs, region: str) -> str:
        (name,) = args.settings.subnets[region]
        return name if "/" in name else f"projects/{self.project}/regions/{region}/subnetworks/{name}"


def block(region: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """The addresses of a region's subnet: 4,092 machines. It depends on nothing but the region's name, so no subnet
    ever moves because another region comes or goes; a test holds that no two of Google's regions meet."""
    count = 1 << (_BITS - _SPACE.prefixlen)
    first = int(_SPACE.network_address) + (zlib.crc32(region.encode()) % count << (32 - _BITS))
    return ipaddress.ip_network((first, _BITS))
