"""Handlers of the AWS double: bucket, logs, secrets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from engine.aws_network import Simple, ec2_tags, from_tags, is_gone
from engine.plugin import Failure, Properties


class Bucket(Simple):
    replace_on = frozenset({"bucketPrefix", "objectLockEnabled"})
    named_by = "bucket"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["bucket"]
        where = {} if cloud.region == "us-east-1" else {"LocationConstraint": cloud.region}
        cloud.s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": where} if where else {}))
        self.update(cloud, name, {}, inputs)
        return name, {
            "arn": f"arn:aws:s3:::{name}",
            "region": cloud.region,
            "bucketDomainName": f"{name}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{name}.s3.{cloud.region}.amazonaws.com",
        }

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            tags = cloud.s3.get_bucket_tagging(Bucket=id)["TagSet"]
        except cloud.s3.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchTagSet":
                return {"tags": {}}
            if is_gone(error):
                return None
            raise
        return {"tags": from_tags(tags)}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        if new.get("tags"):
            cloud.s3.put_bucket_tagging(Bucket=id, Tagging={"TagSet": ec2_tags(new["tags"])})
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        if state.get("forceDestroy"):
            for page in cloud.s3.get_paginator("list_object_versions").paginate(Bucket=id):
                for entry in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
                    cloud.s3.delete_object(Bucket=id, Key=entry["Key"], VersionId=entry["VersionId"])
        cloud.s3.delete_bucket(Bucket=id)


class OfBucket(Simple):
    """A part of a bucket's configuration. Subclasses put, get and delete it."""

    replace_on = frozenset({"bucket"})

    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        raise NotImplementedError

    def get(self, cloud: Any, bucket: str) -> Properties:
        raise NotImplementedError

    def remove(self, cloud: Any, bucket: str) -> None:
        raise NotImplementedError

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        self.put(cloud, inputs["bucket"], inputs)
        return inputs["bucket"], {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            return self.get(cloud, id)
        except cloud.s3.exceptions.ClientError as error:
            code = error.response["Error"]["Code"]
            if is_gone(error) or code in (
                "OwnershipControlsNotFoundError",
                "ServerSideEncryptionConfigurationNotFoundError",
            ):
                return None
            raise

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self.put(cloud, id, new)
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        self.remove(cloud, id)


class PublicAccessBlock(OfBucket):
    FLAGS = {
        "blockPublicAcls": "BlockPublicAcls",
        "blockPublicPolicy": "BlockPublicPolicy",
        "ignorePublicAcls": "IgnorePublicAcls",
        "restrictPublicBuckets": "RestrictPublicBuckets",
    }

    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        flags = {api: bool(inputs.get(name)) for name, api in self.FLAGS.items()}
        cloud.s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=flags)

    def get(self, cloud: Any, bucket: str) -> Properties:
        found = cloud.s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        return {name: found[api] for name, api in self.FLAGS.items()}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.delete_public_access_block(Bucket=bucket)


class OwnershipControls(OfBucket):
    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        rules = [{"ObjectOwnership": inputs["rule"]["objectOwnership"]}]
        cloud.s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": rules})

    def get(self, cloud: Any, bucket: str) -> Properties:
        found = cloud.s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"][0]
        return {"rule": {"objectOwnership": found["ObjectOwnership"]}}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.delete_bucket_ownership_controls(Bucket=bucket)


class Encryption(OfBucket):
    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        rules = []
        for rule in inputs["rules"]:
            by = rule["applyServerSideEncryptionByDefault"]
            default = {"SSEAlgorithm": by["sseAlgorithm"]}
            if "kmsMasterKeyId" in by:
                default["KMSMasterKeyID"] = by["kmsMasterKeyId"]
            rules.append(
                {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(rule.get("bucketKeyEnabled"))}
            )
        cloud.s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})

    def get(self, cloud: Any, bucket: str) -> Properties:
        cloud.s3.get_bucket_encryption(Bucket=bucket)
        return {}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.delete_bucket_encryption(Bucket=bucket)


class Lifecycle(OfBucket):
    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        rules = []
        for rule in inputs["rules"]:
            made: dict[str, Any] = {
                "ID": rule["id"],
                "Status": rule["status"],
                "Filter": {"Prefix": (rule.get("filter") or {}).get("prefix", "")},
            }
            if expiration := rule.get("expiration"):
                made["Expiration"] = {key[0].upper() + key[1:]: value for key, value in expiration.items()}
            if abort := rule.get("abortIncompleteMultipartUpload"):
                made["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": abort["daysAfterInitiation"]}
            if old := rule.get("noncurrentVersionExpiration"):
                made["NoncurrentVersionExpiration"] = {"NoncurrentDays": old["noncurrentDays"]}
            rules.append(made)
        cloud.s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})

    def get(self, cloud: Any, bucket: str) -> Properties:
        cloud.s3.get_bucket_lifecycle_configuration(Bucket=bucket)
        return {}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.delete_bucket_lifecycle(Bucket=bucket)


class Versioning(OfBucket):
    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        status = inputs["versioningConfiguration"]["status"]
        cloud.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

    def get(self, cloud: Any, bucket: str) -> Properties:
        return {"versioningConfiguration": {"status": cloud.s3.get_bucket_versioning(Bucket=bucket).get("Status")}}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})


