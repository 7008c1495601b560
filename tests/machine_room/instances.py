"""EC2 as it behaves: each of moto's instances is a machine that boots, and what happens to one happens to the other."""

from __future__ import annotations

import base64
import copy
import datetime
import threading
from pathlib import Path
from typing import Any

import pytest
from moto.autoscaling.models import ASG_NAME_TAG
from moto.core import DEFAULT_ACCOUNT_ID
from moto.ec2.models.instances import Instance, StateReason

from machine_room import metadata
from machine_room.activities import Refusal
from machine_room.cloud_clock import CloudClock
from machine_room.events import Events
from machine_room.faults import Faults
from machine_room.groups import Groups
from machine_room.identity import Keys, Notary, Principal
from machine_room.machine import Machine
from machine_room.metadata import Metadata, Tree
from machine_room.network import Network

_STATES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}
SSH = 22
_SHUTDOWN = 20.0
"""Seconds that EC2 leaves a machine to shut down; it does not say how many, minutes in fact."""


class Instances:
    """Plays EC2 for the machines of all groups.

    Attributes:
        groups: set once, before the first launch.
        machines: by instance ID; a machine stays until the room closes, for its logs.
    """

    groups: Groups

    def __init__(
        self,
        root: Path,
        folder: Path,
        network: Network,
        imds: Metadata,
        keys: Keys,
        events: Events,
        faults: Faults,
        clock: CloudClock,
    ) -> None:
        self._root, self._folder, self._clock = root, folder, clock
        self._network, self._imds, self._keys, self._events, self.faults = network, imds, keys, events, faults
        self.notary = Notary()
        self.machines: dict[str, Machine] = {}
        self._instances: dict[str, Instance] = {}
        self._held: dict[str, Principal] = {}
        self._ends: dict[str, float] = {}
        self._patches = pytest.MonkeyPatch()
        self._known_terminate = Instance.terminate
        self._install()

    def _install(self) -> None:
        mine = self

        def terminate(instance: Instance) -> Any:
            return mine._end(instance, "shutting-down")

        def stop(instance: Instance) -> Any:
            return mine._end(instance, "stopping")

        self._patches.setattr(Instance, "terminate", terminate)
        self._patches.setattr(Instance, "stop", stop)

    def close(self) -> None:
        self._patches.undo()
        for machine in list(self.machines.values()):
            machine.close()

    def find(self, instance: str) -> Instance:
        return self._instances[instance]

    def all(self) -> list[Instance]:
        return list(self._instances.values())

    def seconds(self, instance: str) -> tuple[float, float]:
        """When it began to cost, and when it ended (0.0: not yet); whole seconds since the epoch, as EC2 bills."""
        started = self._instances[instance].launch_time.replace(tzinfo=datetime.timezone.utc)
        return started.timestamp(), self._ends.get(instance, 0.0)

    # -- what groups ask for -----------------------------------------------------------------------------------------

    def refusal(self, group: Any, zone: str) -> Refusal | None:
        return self.faults.refusal(group.name, group.instance_type, zone, _is_spot(group))

    def launch(self, group: Any) -> Instance:
        data = _template(group)
        subnets = group.vpc_zone_identifier.split(",") if group.vpc_zone_identifier else [None]
        subnet = subnets[len(self._instances) % len(subnets)]
        interfaces = data.get("NetworkInterfaces") or [{}]
        reservation = group.ec2_backend.run_instances(
            group.image_id,
            1,
            group.user_data,
            [],
            security_group_ids=list(interfaces[0].get("Groups") or []),
            instance_type=group.instance_type,
            tags={
                "instance": {
                    **group.get_propagated_tags(),
                    **group.instance_tags,
                    ASG_NAME_TAG: group.name,
                }
            },
            launch_template={
                "LaunchTemplateId": group.ec2_launch_template.id,
                "Version": group.launch_template_version,
            },
            is_instance_type_default=False,
            associate_public_ip=True,
            subnet_id=subnet,
            region_name=group.region,
            instance_market_options=data.get("InstanceMarketOptions", {}).get("MarketType"),
            instance_initiated_shutdown_behavior=data.get("InstanceInitiatedShutdownBehavior"),
            metadata_options=data.get("MetadataOptions"),
        )
        instance: Instance = reservation.instances[0]
        instance.launch_time = self._clock.datetime().replace(microsecond=0, tzinfo=None)
        _set(instance, "pending")
        if profile := data.get("IamInstanceProfile"):
            name = profile.get("Name") or profile["Arn"].rpartition("/")[2]
            group.ec2_backend.associate_iam_instance_profile(instance.id, iam_instance_profile_name=name)
        link = self._network.attach()
        if not _lets_in(instance, SSH):
            link.shut(SSH)
        nic = instance.nics[0]
        nic.private_ip_address = link.address
        nic.delete_on_termination = True  # as the launch template says
        if interfaces[0].get("AssociatePublicIpAddress", True):
            nic.public_ip = link.address
        instance.autoscaling_group = group  # type: ignore[attr-defined]
        self._instances[instance.id] = instance
        machine = Machine(instance.id, self._root, self._folder / instance.id, link, lambda: self._ended(instance))
        self.machines[instance.id] = machine
        threading.Thread(target=self._boot, args=(instance, machine, data), name=f"boot-{instance.id}").start()
        return instance

    def terminate(self, instance: Instance) -> None:
        self._end(instance, "shutting-down")

    # -- an instance's life ------------------------------------------------------------------------------------------

    def _boot(self, instance: Instance, machine: Machine, data: dict[str, Any]) -> None:
        user_data = data.get("UserData") or ""
        self._imds.serve(
            machine.link.address,
            self._tree(instance, machine),
            instance.metadata_options.http_put_response_hop_limit,
            base64.b64decode(str(user_data)),
        )
        number = instance.id.replace("i-", "ec2").ljust(36, "0")
        files = {
            # What EC2's firmware says: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/identify_ec2_instances.html
            "/etc/machine-room/dmi/system-uuid": number,
            "/etc/machine-room/dmi/system-serial-number": number,
            "/etc/hostname": f"{instance.id}\n",
            "/etc/systemd/journald.conf.d/room.conf": "[Journal]\nStorage=persistent\n",  # outlives it, see `keep_logs`
            "/etc/resolv.conf": "# no name server\n",
            "/etc/hosts": f"127.0.0.1 localhost\n{machine.link.address} {instance.id}\n",
            **self.faults.files(instance.autoscaling_group.name),  # type: ignore[attr-defined]
        }
        machine.boot(files, self.faults.disk_mib)
        with self.groups.lock:
            if instance.state == "pending":
                _set(instance, "running")
            ends = instance.state != "running"
        if ends:  # it was told to go before it was there
            machine.power_off()
        self.groups.touch()

    def _end(self, instance: Instance, state: str) -> Any:
        """Begins to end it; a thread of its own does the rest."""
        with self.groups.lock:
            before = copy.copy(instance._state)
            if instance.state in ("terminated", "shutting-down") or (instance.state, state) == ("stopped", "stopping"):
                return before
            was_off = instance.state == "stopped"
            _set(instance, state)
            self._costs_no_more(instance)
        self._events.add(state, instance.id)
        self.faults.unseen.discard(instance.id)
        machine = self.machines[instance.id]
        if was_off or machine.ended.is_set():
            self._ended(instance)
        else:
            threading.Thread(target=machine.power_off, args=(_SHUTDOWN,), name=f"off-{instance.id}").start()
        return before

    def _ended(self, instance: Instance) -> None:
        """Its machine is off, whoever did it."""
        with self.groups.lock:
            if instance.state in ("terminated", "stopped") or instance.id in self.faults.unseen:
                return
            stops = instance.state == "stopping" or (
                instance.state in ("pending", "running") and instance.instance_initiated_shutdown_behavior == "stop"
            )
            reason = instance.state_reason
            if stops:
                _set(instance, "stopped")
            else:
                self._known_terminate(instance)
                if reason.message:
                    instance.state_reason = reason
            self._costs_no_more(instance)
        machine = self.machines[instance.id]
        self._imds.forget(machine.link.address)
        self._events.add("stopped" if stops else "terminated", instance.id)
        machine.release()
        self.groups.touch()

    def _costs_no_more(self, instance: Instance) -> None:
        now = self._ends.setdefault(instance.id, float(int(self._clock.now())))
        stamp = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
        instance._reason = f"User initiated ({stamp:%Y-%m-%d %H:%M:%S} GMT)"

    def lose(self, instance: str, seen: bool) -> None:
        """kill -9 of the whole machine.

        Args:
            seen: EC2 knows at once; else it goes on to say "running", as it does for a while when a host dies.
        """
        found = self._instances[instance]
        if not seen:
            self.faults.unseen.add(instance)
        else:
            found.state_reason = StateReason("Server.InternalError: Internal error on launch", "Server.InternalError")
            found.instance_initiated_shutdown_behavior = "terminate"
        self._events.add("killed", instance, seen=seen)
        self.machines[instance].kill()

    # -- its metadata ------------------------------------------------------------------------------------------------

    def credentials(self, instance: Instance) -> Principal | None:
        """What its role gives it; made anew when less than five minutes are left."""
        association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
        if association is None:
            return None
        role = next(iter(association.iam_instance_profile.roles))
        with self.groups.lock:
            held = self._held.get(instance.id)
            now = datetime.datetime.now(datetime.timezone.utc)
            held = self._keys.find(held.access_key) if held else None
            if held is None or held.expires is None or held.expires - now < datetime.timedelta(minutes=5):
                held = self._held[instance.id] = self._keys.role(role.arn, instance.id, 6 * 3600)
            return held

    def _tree(self, instance: Instance, machine: Machine) -> Tree:
        zone = str(instance.placement.zone)
        region = instance.ec2_backend.region_name
        document = metadata.as_json(
            {
                "accountId": DEFAULT_ACCOUNT_ID,
                "architecture": "x86_64",
                "availabilityZone": zone,
                "billingProducts": None,
                "devpayProductCodes": None,
                "imageId": instance.image_id,
                "instanceId": instance.id,
                "instanceType": instance.instance_type,
                "kernelId": None,
                "marketplaceProductCodes": None,
                "pendingTime": instance.launch_time.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "privateIp": machine.link.address,
                "ramdiskId": None,
                "region": region,
                "version": "2017-09-30",
            }
        )
        association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
        return {
            "dynamic": {
                "instance-identity": {
                    "document": document,
                    "rsa2048": lambda: self.notary.rsa2048(document),
                    "signature": lambda: self.notary.signature(document),
                }
            },
            "meta-data": {
                "ami-id": instance.image_id,
                "autoscaling": {
                    "target-lifecycle-state": lambda: {"InService": "InService", "Pending": "InService"}.get(
                        self.groups.lifecycle_state(instance.id).partition(":")[0], "Terminated"
                    )
                },
                "events": {
                    "recommendations": {"rebalance": metadata.comes_and_goes(lambda: self._rebalance(instance.id))}
                },
                "hostname": instance.private_dns_name,
                "iam": self._iam(instance, association) if association else None,
                "instance-action": "none",
                "instance-id": instance.id,
                "instance-life-cycle": "spot" if instance.lifecycle == "spot" else "on-demand",
                "instance-type": instance.instance_type,
                "local-hostname": instance.private_dns_name,
                "local-ipv4": machine.link.address,
                "mac": machine.link.mac,
                "network": {"interfaces": {"macs": {machine.link.mac: _interface(instance, machine)}}},
                "placement": {
                    "availability-zone": zone,
                    "availability-zone-id": _zone_id(instance, zone),
                    "region": region,
                },
                "public-ipv4": metadata.comes_and_goes(lambda: instance.public_ip or None),
                "reservation-id": "r-room",
                "security-groups": "\n".join(group.name for group in instance.security_groups),
                "services": {"domain": "amazonaws.com", "partition": "aws"},
                "spot": {"instance-action": metadata.comes_and_goes(lambda: self._action(instance.id))},
            },
        }

    def _iam(self, instance: Instance, association: Any) -> Tree:
        profile = association.iam_instance_profile
        role = next(iter(profile.roles))

        def keys() -> str | None:
            held = self.credentials(instance)
            if held is None or held.expires is None:
                return None
            stamp = "%Y-%m-%dT%H:%M:%SZ"
            return metadata.as_json(
                {
                    "Code": "Success",
                    "LastUpdated": datetime.datetime.now(datetime.timezone.utc).strftime(stamp),
                    "Type": "AWS-HMAC",
                    "AccessKeyId": held.access_key,
                    "SecretAccessKey": held.secret,
                    "Token": held.token,
                    "Expiration": held.expires.strftime(stamp),
                }
            )

        info = {"Code": "Success", "InstanceProfileArn": profile.arn, "InstanceProfileId": profile.id}
        return {"info": metadata.as_json(info), "security-credentials": {role.name: keys}}

    def _action(self, instance: str) -> str | None:
        at = self.faults.reclaims.get(instance)
        return metadata.as_json({"action": "terminate", "time": at.strftime("%Y-%m-%dT%H:%M:%SZ")}) if at else None

    def _rebalance(self, instance: str) -> str | None:
        at = self.faults.rebalances.get(instance)
        return metadata.as_json({"noticeTime": at.strftime("%Y-%m-%dT%H:%M:%SZ")}) if at else None


