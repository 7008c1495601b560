"""From inputs of pulumi-gcp to the bodies that the services take, and from what they answer back to inputs. Compute's
bodies are `stacks.gcp.discovery`'s; what a service refuses in a body, `FakeGoogle` refuses."""

from __future__ import annotations

import itertools
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Mapping

from stacks.gcp import discovery

from engine.gcp_cloud import Body
from engine.plugin import Failure, Properties

_count = itertools.count(1)
TEMPLATE_INPUTS = frozenset(
    {
        *("name", "namePrefix", "project", "machineType", "guestAccelerators", "disks", "networkInterfaces"),
        *("scheduling", "serviceAccount", "shieldedInstanceConfig", "metadata", "tags", "labels", "canIpForward"),
    }
)
"""All that the stacks give: a template is never changed, only replaced."""


def asset(value: Mapping[str, Any]) -> bytes:
    """The content of a file asset."""
    return Path(value["path"]).read_bytes()


def _take(inputs: Properties, names: Mapping[str, str], *apart: str) -> Body:
    unread = set(inputs) - set(names) - set(apart) - {"project"}
    if unread:
        raise Failure(f"the double does not know the inputs {', '.join(sorted(unread))}")
    return {sent: inputs[name] for name, sent in names.items() if inputs.get(name) is not None}


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


def _show(body: Body, *names: str) -> Properties:
    return {name: body[name] for name in names if name in body}


# -- compute -----------------------------------------------------------------------------------------------------------


def compute(kind: str) -> Callable[[Properties], Body]:
    """Bodies of one of Compute Engine's types."""

    def body(inputs: Properties) -> Body:
        made = discovery.body(f"gcp:compute/{kind}", inputs)
        if "region" in made:
            made["region"] = f"regions/{made['region']}"
        if "namePrefix" in inputs and not inputs.get("name"):
            made["name"] = f"{inputs['namePrefix']}{datetime.now(timezone.utc):%Y%m%d%H%M%S%f}{next(_count):06d}"
        return made

    return body


def network_back(body: Body) -> Properties:
    routing = {"routingMode": body["routingConfig"]["routingMode"]} if "routingConfig" in body else {}
    return {**_show(body, "name", "description", "autoCreateSubnetworks"), **routing}


def subnetwork_back(body: Body) -> Properties:
    return _show(body, "name", "description", "network", "ipCidrRange", "privateIpGoogleAccess")


def firewall_back(body: Body) -> Properties:
    rules = {
        given: [{"protocol": rule["IPProtocol"], **_show(rule, "ports")} for rule in body[sent]]
        for given, sent in (("allows", "allowed"), ("denies", "denied"))
        if sent in body
    }
    names = ("name", "description", "network", "direction", "priority", "sourceRanges", "targetTags", "disabled")
    return {**_show(body, *names), **rules}


def template_back(body: Body) -> Properties:
    return {**_show(body, "name"), "labels": body["properties"].get("labels", {})}


def manager_back(body: Body) -> Properties:
    zones = [zone["zone"].rpartition("/")[2] for zone in body.get("distributionPolicy", {}).get("zones", ())]
    versions = [_show(version, "name", "instanceTemplate") for version in body["versions"]]
    shown = {"distributionPolicyZones": zones, "versions": versions, "targetSize": body["targetSize"]}
    return {**_show(body, "name", "baseInstanceName"), **shown}


# -- storage -----------------------------------------------------------------------------------------------------------

_CONDITION = {
    "age": "age",
    "matchesPrefixes": "matchesPrefix",
    "daysSinceNoncurrentTime": "daysSinceNoncurrentTime",
    "numNewerVersions": "numNewerVersions",
}


def bucket(inputs: Properties) -> Body:
    apart = ("uniformBucketLevelAccess", "publicAccessPrevention", "lifecycleRules", "forceDestroy")
    made = _take(inputs, _same("name", "location", "storageClass", "versioning", "softDeletePolicy", "labels"), *apart)
    made["iamConfiguration"] = {
        "uniformBucketLevelAccess": {"enabled": bool(inputs.get("uniformBucketLevelAccess"))},
        "publicAccessPrevention": inputs.get("publicAccessPrevention", "inherited"),
    }
    rules = [
        {"action": rule["action"], "condition": _condition(rule["condition"])}
        for rule in inputs.get("lifecycleRules", ())
    ]
    return {**made, "lifecycle": {"rule": rules}}


