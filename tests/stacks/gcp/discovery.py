"""From what a program gives pulumi-gcp's compute resources to the body that the provider sends, and what the real
service would refuse in it: the discovery document's fields, types and enums, and rules that no document has.

An input that is not known here is a fault: nothing passes unread.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Callable, Mapping

from gcp_fake.discovery import api

Inputs = Mapping[str, Any]
Body = dict[str, Any]
BUILT_IN_GPU = ("a2", "a3", "a4", "g2", "g4")
NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
SUFFIX = "20260101000000000000000001"
"""What the provider adds to a name's prefix: the time and a counter."""


@dataclass(frozen=True)
class Kind:
    """A resource type: the schema of its body, the request that makes it, and how the inputs become the body."""

    schema: str
    method: str
    body: Callable[[Inputs], Body]


class Unread(ValueError):
    """An input that the translation does not know."""


def body(type: str, inputs: Inputs) -> Body:
    """What is sent to make it.

    Raises:
        Unread: an input, on whichever level, that nothing here knows.
    """
    return KINDS[type].body(inputs)


def faults(type: str, inputs: Inputs) -> list[str]:
    """What the real service would refuse; empty where it takes all."""
    kind = KINDS[type]
    try:
        made = kind.body(inputs)
    except Unread as error:
        return [str(error)]
    found = api("compute.v1").faults(kind.schema, made, kind.method)
    if not NAME.fullmatch(made.get("name", "")):
        found.append(f"name {made.get('name')!r} does not match {NAME.pattern}")
    return [*found, *RULES[type](made)]


def _pick(inputs: Inputs, names: Mapping[str, str], *, apart: tuple[str, ...] = ()) -> Body:
    """Inputs under the API's names.

    Args:
        apart: those that the caller handles itself, or that the provider keeps to itself.
    """
    for name in inputs:
        if name not in names and name not in apart:
            raise Unread(f"{name}: the translation to the API does not know this input")
    return {names[name]: value for name, value in inputs.items() if name in names and value is not None}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _network(inputs: Inputs) -> Body:
    made = _pick(inputs, _same("name", "description", "autoCreateSubnetworks", "mtu"), apart=("project", "routingMode"))
    if "routingMode" in inputs:
        made["routingConfig"] = {"routingMode": inputs["routingMode"]}
    return made


def _subnetwork(inputs: Inputs) -> Body:
    names = _same("name", "description", "network", "ipCidrRange", "region", "privateIpGoogleAccess", "stackType")
    return _pick(inputs, names, apart=("project",))


def _firewall(inputs: Inputs) -> Body:
    names = _same("name", "description", "network", "direction", "priority", "sourceRanges", "targetTags", "disabled")
    made = _pick(inputs, names, apart=("project", "allows", "denies"))
    for given, sent in (("allows", "allowed"), ("denies", "denied")):
        if inputs.get(given):
            made[sent] = [_pick(rule, {"protocol": "IPProtocol", "ports": "ports"}) for rule in inputs[given]]
    return made


def _template(inputs: Inputs) -> Body:
    apart = ("project", "name", "namePrefix", "disks", "guestAccelerators", "networkInterfaces", "scheduling")
    apart += ("serviceAccount", "shieldedInstanceConfig", "metadata", "tags")
    properties = _pick(inputs, _same("machineType", "labels", "canIpForward", "minCpuPlatform"), apart=apart)
    properties["disks"] = [_disk(disk) for disk in inputs.get("disks", ())]
    properties["guestAccelerators"] = [
        _pick(item, {"type": "acceleratorType", "count": "acceleratorCount"})
        for item in inputs.get("guestAccelerators") or ()
    ]
    properties["networkInterfaces"] = [_interface(item) for item in inputs.get("networkInterfaces", ())]
    properties["scheduling"] = _pick(
        inputs.get("scheduling", {}),
        _same("automaticRestart", "onHostMaintenance", "preemptible", "provisioningModel", "instanceTerminationAction"),
    )
    if "serviceAccount" in inputs:
        properties["serviceAccounts"] = [_pick(inputs["serviceAccount"], _same("email", "scopes"))]
    if "shieldedInstanceConfig" in inputs:
        names = _same("enableSecureBoot", "enableVtpm", "enableIntegrityMonitoring")
        properties["shieldedInstanceConfig"] = _pick(inputs["shieldedInstanceConfig"], names)
    items = [{"key": key, "value": value} for key, value in sorted(inputs.get("metadata", {}).items())]
    properties["metadata"] = {"items": items}
    properties["tags"] = {"items": list(inputs.get("tags", ()))}
    return {"name": inputs.get("name") or f"{inputs.get('namePrefix', '')}{SUFFIX}", "properties": properties}


