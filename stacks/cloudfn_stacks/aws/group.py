"""A group of machines: how one is made, and how many there may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_aws as aws

from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Group

ROOT_DEVICE = "/dev/sda1"
"""Of Ubuntu's images, and so of all defaults."""
LAUNCH_TIMEOUT = 900
"""Seconds that a machine may take to say that it is ready; then it is ended."""
TERMINATE_TIMEOUT = 900
"""Seconds that a machine may take to finish its work without a sign of life."""


@dataclass(frozen=True)
class GroupArgs:
    """A group of the plan, and what it stands on.

    Attributes:
        image: as launch templates name it, see `images`.
        profile: ARN of the instance profile.
        tags: default tags of a provider reach neither machines nor groups, so they are given here.
        public: machines get a public address.
        user_data: what machines are told, in base64.
    """

    group: Group
    prefix: str
    image: str
    profile: pulumi.Input[str]
    firewall: pulumi.Input[str]
    subnets: Sequence[pulumi.Input[str]]
    tags: Mapping[str, str]
    public: bool
    user_data: pulumi.Input[str]


class MachineGroup(pulumi.ComponentResource):
    """None until the controller asks for one. The group never replaces, moves or ends a machine by itself.

    Attributes:
        group: the Auto Scaling group.
        template: its launch template.
    """

    group: aws.autoscaling.Group
    template: aws.ec2.LaunchTemplate

    def __init__(self, name: str, args: GroupArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:MachineGroup", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        tags = {**args.tags, "Name": f"{args.prefix}-{name}", "cloudfn:group": name}
        self.template = _template(name, args, tags, mine)
        self.group = aws.autoscaling.Group(
            name,
            name=f"{args.prefix}-{name}",
            min_size=0,
            max_size=args.group.max_machines,
            vpc_zone_identifiers=list(args.subnets),
            # By number: a new version makes new machines only, and the group stays what it is.
            launch_template=aws.autoscaling.GroupLaunchTemplateArgs(
                id=self.template.id, version=self.template.latest_version.apply(str)
            ),
            suspended_processes=["ReplaceUnhealthy", "AZRebalance"],
            health_check_type="EC2",
            protect_from_scale_in=True,
            wait_for_capacity_timeout="0",
            tags=[
                aws.autoscaling.GroupTagArgs(key=key, value=value, propagate_at_launch=False)
                for key, value in tags.items()
            ],
            # The desired size is the controller's.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["desiredCapacity"]),
        )
        _hook(f"{name}-launch", "autoscaling:EC2_INSTANCE_LAUNCHING", "ABANDON", LAUNCH_TIMEOUT, self.group, mine)
        _hook(
            f"{name}-terminate", "autoscaling:EC2_INSTANCE_TERMINATING", "CONTINUE", TERMINATE_TIMEOUT, self.group, mine
        )
        self.register_outputs({"name": self.group.name})


def _template(
    name: str, args: GroupArgs, tags: Mapping[str, str], opts: pulumi.ResourceOptions
) -> aws.ec2.LaunchTemplate:
    group = args.group
    spot = aws.ec2.LaunchTemplateInstanceMarketOptionsArgs(
        market_type="spot",
        # What Auto Scaling asks for; without a price of ours, the on-demand price is the most.
        spot_options=aws.ec2.LaunchTemplateInstanceMarketOptionsSpotOptionsArgs(spot_instance_type="one-time"),
    )
    tagged = ["instance", "volume", "network-interface"]
    tagged += ["spot-instances-request"] if group.market == SPOT else []
    return aws.ec2.LaunchTemplate(
        name,
        name=f"{args.prefix}-{name}",
        description=f"cloudfn: {group.machine.name}, {group.market}",
        image_id=args.image,
        user_data=args.user_data,
        instance_type=group.machine.instance_type or group.machine.name,
        instance_market_options=spot if group.market == SPOT else None,
        # A machine that nobody answers powers itself off; stopped, its disk would still cost.
        instance_initiated_shutdown_behavior="terminate",
        iam_instance_profile=aws.ec2.LaunchTemplateIamInstanceProfileArgs(arn=args.profile),
        metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
            http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
        ),
        block_device_mappings=[
            aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                device_name=ROOT_DEVICE,
                ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                    volume_type="gp3", volume_size=group.disk_gib, encrypted="true", delete_on_termination="true"
                ),
            )
        ],
        network_interfaces=[
            aws.ec2.LaunchTemplateNetworkInterfaceArgs(
                device_index=0,
                associate_public_ip_address="true" if args.public else "false",
                delete_on_termination="true",
                security_groups=[args.firewall],
            )
        ],
        tag_specifications=[
            aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags) for kind in tagged
        ],
        update_default_version=True,
        opts=opts,
    )


def _hook(
    name: str, transition: str, result: str, timeout: int, group: aws.autoscaling.Group, opts: pulumi.ResourceOptions
) -> None:
    aws.autoscaling.LifecycleHook(
        name,
        name=name.rpartition("-")[2],
        autoscaling_group_name=group.name,
        lifecycle_transition=transition,
        default_result=result,
        heartbeat_timeout=timeout,
        opts=opts,
    )