def _condition(inputs: Properties) -> Body:
    made = _take(inputs, _CONDITION, "withState")
    if inputs.get("withState", "ANY") != "ANY":
        made["isLive"] = inputs["withState"] == "LIVE"
    return made


def bucket_back(body: Body) -> Properties:
    access = body["iamConfiguration"]
    return {
        **_show(body, "name", "location", "storageClass", "versioning", "labels"),
        "uniformBucketLevelAccess": access["uniformBucketLevelAccess"]["enabled"],
        "publicAccessPrevention": access["publicAccessPrevention"],
        "url": f"gs://{body['name']}",
    }


# -- secrets, logs, roles ----------------------------------------------------------------------------------------------


def secret(inputs: Properties) -> Body:
    made = _take(inputs, _same("labels"), "secretId", "replication", "deletionProtection")
    return {**made, "replication": {"automatic": inputs["replication"]["auto"]}}


def secret_back(body: Body) -> Properties:
    return _show(body, "name", "labels")


def log_bucket(inputs: Properties) -> Body:
    return _take(inputs, _same("description", "retentionDays"), "location", "bucketId")


def log_bucket_back(body: Body) -> Properties:
    return _show(body, "name", "description", "retentionDays")


def sink(inputs: Properties) -> Body:
    return _take(inputs, _same("name", "destination", "filter", "description"), "uniqueWriterIdentity")


def sink_back(body: Body) -> Properties:
    return _show(body, "destination", "filter", "description", "writerIdentity")


def exclusion(inputs: Properties) -> Body:
    return _take(inputs, _same("name", "filter", "description", "disabled"))


def exclusion_back(body: Body) -> Properties:
    return _show(body, "filter", "description")


def role(inputs: Properties) -> Body:
    names = {**_same("title", "description", "stage"), "permissions": "includedPermissions"}
    return _take(inputs, names, "roleId")


def role_back(body: Body) -> Properties:
    return {**_show(body, "name", "title", "description", "stage"), "permissions": body["includedPermissions"]}


# -- the controller ----------------------------------------------------------------------------------------------------


def repository(inputs: Properties) -> Body:
    made = _take(inputs, _same("format", "description", "labels"), "repositoryId", "location", "cleanupPolicies")
    made["cleanupPolicies"] = {
        item["id"]: {
            **_take(item, _same("id", "action"), "mostRecentVersions", "condition"),
            **{name: item[name] for name in ("mostRecentVersions", "condition") if item.get(name)},
        }
        for item in inputs.get("cleanupPolicies", ())
    }
    return made


def repository_back(body: Body) -> Properties:
    return {**_show(body, "format", "description", "labels"), "name": body["name"].rpartition("/")[2]}


def function(inputs: Properties) -> Body:
    made = _take(inputs, _same("description", "labels"), "name", "location", "buildConfig", "serviceConfig")
    build = inputs["buildConfig"]
    made["buildConfig"] = {
        **_take(build, _same("runtime", "entryPoint", "dockerRepository", "serviceAccount"), "source"),
        "source": {"storageSource": _take(build["source"]["storageSource"], _same("bucket", "object", "generation"))},
    }
    names = ("serviceAccountEmail", "availableMemory", "timeoutSeconds", "minInstanceCount", "maxInstanceCount")
    names += ("maxInstanceRequestConcurrency", "ingressSettings", "allTrafficOnLatestRevision", "environmentVariables")
    made["serviceConfig"] = _take(inputs["serviceConfig"], _same(*names), "uri", "service", "gcfUri")
    return made


def function_back(body: Body) -> Properties:
    uri = body["serviceConfig"]["uri"]
    return {**_show(body, "description", "labels", "buildConfig", "serviceConfig"), "url": uri}


def job(inputs: Properties) -> Body:
    names = ("name", "description", "schedule", "timeZone", "attemptDeadline", "retryConfig", "httpTarget")
    return _take(inputs, _same(*names), "region")


def job_back(body: Body) -> Properties:
    return _show(body, "description", "schedule", "timeZone", "attemptDeadline")
