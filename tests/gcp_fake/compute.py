"""What Compute Engine does beyond keeping what it was given: references, rules between fields, and groups that make and
end instances.

Rules and their sources: names are RFC 1035 (every resource's reference page); a GPU machine cannot migrate live, so
`onHostMaintenance` must be TERMINATE (docs "GPU restrictions"); a spot machine neither migrates nor restarts by itself
(docs "Spot VMs"); the target shape ANY takes no proactive redistribution (docs "Set a target distribution shape").
"""

from __future__ import annotations

import ipaddress
import re
import secrets
from typing import Any, Mapping

from gcp_fake import errors
from gcp_fake.store import Body, Store

_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
# Fields that name another resource which has to exist.
_REFERENCES = {"network", "subnetwork", "instanceTemplate", "region", "zone", "sourceImage", "resourcePolicies"}

REGIONS: Mapping[str, str] = {"us-central1": "abcf", "us-east1": "bcd", "europe-west4": "abc", "europe-west1": "bcd"}
GPUS = (
    "nvidia-tesla-t4",
    "nvidia-tesla-v100",
    "nvidia-l4",
    "nvidia-tesla-a100",
    "nvidia-a100-80gb",
    "nvidia-h100-80gb",
)
QUOTAS = {"CPUS": 500, "NVIDIA_T4_GPUS": 8, "PREEMPTIBLE_NVIDIA_T4_GPUS": 8, "NVIDIA_L4_GPUS": 4, "NVIDIA_V100_GPUS": 0}


