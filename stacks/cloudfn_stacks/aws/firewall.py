"""The firewall of machines."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloudfn.plan_spec import Port

CALLER = "caller"
"""In place of an address that is known at `up` only; then it is the stack's configuration `cloudfn:caller`."""


@dataclass(frozen=True)
class FirewallArgs:
    """A firewall in one network.

    Attributes:
        prefix: begins its physical name.
        ports: that are open, and to whom; none: nothing can come in.
    """

    prefix: str
    region: str
    network: pulumi.Input[str]
    ports: tuple[Port, ...]


class Firewall(pulumi.ComponentResource):
    """Machines may reach anything; they are reached on the plan's ports only.

    Attributes:
        id: of the security group.
        out: the rule that lets machines reach anything.
    """

    id: pulumi.Output[str]
    out: aws.vpc.SecurityGroupEgressRule

    def __init__(self, name: str, args: FirewallArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Firewall", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        group = aws.ec2.SecurityGroup(
            name,
            name=f"{args.prefix}-machines",
            # A change of this text would replace the firewall, which fails while a machine stands behind it.
            description="cloudfn machines",
            vpc_id=args.network,
            tags={"Name": f"{args.prefix}-machines"},
            opts=mine,
        )
        self.id = group.id
        self.out = aws.vpc.SecurityGroupEgressRule(
            name,
            security_group_id=group.id,
            description="machines may reach anything",
            ip_protocol="-1",
            cidr_ipv4="0.0.0.0/0",
            opts=mine,
        )
        for port in args.ports:
            for index, source in enumerate(port.sources):
                aws.vpc.SecurityGroupIngressRule(
                    f"{port.protocol}-{port.port}-{index}-{args.region}",
                    security_group_id=group.id,
                    description=port.why,
                    ip_protocol=port.protocol,
                    from_port=port.port,
                    to_port=port.port,
                    cidr_ipv4=_block(source),
                    opts=mine,
                )
        self.register_outputs({"id": self.id})


def _block(source: str) -> str:
    return pulumi.Config("cloudfn").require(CALLER) if source == CALLER else source