def _template(group: Any) -> dict[str, Any]:
    version = group.ec2_launch_template.get_version(group.launch_template_version)
    data: dict[str, Any] = version.data
    return data


def _lets_in(instance: Instance, port: int) -> bool:
    """Whether its security groups have a rule for a TCP port. From where is not looked at: rooms have one caller."""
    rules = [rule for group in instance.security_groups for rule in group.ingress_rules]
    return any(rule.ip_protocol == "-1" or int(rule.from_port or 0) <= port <= int(rule.to_port or 0) for rule in rules)


def _is_spot(group: Any) -> bool:
    market = _template(group).get("InstanceMarketOptions") or {}
    return bool(market.get("MarketType") == "spot")


def _interface(instance: Instance, machine: Machine) -> Tree:
    return {
        "device-number": "0",
        "local-hostname": instance.private_dns_name,
        "local-ipv4s": machine.link.address,
        "mac": machine.link.mac,
        "subnet-id": instance.subnet_id,
        "vpc-id": instance.vpc_id,
    }


def _zone_id(instance: Instance, zone: str) -> str:
    zones = instance.ec2_backend.describe_availability_zones()
    return next((found.zone_id for found in zones if found.name == zone), "use1-az1")


def _set(instance: Instance, state: str) -> None:
    instance._state.name, instance._state.code = state, _STATES[state]
