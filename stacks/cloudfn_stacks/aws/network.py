"""A network whose idleness is free: public subnets, no NAT."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

BLOCK = "10.0.0.0/16"
"""Of the network: 16 subnets of 4,091 machines. Networks are never joined, so each may have it."""


@dataclass(frozen=True)
class NetworkArgs:
    """A new network.

    Attributes:
        prefix: begins its name.
        region: where.
        zones: IDs of the zones that get a subnet each ("use1-az1").
        bucket_endpoint: gives it the free way to buckets of the region.
    """

    prefix: str
    region: str
    zones: tuple[str, ...]
    bucket_endpoint: bool


class Network(pulumi.ComponentResource):
    """A VPC with a public subnet in every zone.

    Attributes:
        id: of the VPC.
        subnets: their IDs.
        ready: what must be there before a machine can reach anything.
    """

    id: pulumi.Output[str]
    subnets: list[pulumi.Output[str]]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Network", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        tags = {"Name": args.prefix}
        vpc = aws.ec2.Vpc(
            name, cidr_block=BLOCK, enable_dns_support=True, enable_dns_hostnames=True, tags=tags, opts=mine
        )
        gateway = aws.ec2.InternetGateway(name, vpc_id=vpc.id, tags=tags, opts=mine)
        table = aws.ec2.RouteTable(name, vpc_id=vpc.id, tags=tags, opts=mine)
        out = aws.ec2.Route(
            name, route_table_id=table.id, destination_cidr_block="0.0.0.0/0", gateway_id=gateway.id, opts=mine
        )
        self.id = vpc.id
        self.subnets = []
        self.ready = [out]
        for zone in args.zones:
            subnet = aws.ec2.Subnet(
                f"subnet-{args.region}-{zone}",
                vpc_id=vpc.id,
                availability_zone_id=zone,
                # By the zone's own number, so a zone more changes no other subnet.
                cidr_block=f"10.0.{16 * int(zone.rpartition('-az')[2])}.0/20",
                map_public_ip_on_launch=True,
                tags={"Name": f"{args.prefix}-{zone}"},
                opts=mine,
            )
            routes = aws.ec2.RouteTableAssociation(
                f"subnet-{args.region}-{zone}", subnet_id=subnet.id, route_table_id=table.id, opts=mine
            )
            self.subnets.append(subnet.id)
            self.ready.append(routes)
        if args.bucket_endpoint:
            aws.ec2.VpcEndpoint(
                "bucket-endpoint",
                vpc_id=vpc.id,
                service_name=f"com.amazonaws.{args.region}.s3",
                vpc_endpoint_type="Gateway",
                route_table_ids=[table.id],
                tags=tags,
                opts=mine,
            )
        self.register_outputs({"id": self.id})
