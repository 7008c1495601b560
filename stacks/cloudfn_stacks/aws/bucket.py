"""The bucket: code, arguments, results, and the controller's state."""

from __future__ import annotations

from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from cloudfn_stacks.aws import documents

CALLS_DAYS = 7
"""That arguments and results of calls stay, as Modal keeps them."""


@dataclass(frozen=True)
class BucketArgs:
    """A bucket.

    Attributes:
        name: physical, and so unique among all buckets of AWS.
        machines_days: that what machines leave behind stays.
        partition: of its ARN ("aws").
    """

    name: pulumi.Input[str]
    machines_days: int
    partition: pulumi.Input[str]


class Bucket(pulumi.ComponentResource):
    """Closed to the public, encrypted, TLS only, without access lists; what is temporary goes by itself.

    It keeps no versions: code is named by its digest, results are temporary, and the controller's state is written
    under conditions.

    Attributes:
        bucket: the bucket itself.
    """

    bucket: aws.s3.Bucket

    def __init__(self, name: str, args: BucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("cloudfn:aws:Bucket", name, {}, opts)
        mine = pulumi.ResourceOptions(parent=self)
        # `down` leaves nothing, and so the bucket goes with what is in it.
        self.bucket = aws.s3.Bucket(name, bucket=args.name, force_destroy=True, opts=mine)
        bucket = self.bucket.bucket
        closed = aws.s3.BucketPublicAccessBlock(
            f"{name}-public-access",
            bucket=bucket,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=mine,
        )
        aws.s3.BucketOwnershipControls(
            f"{name}-ownership",
            bucket=bucket,
            rule=aws.s3.BucketOwnershipControlsRuleArgs(object_ownership="BucketOwnerEnforced"),
            opts=mine,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-encryption",
            bucket=bucket,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=(
                        aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                            sse_algorithm="AES256"
                        )
                    )
                )
            ],
            opts=mine,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-lifecycle",
            bucket=bucket,
            rules=[_expire("calls", CALLS_DAYS), _expire("machines", args.machines_days), _uploads()],
            opts=mine,
        )
        words = {"bucket": bucket, "partition": args.partition}
        # S3 refuses two changes of a bucket's access at a time.
        after = pulumi.ResourceOptions(parent=self, depends_on=[closed])
        aws.s3.BucketPolicy(f"{name}-policy", bucket=bucket, policy=documents.filled(_TLS_ONLY, words), opts=after)
        self.register_outputs({"name": bucket})


_TLS_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "TLSOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:{partition}:s3:::{bucket}", "arn:{partition}:s3:::{bucket}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}


def _expire(prefix: str, days: int) -> aws.s3.BucketLifecycleConfigurationRuleArgs:
    return aws.s3.BucketLifecycleConfigurationRuleArgs(
        id=prefix,
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=f"{prefix}/"),
        expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(days=days),
    )


def _uploads() -> aws.s3.BucketLifecycleConfigurationRuleArgs:
    return aws.s3.BucketLifecycleConfigurationRuleArgs(
        id="unfinished-uploads",
        status="Enabled",
        filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
        abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
            days_after_initiation=1
        ),
    )