def _disk(inputs: Inputs) -> Body:
    inner = {"sourceImage": "sourceImage", "diskType": "diskType", "labels": "labels", "diskSizeGb": "diskSizeGb"}
    made = _pick(inputs, _same("boot", "autoDelete", "deviceName", "mode"), apart=tuple(inner))
    made["initializeParams"] = _pick({key: inputs[key] for key in inner if key in inputs}, inner)
    return made


def _interface(inputs: Inputs) -> Body:
    made = _pick(inputs, _same("network", "subnetwork", "nicType", "stackType"), apart=("accessConfigs",))
    if inputs.get("accessConfigs"):
        made["accessConfigs"] = [
            {"type": "ONE_TO_ONE_NAT", **_pick(item, _same("networkTier"))} for item in inputs["accessConfigs"]
        ]
    return made


def _manager(inputs: Inputs) -> Body:
    apart = ("project", "versions", "distributionPolicyTargetShape", "distributionPolicyZones", "updatePolicy")
    apart += ("instanceLifecyclePolicy", "waitForInstances", "targetSize")
    made = _pick(inputs, _same("name", "baseInstanceName", "description", "region"), apart=apart)
    made["versions"] = [_pick(item, _same("name", "instanceTemplate")) for item in inputs.get("versions", ())]
    made["targetSize"] = inputs.get("targetSize", 0)  # the provider always sends one
    made["distributionPolicy"] = {
        "targetShape": inputs.get("distributionPolicyTargetShape", "EVEN"),
        "zones": [{"zone": f"zones/{zone}"} for zone in inputs.get("distributionPolicyZones") or ()],
    }
    names = _same("defaultActionOnFailure", "forceUpdateOnRepair", "onFailedHealthCheck")
    made["instanceLifecyclePolicy"] = _pick(inputs.get("instanceLifecyclePolicy", {}), names)
    given = inputs.get("updatePolicy", {})
    names = _same("type", "minimalAction", "instanceRedistributionType", "replacementMethod")
    made["updatePolicy"] = _pick(given, names, apart=("maxSurgeFixed", "maxUnavailableFixed"))
    # The provider sends 0 for what nobody gave.
    made["updatePolicy"]["maxSurge"] = {"fixed": given.get("maxSurgeFixed", 0)}
    made["updatePolicy"]["maxUnavailable"] = {"fixed": given.get("maxUnavailableFixed", 0)}
    return made


# -- rules that no document has; each from the product's own pages -----------------------------------------------------


def _no_rules(made: Body) -> list[str]:
    return []


def _subnetwork_rules(made: Body) -> list[str]:
    try:
        block = ipaddress.ip_network(made.get("ipCidrRange", ""))
    except ValueError as error:
        return [f"ipCidrRange: {error}"]
    return [] if block.is_private and block.prefixlen <= 29 else [f"ipCidrRange: {block} is no private range"]


def _firewall_rules(made: Body) -> list[str]:
    found = []
    if ("allowed" in made) == ("denied" in made):
        found.append("a firewall rule either allows or denies")
    for item in made.get("sourceRanges", ()):
        try:
            ipaddress.ip_network(item)
        except ValueError as error:
            found.append(f"sourceRanges: {error}")
    if len({ipaddress.ip_network(item, strict=False).version for item in made.get("sourceRanges", ())}) > 1:
        found.append("sourceRanges: IPv4 and IPv6 need a rule each")
    if not 0 <= made.get("priority", 1000) <= 65535:
        found.append("priority: 0 to 65535")
    return found