class BucketPolicy(OfBucket):
    def put(self, cloud: Any, bucket: str, inputs: Properties) -> None:
        cloud.s3.put_bucket_policy(Bucket=bucket, Policy=document(inputs["policy"]))

    def get(self, cloud: Any, bucket: str) -> Properties:
        return {"policy": cloud.s3.get_bucket_policy(Bucket=bucket)["Policy"]}

    def remove(self, cloud: Any, bucket: str) -> None:
        cloud.s3.delete_bucket_policy(Bucket=bucket)


class BucketObject(Simple):
    replace_on = frozenset({"bucket", "key"})

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        tags = (inputs.get("overrideProvider") or {}).get("defaultTags", {}).get("tags", inputs.get("tags")) or {}
        if len(tags) > 10:
            raise Failure("BadRequest: Object tags cannot be greater than 10")
        cloud.s3.put_object(
            Bucket=inputs["bucket"],
            Key=inputs["key"],
            Body=Path(inputs["source"]["path"]).read_bytes() if "source" in inputs else inputs["content"].encode(),
            ContentType=inputs.get("contentType", "binary/octet-stream"),
        )
        return f"{inputs['bucket']}/{inputs['key']}", {}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        bucket, _, key = id.partition("/")
        try:
            found = cloud.s3.get_object(Bucket=bucket, Key=key)
        except cloud.s3.exceptions.ClientError as error:
            if is_gone(error) or error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return {"content": found["Body"].read().decode()} if "content" in state else {}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self.create(cloud, new)
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        bucket, _, key = id.partition("/")
        cloud.s3.delete_object(Bucket=bucket, Key=key)


def document(policy: Any) -> str:
    """A policy as text. The provider takes objects too. Raises `Failure` for what is no policy."""
    text = policy if isinstance(policy, str) else json.dumps(policy)
    if not json.loads(text).get("Statement"):
        raise Failure(f"MalformedPolicyDocument: {text}")
    if any(mark in text for mark in ("{account}", "{partition}", "{region}", "{bucket}", "{network}", "{prefix}")):
        raise Failure(f"a placeholder is left in the policy: {text}")
    return text


class LogGroup(Simple):
    replace_on = frozenset({"namePrefix", "logGroupClass"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        name = inputs["name"]
        cloud.logs.create_log_group(logGroupName=name, tags=inputs.get("tags") or {})
        self._retain(cloud, name, inputs)
        return name, {"arn": self._arn(cloud, name)}

    def _arn(self, cloud: Any, name: str) -> str:
        return f"arn:aws:logs:{cloud.region}:{cloud.account}:log-group:{name}"

    def _retain(self, cloud: Any, name: str, inputs: Properties) -> None:
        if inputs.get("retentionInDays"):
            cloud.logs.put_retention_policy(logGroupName=name, retentionInDays=inputs["retentionInDays"])

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        found = cloud.logs.describe_log_groups(logGroupNamePrefix=id)["logGroups"]
        mine = [group for group in found if group["logGroupName"] == id]
        return {"retentionInDays": mine[0].get("retentionInDays", 0)} if mine else None

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        self._retain(cloud, id, new)
        if new.get("tags"):
            cloud.logs.tag_resource(resourceArn=self._arn(cloud, id), tags=new["tags"])
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        cloud.logs.delete_log_group(logGroupName=id)


class Secret(Simple):
    replace_on = frozenset({"namePrefix"})
    named_by = "name"

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        made = cloud.secretsmanager.create_secret(
            Name=inputs["name"], Description=inputs.get("description", ""), Tags=ec2_tags(inputs.get("tags"))
        )
        return made["ARN"], {"arn": made["ARN"]}

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        try:
            found = cloud.secretsmanager.describe_secret(SecretId=id)
        except cloud.secretsmanager.exceptions.ResourceNotFoundException:
            return None
        return {"tags": from_tags(found.get("Tags"))}

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        cloud.secretsmanager.tag_resource(SecretId=id, Tags=ec2_tags(new.get("tags")))
        return {}

    def delete(self, cloud: Any, id: str, state: Properties) -> None:
        # Zero days, as the provider has it; anything else keeps the name taken for a week or more.
        if state.get("recoveryWindowInDays") == 0:
            cloud.secretsmanager.delete_secret(SecretId=id, ForceDeleteWithoutRecovery=True)
        else:
            cloud.secretsmanager.delete_secret(SecretId=id, RecoveryWindowInDays=state.get("recoveryWindowInDays", 30))


HANDLERS = {
    "aws:s3/bucket:Bucket": Bucket(),
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": PublicAccessBlock(),
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": OwnershipControls(),
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration": Encryption(),
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": Lifecycle(),
    "aws:s3/bucketVersioning:BucketVersioning": Versioning(),
    "aws:s3/bucketPolicy:BucketPolicy": BucketPolicy(),
    "aws:s3/bucketObjectv2:BucketObjectv2": BucketObject(),
    "aws:cloudwatch/logGroup:LogGroup": LogGroup(),
    "aws:secretsmanager/secret:Secret": Secret(),
}