class Compute:
    """Compute Engine of one project.

    Attributes:
        stock_outs: (zone, accelerator or machine type) of which there is none left.
        ending: how often an instance that ends is still listed, as DELETING.
    """

    def __init__(self, store: Store, project: str) -> None:
        self.store = store
        self.root = f"compute/projects/{project}"
        self.stock_outs: set[tuple[str, str]] = set()
        self.ending = 0
        self.errors: dict[str, list[Body]] = {}
        for region, letters in REGIONS.items():
            quotas = [{"metric": name, "limit": limit, "usage": 0} for name, limit in QUOTAS.items()]
            zones = [f"{region}-{letter}" for letter in letters]
            self._seed(f"regions/{region}", quotas=quotas, zones=[self._link(f"zones/{z}") for z in zones], status="UP")
            for zone in zones:
                self._seed(f"zones/{zone}", region=self._link(f"regions/{region}"), status="UP")
                for gpu in GPUS:
                    self._seed(f"zones/{zone}/acceleratorTypes/{gpu}", zone=zone)
        self._seed("", quotas=[{"metric": "GPUS_ALL_REGIONS", "limit": 16, "usage": 0}])

    def add_machine_types(self, names: list[str]) -> None:
        """Offer these in every zone."""
        for zone in [key for key in self.store.resources if re.fullmatch(rf"{self.root}/zones/[^/]+", key)]:
            for name in names:
                self._seed(f"{zone[len(self.root) + 1 :]}/machineTypes/{name}", zone=zone.rpartition("/")[2])

    def withdraw(self, zone: str, kind: str, name: str) -> None:
        """A zone does not offer a "machineTypes" or "acceleratorTypes" any more."""
        del self.store.resources[f"{self.root}/zones/{zone}/{kind}/{name}"]

    def _seed(self, path: str, **body: Any) -> None:
        key = f"{self.root}/{path}".rstrip("/")
        self.store.resources[key] = {"name": key.rpartition("/")[2], "selfLink": self._link(path), **body}

    def _link(self, path: str) -> str:
        return f"https://www.googleapis.com/compute/v1/{self.root.partition('/')[2]}/{path}".rstrip("/")

    # -- rules ---------------------------------------------------------------------------------------------------

    def before_create(self, key: str, body: Body) -> None:
        """Raises `Refused` where the real service would."""
        if not _NAME.fullmatch(str(body.get("name", ""))):
            raise errors.invalid(f"name {body.get('name')!r} must match {_NAME.pattern}")
        self.check(key, body)
        kind = key.split("/")[-1]
        if kind == "subnetworks":
            self._check_range(key, body)
        elif kind == "instanceTemplates":
            _check_template(body.get("properties", {}))
        elif kind == "instanceGroupManagers":
            self._check_group(body)
            body.setdefault("targetSize", 0)
            body.setdefault("baseInstanceName", body["name"])

    def check(self, key: str, body: Body) -> None:
        """References and labels, of a new body or of a change."""
        for name, value in body.items():
            if name == "labels":
                _check_labels(value)
            elif name in _REFERENCES and isinstance(value, str) and "/images/" not in value:
                self._resolve(value)
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict) and name not in ("labels", "metadata"):
                    self.check(key, inner)

    def _resolve(self, link: str) -> Body:
        path = link.partition("compute/v1/")[2] or link
        path = path if path.startswith("projects/") else f"{self.root.partition('/')[2]}/{path}"
        if f"compute/{path}" not in self.store.resources:
            raise errors.not_found(path)
        return self.store.resources[f"compute/{path}"]

    def _check_range(self, key: str, body: Body) -> None:
        try:
            mine = ipaddress.ip_network(body.get("ipCidrRange", ""))
        except ValueError:
            raise errors.invalid(f"ipCidrRange {body.get('ipCidrRange')!r}") from None
        for path, other in self.store.resources.items():
            if "/subnetworks/" not in path or _last(other["network"]) != _last(body["network"]):
                continue
            if mine.overlaps(ipaddress.ip_network(other["ipCidrRange"])):
                raise errors.invalid(f"ipCidrRange {mine} conflicts with subnetwork {other['name']}")

    def _check_group(self, body: Body) -> None:
        policy = body.get("updatePolicy", {})
        shape = body.get("distributionPolicy", {}).get("targetShape", "EVEN")
        if shape != "EVEN" and policy.get("instanceRedistributionType", "PROACTIVE") != "NONE":
            raise errors.invalid(f"target shape {shape} needs instanceRedistributionType NONE")
        template = self._resolve(body.get("instanceTemplate") or body["versions"][0]["instanceTemplate"])
        for zone in body.get("distributionPolicy", {}).get("zones", []):
            self._resolve(zone["zone"])
            for accelerator in template["properties"].get("guestAccelerators", []):
                kind = _last(accelerator["acceleratorType"])
                self._resolve(f"zones/{_last(zone['zone'])}/acceleratorTypes/{kind}")

    def before_delete(self, key: str) -> None:
        """What is in use stays; a group takes its instances with it."""
        used = key.split("/")[-2:]
        for path, body in self.store.resources.items():
            # A template names things without holding them.
            if path != key and "/instanceTemplates/" not in path and used in [_tail(link) for link in _uses(body)]:
                raise errors.in_use(key.partition("/")[2], path.partition("/")[2])
        if used[0] == "instanceGroupManagers":
            for instance in self.instances(key):
                del self.store.resources[instance]

    # -- groups --------------------------------------------------------------------------------------------------

    def act(self, action: str, key: str, query: Mapping[str, str], body: Body) -> Body | None:
        """A request to a group that is more than keeping; None for one that is not known here."""
        if action == "resize":
            self.resize(key, int(query["size"]))
        elif action == "deleteInstances":
            self._end(key, [_last(link) for link in body["instances"]])
        elif action == "createInstances":
            for instance in body["instances"]:
                self._start(key, instance["name"])
        elif action == "listManagedInstances":
            listed = {"managedInstances": [self._managed(path) for path in self.instances(key)]}
            self._pass_time(key)
            return listed
        elif action == "listErrors":
            return {"items": self.errors.get(key, [])}
        elif action == "setInstanceTemplate":
            self._resolve(body["instanceTemplate"])
            self.store.change(key, body)
        else:
            return None
        return {}

    def instances(self, group: str) -> list[str]:
        """Paths of a group's instances."""
        return [path for path, body in self.store.resources.items() if body.get("createdBy") == group]

    def resize(self, group: str, size: int) -> None:
        """Set the size, as `resize` does: new instances, or the newest ones end."""
        there = self.instances(group)
        for _ in range(size - len(there)):
            self._start(group, f"{self.store.get(group)['baseInstanceName']}-{secrets.token_hex(2)}")
        self._end(group, [_last(path) for path in there[size:]])
        self.store.resources[group]["targetSize"] = size

    def _start(self, group: str, name: str) -> None:
        body = self.store.get(group)
        template = self._resolve(body.get("instanceTemplate") or body["versions"][0]["instanceTemplate"])["properties"]
        region = group.split("/")[4]
        zones = [_last(zone["zone"]) for zone in body.get("distributionPolicy", {}).get("zones", [])]
        zones = zones or [f"{region}-{letter}" for letter in REGIONS[region]]
        kinds = [_last(item["acceleratorType"]) for item in template.get("guestAccelerators", [])]
        free = [z for z in zones if not {(z, kind) for kind in [*kinds, template["machineType"]]} & self.stock_outs]
        zone = (free or zones)[len(self.instances(group)) % len(free or zones)]
        if not free:
            message = f"The zone '{zone}' does not have enough resources available to fulfill the request."
            error = {"error": {"code": "ZONE_RESOURCE_POOL_EXHAUSTED", "message": message}, "timestamp": "now"}
            self.errors.setdefault(group, []).append({**error, "instanceActionDetails": {"action": "CREATING"}})
        made = {"createdBy": group, "status": "RUNNING" if free else "STAGING", "machineType": template["machineType"]}
        labels = {"labels": template.get("labels", {}), "tags": template.get("tags", {})}
        self._seed(f"zones/{zone}/instances/{name}", **made, **labels)
        body["targetSize"] = len(self.instances(group))

    def _end(self, group: str, names: list[str]) -> None:
        for path in self.instances(group):
            if _last(path) not in names:
                continue
            if self.ending:
                self.store.resources[path].update(status="STOPPING", lists=self.ending)
            else:
                del self.store.resources[path]
        left = [path for path in self.instances(group) if "lists" not in self.store.resources[path]]
        self.store.resources[group]["targetSize"] = len(left)

    def _pass_time(self, group: str) -> None:
        """Instances that end are gone after a while, which is counted in looks at them."""
        for path in self.instances(group):
            body = self.store.resources[path]
            if "lists" in body:
                body["lists"] -= 1
                if body["lists"] <= 0 or not self.ending:
                    del self.store.resources[path]

    def _managed(self, path: str) -> Body:
        body = self.store.get(path)
        actions = {"RUNNING": "NONE", "STOPPING": "DELETING"}
        return {
            "instance": body["selfLink"],
            "name": body["name"],
            "instanceStatus": body["status"],
            "currentAction": actions.get(body["status"], "CREATING"),
        }


