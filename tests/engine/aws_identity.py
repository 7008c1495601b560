"""Handlers of the AWS double: roles and policies, the controller's function and its schedule."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

from engine.aws_machines import pascal
from engine.aws_network import Simple, ec2_tags, from_tags, is_gone
from engine.aws_storage import document
from engine.plugin import SIGNATURE, Failure, Properties


class Role(Simple):
    replace_on = frozenset({"namePrefix", "path"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        more = {"PermissionsBoundary": inputs["permissionsBoundary"]} if inputs.get("permissionsBoundary") else {}
        made = cloud.iam.create_role(
            RoleName=inputs["name"],
            AssumeRolePolicyDocument=document(inputs["assumeRolePolicy"]),
            Description=inputs.get("description", ""),
            MaxSessionDuration=inputs.get("maxSessionDuration", 3600),
            Tags=ec2_tags(inputs.get("tags")),
            **more,
        )["Role"]
        return inputs["name"], {"arn": made["Arn"], "uniqueId": made["RoleId"]}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.iam.get_role(RoleName=id)["Role"]
        except cloud.iam.exceptions.NoSuchEntityException:
            return None
        return {"tags": from_tags(found.get("Tags")), "maxSessionDuration": found["MaxSessionDuration"]}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.iam.update_assume_role_policy(RoleName=id, PolicyDocument=document(new["assumeRolePolicy"]))
        cloud.iam.update_role(
            RoleName=id, Description=new.get("description", ""), MaxSessionDuration=new.get("maxSessionDuration", 3600)
        )
        cloud.iam.tag_role(RoleName=id, Tags=ec2_tags(new.get("tags")))
        if new.get("permissionsBoundary"):
            cloud.iam.put_role_permissions_boundary(RoleName=id, PermissionsBoundary=new["permissionsBoundary"])
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.iam.delete_role(RoleName=id)


class RolePolicy(Simple):
    replace_on = frozenset({"role", "namePrefix"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        self.update(cloud, "", {}, inputs)
        return f"{inputs['role']}:{inputs['name']}", {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        role, _, name = id.partition(":")
        try:
            cloud.iam.get_role_policy(RoleName=role, PolicyName=name)
        except cloud.iam.exceptions.NoSuchEntityException:
            return None
        return {}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.iam.put_role_policy(RoleName=new["role"], PolicyName=new["name"], PolicyDocument=document(new["policy"]))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        role, _, name = id.partition(":")
        cloud.iam.delete_role_policy(RoleName=role, PolicyName=name)


class Policy(Simple):
    replace_on = frozenset({"description", "path", "namePrefix"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.iam.create_policy(
            PolicyName=inputs["name"],
            PolicyDocument=document(inputs["policy"]),
            Description=inputs.get("description", ""),
            Tags=ec2_tags(inputs.get("tags")),
        )["Policy"]
        return made["Arn"], {"arn": made["Arn"], "policyId": made["PolicyId"]}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.iam.get_policy(PolicyArn=id)["Policy"]
        except cloud.iam.exceptions.NoSuchEntityException:
            return None
        return {"tags": from_tags(found.get("Tags"))}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        if old.get("policy") != new["policy"]:
            self._drop_old_versions(cloud, id)
            cloud.iam.create_policy_version(PolicyArn=id, PolicyDocument=document(new["policy"]), SetAsDefault=True)
        cloud.iam.tag_policy(PolicyArn=id, Tags=ec2_tags(new.get("tags")))
        return {}

    def _drop_old_versions(self, cloud: Any, id: str) -> None:
        for version in cloud.iam.list_policy_versions(PolicyArn=id)["Versions"]:
            if not version["IsDefaultVersion"]:
                cloud.iam.delete_policy_version(PolicyArn=id, VersionId=version["VersionId"])

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        self._drop_old_versions(cloud, id)
        cloud.iam.delete_policy(PolicyArn=id)


class InstanceProfile(Simple):
    replace_on = frozenset({"namePrefix", "path"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        made = cloud.iam.create_instance_profile(InstanceProfileName=name, Tags=ec2_tags(inputs.get("tags")))
        cloud.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=inputs["role"])
        return name, {"arn": made["InstanceProfile"]["Arn"]}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.iam.get_instance_profile(InstanceProfileName=id)["InstanceProfile"]
        except cloud.iam.exceptions.NoSuchEntityException:
            return None
        return {"role": found["Roles"][0]["RoleName"] if found["Roles"] else ""}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        if old.get("role") != new["role"]:
            cloud.iam.remove_role_from_instance_profile(InstanceProfileName=id, RoleName=old["role"])
            cloud.iam.add_role_to_instance_profile(InstanceProfileName=id, RoleName=new["role"])
        cloud.iam.tag_instance_profile(InstanceProfileName=id, Tags=ec2_tags(new.get("tags")))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        for role in cloud.iam.get_instance_profile(InstanceProfileName=id)["InstanceProfile"]["Roles"]:
            cloud.iam.remove_role_from_instance_profile(InstanceProfileName=id, RoleName=role["RoleName"])
        cloud.iam.delete_instance_profile(InstanceProfileName=id)


class Function(Simple):
    replace_on = frozenset({"packageType"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.awslambda.create_function(
            FunctionName=inputs["name"],
            Code={"ZipFile": archive(inputs["code"])},
            Tags=inputs.get("tags") or {},
            Architectures=inputs.get("architectures", ["x86_64"]),
            **self._configuration(inputs),
        )
        if "reservedConcurrentExecutions" in inputs:
            cloud.awslambda.put_function_concurrency(
                FunctionName=inputs["name"], ReservedConcurrentExecutions=inputs["reservedConcurrentExecutions"]
            )
        return inputs["name"], {"arn": made["FunctionArn"], "invokeArn": made["FunctionArn"], "version": "$LATEST"}

    def _configuration(self, inputs: Properties) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if "environment" in inputs:
            more["Environment"] = {"Variables": inputs["environment"].get("variables", {})}
        if "loggingConfig" in inputs:
            more["LoggingConfig"] = pascal(inputs["loggingConfig"])
        return {
            "Role": inputs["role"],
            "Handler": inputs["handler"],
            "Runtime": inputs["runtime"],
            "Timeout": inputs.get("timeout", 3),
            "MemorySize": inputs.get("memorySize", 128),
            "Description": inputs.get("description", ""),
            **more,
        }

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.awslambda.get_function(FunctionName=id)["Configuration"]
        except cloud.awslambda.exceptions.ResourceNotFoundException:
            return None
        return {"timeout": found["Timeout"], "memorySize": found["MemorySize"]}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.awslambda.update_function_code(FunctionName=id, ZipFile=archive(new["code"]))
        cloud.awslambda.update_function_configuration(FunctionName=id, **self._configuration(new))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.awslambda.delete_function(FunctionName=id)


def archive(code: Any) -> bytes:
    """A Pulumi archive as the bytes of a zip file. Raises `Failure` for one without files."""
    if not isinstance(code, dict) or SIGNATURE not in code:
        raise Failure(f"code is no archive: {code!r}")
    if path := code.get("path"):
        data = Path(path).read_bytes() if Path(path).is_file() else None
        if data is not None:
            return data
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name, asset in (code.get("assets") or {}).items():
            text = asset.get("text")
            target.writestr(name, text if text is not None else Path(asset["path"]).read_bytes())
        if not target.namelist():
            raise Failure(f"the archive is empty: {code!r}")
    return out.getvalue()


class FunctionUrl(Simple):
    replace_on = frozenset({"functionName", "qualifier"})

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.awslambda.create_function_url_config(
            FunctionName=inputs["functionName"], AuthType=inputs["authorizationType"]
        )
        return inputs["functionName"], {"functionUrl": made["FunctionUrl"], "functionArn": made["FunctionArn"]}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.awslambda.get_function_url_config(FunctionName=id)
        except cloud.awslambda.exceptions.ClientError as error:
            if is_gone(error):
                return None
            raise
        return {"authorizationType": found["AuthType"]}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.awslambda.update_function_url_config(FunctionName=id, AuthType=new["authorizationType"])
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.awslambda.delete_function_url_config(FunctionName=id)


class Permission(Simple):
    replace_on = frozenset({"function", "action", "principal", "statementId", "sourceArn", "functionUrlAuthType"})
    named_by = "statementId"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        more = {"SourceArn": inputs["sourceArn"]} if "sourceArn" in inputs else {}
        cloud.awslambda.add_permission(
            FunctionName=inputs["function"],
            StatementId=inputs["statementId"],
            Action=inputs["action"],
            Principal=inputs["principal"],
            **more,
        )
        return inputs["statementId"], {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.awslambda.get_policy(FunctionName=state["function"])["Policy"]
        except cloud.awslambda.exceptions.ClientError as error:
            if is_gone(error):
                return None
            raise
        return {} if id in found else None

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.awslambda.remove_permission(FunctionName=state["function"], StatementId=id)


class Schedule(Simple):
    replace_on = frozenset({"namePrefix", "groupName"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.scheduler.create_schedule(Name=inputs["name"], **self._arguments(inputs))
        return f"default/{inputs['name']}", {"arn": made["ScheduleArn"]}

    def _arguments(self, inputs: Properties) -> dict[str, Any]:
        target = inputs["target"]
        made = {"Arn": target["arn"], "RoleArn": target["roleArn"]}
        if "input" in target:
            made["Input"] = target["input"]
        if "retryPolicy" in target:
            made["RetryPolicy"] = pascal(target["retryPolicy"])
        return {
            "ScheduleExpression": inputs["scheduleExpression"],
            "FlexibleTimeWindow": pascal(inputs["flexibleTimeWindow"]),
            "Description": inputs.get("description", ""),
            "State": inputs.get("state", "ENABLED"),
            "Target": made,
        }

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.scheduler.get_schedule(Name=id.partition("/")[2])
        except cloud.scheduler.exceptions.ResourceNotFoundException:
            return None
        return {"scheduleExpression": found["ScheduleExpression"]}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.scheduler.update_schedule(Name=id.partition("/")[2], **self._arguments(new))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.scheduler.delete_schedule(Name=id.partition("/")[2])


HANDLERS = {
    "aws:iam/role:Role": Role(),
    "aws:iam/rolePolicy:RolePolicy": RolePolicy(),
    "aws:iam/policy:Policy": Policy(),
    "aws:iam/instanceProfile:InstanceProfile": InstanceProfile(),
    "aws:lambda/function:Function": Function(),
    "aws:lambda/functionUrl:FunctionUrl": FunctionUrl(),
    "aws:lambda/permission:Permission": Permission(),
    "aws:scheduler/schedule:Schedule": Schedule(),
}
