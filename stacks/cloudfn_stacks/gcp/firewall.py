"""What may come in to machines: SSH from where the plan says, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Port

EVERYBODY = "0.0.0.0/0"
_ALLOW = 900
_DENY = 1000
"""Both go before the rules of a project's default network, which have 65534. A lower number wins."""


@dataclass(frozen=True)
class FirewallArgs:
    """Rules of a network.

    Attributes:
        project: the network's.
        tag: network tag of the machines that the rules are for.
        ports: which are open to whom; "caller" among the sources stands for `caller`.
        caller: CIDR block of the caller's own address, "" where nobody asked for it.
        existing: the network is the user's: its other rules may let more in, so the rest is denied for these machines.
            (A new network lets nothing in.)
    """

    project: str
    prefix: str
    network: pulumi.Input[str]
    tag: str
    ports: Sequence[Port]
    caller: str
    existing: bool


class Firewall(pulumi.ComponentResource):
    """See `FirewallArgs`.

    Raises:
        InvalidError: a port would be open to everybody, or to a caller whose address nobody knows.
    """

    def __init__(
        self,
        name: str,
        args: FirewallArgs,
        after: Sequence[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("cloudfn:gcp:Firewall", name, {}, opts)
        inner = pulumi.ResourceOptions(parent=self, depends_on=list(after))
        gcp.compute.Firewall(
            "allow-ssh",
            project=args.project,
            name=f"{args.prefix}-allow-ssh",
            description="; ".join(port.why for port in args.ports)[:2048],
            network=args.network,
            direction="INGRESS",
            priority=_ALLOW,
            allows=[
                gcp.compute.FirewallAllowArgs(protocol=port.protocol, ports=[str(port.port)]) for port in args.ports
            ],
            source_ranges=_sources(args),
            target_tags=[args.tag],
            opts=inner,
        )
        if args.existing:
            gcp.compute.Firewall(
                "deny",
                project=args.project,
                name=f"{args.prefix}-deny",
                description="Closes machines of cloudfn to what other rules of this network let in.",
                network=args.network,
                direction="INGRESS",
                priority=_DENY,
                denies=[gcp.compute.FirewallDenyArgs(protocol="all")],
                source_ranges=[EVERYBODY],
                target_tags=[args.tag],
                opts=inner,
            )
        self.register_outputs({})


def _sources(args: FirewallArgs) -> list[str]:
    sources = []
    for source in dict.fromkeys(source for port in args.ports for source in port.sources):
        source = args.caller if source == "caller" else source
        if not source:
            raise InvalidError(
                "SSH is open to the caller's own address, and nobody said which that is.",
                hint="Use `cloudfn up`, set network.ssh_from, or `pulumi config set cloudfn:caller 203.0.113.7/32`.",
            )
        if source.endswith("/0"):
            raise InvalidError(
                f"SSH would be open to {source}, the whole internet: name addresses in network.ssh_from."
            )
        sources.append(source)
    return sources
