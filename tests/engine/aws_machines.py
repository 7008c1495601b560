"""Handlers of the AWS double: launch templates, groups and their hooks."""

from __future__ import annotations

from typing import Any

from engine.aws_network import Simple, Tagged, ec2_tags, is_gone, specification
from engine.plugin import Properties

_NAMES = {
    "imageId": "ImageId",
    "instanceType": "InstanceType",
    "userData": "UserData",
    "ebsOptimized": "EbsOptimized",
    "keyName": "KeyName",
    "instanceInitiatedShutdownBehavior": "InstanceInitiatedShutdownBehavior",
    "vpcSecurityGroupIds": "SecurityGroupIds",
}


def pascal(value: Any) -> Any:
    """Property names as EC2's API spells them: "httpPutResponseHopLimit" -> "HttpPutResponseHopLimit"."""
    if isinstance(value, dict):
        return {key[0].upper() + key[1:]: pascal(item) for key, item in value.items()}
    if isinstance(value, list):
        return [pascal(item) for item in value]
    return value


def template_data(inputs: Properties) -> dict[str, Any]:
    """`LaunchTemplateData` of the inputs of aws:ec2/launchTemplate:LaunchTemplate."""
    data: dict[str, Any] = {api: inputs[name] for name, api in _NAMES.items() if name in inputs}
    for name in ("metadataOptions", "monitoring", "instanceMarketOptions", "placement", "creditSpecification"):
        if name in inputs:
            data[name[0].upper() + name[1:]] = pascal(inputs[name])
    if profile := inputs.get("iamInstanceProfile"):
        data["IamInstanceProfile"] = pascal(profile)
    if interfaces := inputs.get("networkInterfaces"):
        renamed = {"securityGroups": "Groups", "deleteOnTermination": "DeleteOnTermination"}
        data["NetworkInterfaces"] = [
            {renamed.get(key, key[0].upper() + key[1:]): _flag(item) for key, item in entry.items()}
            for entry in interfaces
        ]
    if disks := inputs.get("blockDeviceMappings"):
        data["BlockDeviceMappings"] = [
            {
                "DeviceName": disk["deviceName"],
                "Ebs": {key[0].upper() + key[1:]: _flag(item) for key, item in disk.get("ebs", {}).items()},
            }
            for disk in disks
        ]
    if tags := inputs.get("tagSpecifications"):
        data["TagSpecifications"] = [
            {"ResourceType": entry["resourceType"], "Tags": ec2_tags(entry.get("tags"))} for entry in tags
        ]
    return data


def _flag(value: Any) -> Any:
    """The provider has booleans as strings in places."""
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