def _check_template(properties: Body) -> None:
    scheduling = properties.get("scheduling", {})
    maintenance = scheduling.get("onHostMaintenance", "MIGRATE")
    family = properties.get("machineType", "").partition("-")[0]
    gpus = bool(properties.get("guestAccelerators")) or family in ("a2", "a3", "a4", "g2", "g4")
    if gpus and maintenance != "TERMINATE":
        raise errors.invalid("scheduling.onHostMaintenance: a machine with GPUs must TERMINATE")
    moves = maintenance != "TERMINATE" or scheduling.get("automaticRestart", True)
    if scheduling.get("provisioningModel") == "SPOT" and moves:
        raise errors.invalid("scheduling: a spot machine must TERMINATE and have automaticRestart false")
    if not properties.get("disks"):
        raise errors.invalid("properties.disks: a boot disk is required")
    if properties.get("guestAccelerators") and family != "n1":
        kinds = {_last(item.get("acceleratorType", "")) for item in properties["guestAccelerators"]}
        if kinds & {"nvidia-tesla-t4", "nvidia-tesla-v100", "nvidia-tesla-p100", "nvidia-tesla-p4"}:
            raise errors.invalid(f"guestAccelerators: {', '.join(sorted(kinds))} attach to n1 only, not to {family}")


def _check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            raise errors.invalid(f"labels: {key!r}: {value!r} is not allowed")


def _uses(body: Body) -> list[str]:
    """Links to what a resource cannot be without."""
    holders = [body, *body.get("versions", []), *body.get("networkInterfaces", [])]
    links = [holder.get(name) for holder in holders for name in ("network", "subnetwork", "instanceTemplate")]
    return [link for link in links if link]


def _tail(link: str) -> list[str]:
    return link.split("/")[-2:]


def _last(link: str) -> str:
    return link.rpartition("/")[2]