def _template_rules(made: Body) -> list[str]:
    properties = made["properties"]
    family = properties.get("machineType", "").partition("-")[0]
    attached = properties["guestAccelerators"]
    scheduling = properties["scheduling"]
    found = []
    if attached and family != "n1":
        found.append(f"guestAccelerators: {family} takes none of them: its GPUs are built in")
    if (attached or family in BUILT_IN_GPU) and scheduling.get("onHostMaintenance") != "TERMINATE":
        found.append("scheduling.onHostMaintenance: a machine with GPUs must TERMINATE")
    if scheduling.get("provisioningModel") == "SPOT":
        if scheduling.get("automaticRestart", True) or not scheduling.get("preemptible"):
            found.append("scheduling: a spot machine is preemptible, and is not restarted")
        if scheduling.get("onHostMaintenance") != "TERMINATE":
            found.append("scheduling.onHostMaintenance: a spot machine must TERMINATE")
    elif "instanceTerminationAction" in scheduling:
        found.append("scheduling.instanceTerminationAction: for spot machines only")
    return [*found, *_disk_rules(properties), *_label_rules(properties.get("labels", {}))]


def _disk_rules(properties: Body) -> list[str]:
    found = []
    machine = properties.get("machineType", "")
    only_hyperdisk = machine.startswith(("a3-ultragpu", "a4-", "c4-", "c4a-", "g4-", "n4-"))
    boot = [disk for disk in properties["disks"] if disk.get("boot")]
    if len(boot) != 1:
        found.append("disks: exactly one boots")
    for disk in properties["disks"]:
        kind = disk["initializeParams"].get("diskType", "")
        if kind.startswith("hyperdisk") != only_hyperdisk:
            found.append(f"disks: {machine} has no {kind} as a boot disk")
        found += _label_rules(disk["initializeParams"].get("labels", {}))
    return found


def _label_rules(labels: Mapping[str, str]) -> list[str]:
    wrong = [k for k, v in labels.items() if not LABEL_KEY.fullmatch(k) or not LABEL_VALUE.fullmatch(v)]
    return [f"labels: {key} = {labels[key]!r} is not allowed" for key in wrong]


def _manager_rules(made: Body) -> list[str]:
    found = []
    policy = made["updatePolicy"]
    if made["distributionPolicy"]["targetShape"] != "EVEN" and policy.get("instanceRedistributionType") != "NONE":
        found.append("distributionPolicy: another shape than EVEN needs instanceRedistributionType NONE")
    surge, unavailable = policy["maxSurge"]["fixed"], policy["maxUnavailable"]["fixed"]
    if not surge and not unavailable:
        found.append("updatePolicy: maxSurge and maxUnavailable cannot both be 0")
    least = len(made["distributionPolicy"]["zones"]) or 3
    found += [
        f"updatePolicy: {n} is neither 0 nor at least {least} zones" for n in (surge, unavailable) if 0 < n < least
    ]
    if not re.fullmatch(r"[a-z](?:[-a-z0-9]{0,56}[a-z0-9])?", made.get("baseInstanceName", "")):
        found.append(f"baseInstanceName {made.get('baseInstanceName')!r}: 58 characters at most")
    return found


KINDS: Mapping[str, Kind] = {
    "gcp:compute/network:Network": Kind("Network", "compute.networks.insert", _network),
    "gcp:compute/subnetwork:Subnetwork": Kind("Subnetwork", "compute.subnetworks.insert", _subnetwork),
    "gcp:compute/firewall:Firewall": Kind("Firewall", "compute.firewalls.insert", _firewall),
    "gcp:compute/instanceTemplate:InstanceTemplate": Kind(
        "InstanceTemplate", "compute.instanceTemplates.insert", _template
    ),
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": Kind(
        "InstanceGroupManager", "compute.regionInstanceGroupManagers.insert", _manager
    ),
}
RULES: Mapping[str, Callable[[Body], list[str]]] = {
    "gcp:compute/network:Network": _no_rules,
    "gcp:compute/subnetwork:Subnetwork": _subnetwork_rules,
    "gcp:compute/firewall:Firewall": _firewall_rules,
    "gcp:compute/instanceTemplate:InstanceTemplate": _template_rules,
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": _manager_rules,
}
