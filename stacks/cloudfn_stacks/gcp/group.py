"""An autoscaling group: the template of a machine, and a regional group that holds as many as it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Sequence

import pulumi
import pulumi_gcp as gcp

from cloudfn.catalogue import SPOT
from cloudfn.plan_spec import Group
from cloudfn_stacks.gcp.images import Image

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)
"""The one API that a machine calls. Tokens for the controller need no scope."""
_HYPERDISK_ONLY = ("a3-ultragpu", "a4", "a4x", "c4", "c4a", "c4d", "g4", "h4d", "m4", "n4", "x4")
"""Series without Persistent Disk: cloud.google.com/compute/docs/disks/hyperdisks ("Machine series support")."""
_ZONES_AT_MOST = 10


@dataclass(frozen=True)
class GroupArgs:
    """One group of a plan, and what its machines use.

    Attributes:
        name: of the group manager, and beginning of its machines' names.
        template_prefix: begins the names of its templates, each of which is made once and never changed.
        zones: where machines may be; empty lets Google choose among the region's.
        public: machines get an address of their own.
    """

    project: str
    name: str
    template_prefix: str
    group: Group
    image: Image
    subnet: pulumi.Input[str]
    public: bool
    tag: str
    account: pulumi.Input[str]
    zones: Sequence[str]
    labels: Mapping[str, str]


class MachineGroup(pulumi.ComponentResource):
    """Nothing but the controller changes its size, replaces a machine or moves one."""

    template: gcp.compute.InstanceTemplate
    manager: gcp.compute.RegionInstanceGroupManager

    def __init__(
        self, name: str, args: GroupArgs, after: Sequence[pulumi.Resource], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("cloudfn:gcp:MachineGroup", name, {}, opts)
        self.template = _template(name, args, pulumi.ResourceOptions(parent=self, depends_on=list(after)))
        self.manager = _manager(name, args, self.template, self)
        self.register_outputs({"name": self.manager.name})


def _template(name: str, args: GroupArgs, opts: pulumi.ResourceOptions) -> gcp.compute.InstanceTemplate:
    machine = args.group.machine
    attached = [gcp.compute.InstanceTemplateGuestAcceleratorArgs(type=machine.accelerator, count=machine.gpu_count)]
    # A group in use holds on to its template, so the new one is there before the old one goes; so the name is a prefix.
    ordered = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(delete_before_replace=False))
    return gcp.compute.InstanceTemplate(
        name,
        project=args.project,
        name_prefix=args.template_prefix,
        machine_type=machine.instance_type or machine.name,
        guest_accelerators=attached if machine.accelerator else None,
        disks=[_disk(args)],
        network_interfaces=[_interface(args)],
        scheduling=_scheduling(args.group),
        service_account=gcp.compute.InstanceTemplateServiceAccountArgs(email=args.account, scopes=list(_SCOPES)),
        shielded_instance_config=gcp.compute.InstanceTemplateShieldedInstanceConfigArgs(
            enable_secure_boot=args.image.secure_boot, enable_vtpm=True, enable_integrity_monitoring=True
        ),
        metadata={"block-project-ssh-keys": "TRUE", "enable-oslogin": "TRUE", "serial-port-enable": "FALSE"},
        tags=[args.tag],
        labels=args.labels,
        can_ip_forward=False,
        opts=ordered,
    )


def _disk(args: GroupArgs) -> gcp.compute.InstanceTemplateDiskArgs:
    return gcp.compute.InstanceTemplateDiskArgs(
        boot=True,
        auto_delete=True,
        source_image=args.image.link,
        disk_size_gb=args.group.disk_gib,
        disk_type=disk_type(args.group.machine.instance_type or args.group.machine.name),
        labels=args.labels,
    )


def disk_type(instance_type: str) -> str:
    """The balanced kind of disk that machines of a series have."""
    series = instance_type.split("-")
    names = (series[0], "-".join(series[:2]))
    return "hyperdisk-balanced" if any(name in _HYPERDISK_ONLY for name in names) else "pd-balanced"


def _interface(args: GroupArgs) -> gcp.compute.InstanceTemplateNetworkInterfaceArgs:
    address = gcp.compute.InstanceTemplateNetworkInterfaceAccessConfigArgs(network_tier="PREMIUM")
    return gcp.compute.InstanceTemplateNetworkInterfaceArgs(
        subnetwork=args.subnet,
        # Newer series have no other kind, and all the others have it.
        nic_type="GVNIC",
        access_configs=[address] if args.public else None,
    )


def _scheduling(group: Group) -> gcp.compute.InstanceTemplateSchedulingArgs:
    """A machine that stops stays stopped, until the controller takes it away. GPUs and spot machines cannot move."""
    spot = group.market == SPOT
    return gcp.compute.InstanceTemplateSchedulingArgs(
        automatic_restart=False,
        on_host_maintenance="TERMINATE" if spot or group.machine.gpu else "MIGRATE",
        preemptible=spot,
        provisioning_model="SPOT" if spot else "STANDARD",
        instance_termination_action="STOP" if spot else None,
    )


def _manager(
    name: str, args: GroupArgs, template: gcp.compute.InstanceTemplate, parent: pulumi.Resource
) -> gcp.compute.RegionInstanceGroupManager:
    return gcp.compute.RegionInstanceGroupManager(
        name,
        project=args.project,
        name=args.name,
        region=args.group.region,
        base_instance_name=args.name,
        versions=[gcp.compute.RegionInstanceGroupManagerVersionArgs(instance_template=template.self_link)],
        distribution_policy_target_shape="ANY",
        distribution_policy_zones=list(args.zones) or None,
        instance_lifecycle_policy=gcp.compute.RegionInstanceGroupManagerInstanceLifecyclePolicyArgs(
            default_action_on_failure="DO_NOTHING", force_update_on_repair="NO"
        ),
        update_policy=gcp.compute.RegionInstanceGroupManagerUpdatePolicyArgs(
            type="OPPORTUNISTIC",
            minimal_action="REPLACE",
            instance_redistribution_type="NONE",
            # Not both may be 0, and this one is 0 or at least the number of zones. No update ever adds a machine.
            max_surge_fixed=0,
            max_unavailable_fixed=_ZONES_AT_MOST,
        ),
        wait_for_instances=False,
        opts=pulumi.ResourceOptions(
            parent=parent,
            # The size is the controller's. A group's zones cannot change: a longer list would replace the group.
            ignore_changes=["targetSize", "distributionPolicyZones"],
            custom_timeouts=pulumi.CustomTimeouts(delete="30m"),
        ),
    )