class LaunchTemplate(Tagged):
    replace_on = frozenset({"namePrefix"})
    named_by = "name"
    list_call = ("describe_launch_templates", "LaunchTemplateIds", "LaunchTemplates")

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.ec2.create_launch_template(
            LaunchTemplateName=inputs["name"],
            LaunchTemplateData=template_data(inputs),
            **specification("launch-template", inputs.get("tags")),
        )["LaunchTemplate"]
        return made["LaunchTemplateId"], self._outputs(cloud, made["LaunchTemplateId"], made)

    def _outputs(self, cloud: Any, id: str, made: dict[str, Any]) -> Properties:
        arn = f"arn:aws:ec2:{cloud.region}:{cloud.account}:launch-template/{id}"
        return {
            "arn": arn,
            "latestVersion": made["LatestVersionNumber"],
            "defaultVersion": made["DefaultVersionNumber"],
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        if template_data(old) != template_data(new):
            cloud.ec2.create_launch_template_version(LaunchTemplateId=id, LaunchTemplateData=template_data(new))
            if new.get("updateDefaultVersion"):
                latest = self.find(cloud, id)
                assert latest is not None
                version = str(latest["LatestVersionNumber"])
                cloud.ec2.modify_launch_template(LaunchTemplateId=id, DefaultVersion=version)
        self.retag(cloud, id, old, new)
        found = self.find(cloud, id)
        assert found is not None
        return self._outputs(cloud, id, found)

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.ec2.delete_launch_template(LaunchTemplateId=id)


class Group(Simple):
    """The real one waits for capacity unless told not to, so `waitForCapacityTimeout` must be "0"."""

    replace_on = frozenset({"namePrefix", "placementGroup"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        cloud.autoscaling.create_auto_scaling_group(
            AutoScalingGroupName=name, **self._arguments(inputs), Tags=self._tags(name, inputs)
        )
        self._suspend(cloud, name, [], inputs.get("suspendedProcesses", []))
        return name, {"arn": self._find(cloud, name)["AutoScalingGroupARN"]}  # type: ignore[index]

    def _arguments(self, inputs: Properties) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "MinSize": inputs["minSize"],
            "MaxSize": inputs["maxSize"],
            "VPCZoneIdentifier": ",".join(inputs["vpcZoneIdentifiers"]),
        }
        if "desiredCapacity" in inputs:
            arguments["DesiredCapacity"] = inputs["desiredCapacity"]
        if template := inputs.get("launchTemplate"):
            arguments["LaunchTemplate"] = {
                "LaunchTemplateId": template["id"],
                "Version": str(template.get("version", "$Default")),
            }
        if policy := inputs.get("mixedInstancesPolicy"):
            spec = policy["launchTemplate"]["launchTemplateSpecification"]
            overrides = policy["launchTemplate"].get("overrides", [])
            arguments["MixedInstancesPolicy"] = {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {
                        "LaunchTemplateId": spec["launchTemplateId"],
                        "Version": str(spec.get("version", "$Default")),
                    },
                    "Overrides": pascal(overrides),
                },
                "InstancesDistribution": pascal(policy.get("instancesDistribution", {})),
            }
        for name in ("healthCheckType", "healthCheckGracePeriod", "defaultCooldown", "capacityRebalance"):
            if name in inputs:
                arguments[name[0].upper() + name[1:]] = inputs[name]
        if "protectFromScaleIn" in inputs:
            arguments["NewInstancesProtectedFromScaleIn"] = bool(inputs["protectFromScaleIn"])
        return arguments

    def _tags(self, name: str, inputs: Properties) -> list[dict[str, Any]]:
        return [
            {
                "ResourceId": name,
                "ResourceType": "auto-scaling-group",
                "Key": tag["key"],
                "Value": tag["value"],
                "PropagateAtLaunch": tag["propagateAtLaunch"],
            }
            for tag in inputs.get("tags", [])
        ]

    def _suspend(self, cloud: Any, name: str, old: list[str], new: list[str]) -> None:
        if resumed := [process for process in old if process not in new]:
            cloud.autoscaling.resume_processes(AutoScalingGroupName=name, ScalingProcesses=resumed)
        if new:
            cloud.autoscaling.suspend_processes(AutoScalingGroupName=name, ScalingProcesses=new)

    def _find(self, cloud: Any, name: str) -> dict[str, Any] | None:
        found = cloud.autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"]
        return found[0] if found else None

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        found = self._find(cloud, id)
        if found is None:
            return None
        return {
            "minSize": found["MinSize"],
            "maxSize": found["MaxSize"],
            "desiredCapacity": found["DesiredCapacity"],
            "suspendedProcesses": _same_order(
                state.get("suspendedProcesses"), [entry["ProcessName"] for entry in found["SuspendedProcesses"]]
            ),
            "tags": _same_order(
                state.get("tags"),
                [
                    {"key": tag["Key"], "propagateAtLaunch": tag["PropagateAtLaunch"], "value": tag["Value"]}
                    for tag in found["Tags"]
                ],
            ),
        }

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.autoscaling.update_auto_scaling_group(AutoScalingGroupName=id, **self._arguments(new))
        self._suspend(cloud, id, old.get("suspendedProcesses") or [], new.get("suspendedProcesses") or [])
        if old.get("tags") != new.get("tags"):
            keys = {tag["key"] for tag in new.get("tags", [])}
            gone = [tag for tag in self._tags(id, old) if tag["Key"] not in keys]
            if gone:
                cloud.autoscaling.delete_tags(Tags=gone)
            cloud.autoscaling.create_or_update_tags(Tags=self._tags(id, new))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.autoscaling.delete_auto_scaling_group(AutoScalingGroupName=id, ForceDelete=True)


def _same_order(before: list[Any] | None, now: list[Any]) -> list[Any]:
    """The cloud keeps sets: what was there before stands where it stood."""
    before = before or []
    return sorted(now, key=lambda item: (before.index(item) if item in before else len(before), repr(item)))


class LifecycleHook(Simple):
    replace_on = frozenset({"autoscalingGroupName"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        self._put(cloud, inputs)
        return inputs["name"], {}

    def _put(self, cloud: Any, inputs: Properties) -> None:
        more = {}
        for name, key in (
            ("defaultResult", "DefaultResult"),
            ("heartbeatTimeout", "HeartbeatTimeout"),
            ("notificationMetadata", "NotificationMetadata"),
        ):
            if name in inputs:
                more[key] = inputs[name]
        cloud.autoscaling.put_lifecycle_hook(
            LifecycleHookName=inputs["name"],
            AutoScalingGroupName=inputs["autoscalingGroupName"],
            LifecycleTransition=inputs["lifecycleTransition"],
            **more,
        )

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            hooks = cloud.autoscaling.describe_lifecycle_hooks(
                AutoScalingGroupName=state["autoscalingGroupName"], LifecycleHookNames=[id]
            )["LifecycleHooks"]
        except cloud.autoscaling.exceptions.ClientError as error:
            if is_gone(error) or "not found" in str(error):
                return None
            raise
        return {"heartbeatTimeout": hooks[0]["HeartbeatTimeout"]} if hooks else None

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self._put(cloud, new)
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.autoscaling.delete_lifecycle_hook(
            LifecycleHookName=id, AutoScalingGroupName=state["autoscalingGroupName"]
        )


HANDLERS = {
    "aws:ec2/launchTemplate:LaunchTemplate": LaunchTemplate(),
    "aws:autoscaling/group:Group": Group(),
    "aws:autoscaling/lifecycleHook:LifecycleHook": LifecycleHook(),
}
