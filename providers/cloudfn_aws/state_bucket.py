"""The bucket and the key of the state: one of each for an account and region, shared by a team."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Callable
from urllib.parse import parse_qs, urlsplit

from cloudfn.account import StateBackend
from cloudfn.exception import NotFoundError, PermissionDeniedError, StateError
from cloudfn.settings import Settings

if TYPE_CHECKING:
    from boto3 import Session

ALIAS = "alias/cloudfn-state"
TAGS = {"cloudfn:part": "state"}


def name(account: str, region: str) -> str:
    """Of the bucket: known from the account alone, so that a team finds it without being told."""
    return f"cloudfn-state-{account}-{region}"


def backend(session: Session, account: str, region: str, create: Callable[[str], bool]) -> StateBackend:
    """The state's backend, made when it is missing and the user agrees; see `Account.state`."""
    bucket = name(account, region)
    missing = [
        *(
            [f"bucket {bucket} (versioned, encrypted, closed to the public)"]
            if not _bucket_exists(session, bucket, account)
            else []
        ),
        *([f"key {ALIAS} (about 1 USD a month)"] if not _key_exists(session, region) else []),
    ]
    if missing:
        what = " and ".join(missing)
        if not create(f"Make the state's {what} in account {account}, {region}?"):
            raise NotFoundError(
                f"There is no {what} in account {account}, {region}, where the state would be kept.",
                hint='Say yes, or keep it elsewhere: state.backend = "file" or "pulumi" in cloudfn.toml.',
            )
        if not _key_exists(session, region):
            _make_key(session, region)
        if not _bucket_exists(session, bucket, account):
            _make_bucket(session, bucket, region)
    # Another endpoint than AWS's own knows no bucket names in host names.
    own = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    style = "&use_path_style=true" if own else ""
    return StateBackend(
        f"s3://{bucket}?region={region}&awssdk=v2{style}",
        f"awskms:///{ALIAS}?region={region}&awssdk=v2",
        {},
    )


def read(session: Session, settings: Settings, region: str, path: str) -> bytes | None:
    """See `Account.read_state`."""
    from botocore.config import Config

    hasty = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 1})
    if settings.state.url:
        url = urlsplit(settings.state.url)
        if url.scheme != "s3":
            raise StateError(f"The state is kept in {url.scheme}://{url.netloc}, which only the engine reads.")
        bucket, owner = url.netloc, {}
        path = "/".join(part for part in (url.path.strip("/"), path) if part)
        region = parse_qs(url.query).get("region", [region])[0]
    else:
        account = session.client("sts", region_name=region, config=hasty).get_caller_identity()["Account"]
        bucket, owner = name(account, region), {"ExpectedBucketOwner": account}
    s3 = session.client("s3", region_name=region, config=hasty)
    try:
        return s3.get_object(Bucket=bucket, Key=path, **owner)["Body"].read()  # type: ignore[arg-type]
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchBucket", "404"):
            return None
        raise


def _bucket_exists(session: Session, bucket: str, account: str) -> bool:
    s3 = session.client("s3")
    try:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner=account)
    except s3.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchBucket", "NotFound"):
            return False
        if code in ("403", "AccessDenied"):
            raise PermissionDeniedError(
                f"The state's bucket {bucket} may not be read, or belongs to another account.",
                hint="You need s3:ListBucket on it, and s3:GetObject, s3:PutObject and s3:DeleteObject in it.",
            ) from error
        raise StateError(f"The state's bucket {bucket} cannot be reached: {error}") from error
    return True


def _key_exists(session: Session, region: str) -> bool:
    kms = session.client("kms", region_name=region)
    try:
        kms.describe_key(KeyId=ALIAS)
    except kms.exceptions.NotFoundException:
        return False
    return True


def _make_key(session: Session, region: str) -> None:
    kms = session.client("kms", region_name=region)
    tags = [{"TagKey": key, "TagValue": value} for key, value in TAGS.items()]
    made = kms.create_key(Description="cloudfn: secrets in the state of stacks", Tags=tags)  # type: ignore[arg-type]
    kms.enable_key_rotation(KeyId=made["KeyMetadata"]["KeyId"])
    kms.create_alias(AliasName=ALIAS, TargetKeyId=made["KeyMetadata"]["KeyId"])


def _make_bucket(session: Session, bucket: str, region: str) -> None:
    s3 = session.client("s3", region_name=region)
    if region == "us-east-1":  # the one region that S3 must not be told
        s3.create_bucket(Bucket=bucket)
    else:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})  # type: ignore[typeddict-item]
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "BlockPublicPolicy": True,
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
    )
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_encryption(
        Bucket=bucket,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(_tls_only(session, bucket, region)))
    tags = [{"Key": key, "Value": value} for key, value in TAGS.items()]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})  # type: ignore[typeddict-item]


def _tls_only(session: Session, bucket: str, region: str) -> dict[str, object]:
    arn = f"arn:{session.get_partition_for_region(region)}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TLSOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
