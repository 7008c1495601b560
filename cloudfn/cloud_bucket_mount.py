"""CloudBucketMount: a bucket of S3, Google Cloud Storage or anything that speaks S3, at a path in workers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Mapping
from urllib.parse import urlsplit

from cloudfn import bucket_remote
from cloudfn.exception import InvalidError, UnimplementedError
from cloudfn.record import dataclass
from cloudfn.spec import BucketMountSpec
from cloudfn.storage.volume_path import normalise

if TYPE_CHECKING:
    from cloudfn.secret import Secret

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")  # Google's rules, which include Amazon's


@dataclass(frozen=True)
class CloudBucketMount:
    """For `volumes={"/data": CloudBucketMount("name", secret=...)}`. What is written is there when it is closed.

    Args:
        bucket_name: the bucket.
        bucket_endpoint_url: where it is, for others than Amazon's ("https://storage.googleapis.com").
        key_prefix: mount only keys that start with it; ends in "/".
        secret: holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN, AWS_REGION), or for Google
            GOOGLE_ACCESS_KEY_ID and GOOGLE_ACCESS_KEY_SECRET; a public bucket needs none.
        oidc_auth_role_arn: not available.
        read_only: workers cannot write to it.
        requester_pays: who reads pays; needs a secret.
        force_path_style: the bucket's name in the path of URLs, not in the host's name.

    Raises:
        InvalidError: something that no bucket has.
    """

    bucket_name: str
    bucket_endpoint_url: str | None = None
    key_prefix: str | None = None
    secret: Secret | None = None
    oidc_auth_role_arn: str | None = None
    read_only: bool = False
    requester_pays: bool = False
    force_path_style: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.bucket_name, str) or not _BUCKET.fullmatch(self.bucket_name):
            raise InvalidError(f"{self.bucket_name!r} cannot be the name of a bucket.")
        if self.bucket_endpoint_url is not None:
            parts = urlsplit(self.bucket_endpoint_url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
                raise InvalidError(
                    "bucket_endpoint_url must be a URL with http or https, and without a user or a password.",
                    hint="For example https://storage.googleapis.com",
                )
        if self.key_prefix:
            if not self.key_prefix.endswith("/"):
                raise InvalidError(f"key_prefix={self.key_prefix!r} must end in '/'.")
            normalise(self.key_prefix)
        if self.requester_pays and self.secret is None:
            raise InvalidError("requester_pays=True needs a secret: whoever reads pays, and must be known.")
        if self.oidc_auth_role_arn:
            raise UnimplementedError("oidc_auth_role_arn is not available.", hint="Use a secret.")

    def spec(self, target: str) -> BucketMountSpec:
        """As plain data."""
        return BucketMountSpec(
            target=target,
            bucket=self.bucket_name,
            endpoint=self.bucket_endpoint_url or "",
            key_prefix=self.key_prefix or "",
            read_only=bool(self.read_only),
            requester_pays=bool(self.requester_pays),
            force_path_style=bool(self.force_path_style),
            secret=self.secret.spec if self.secret else None,
        )

    def remote(self, values: Mapping[str, str]) -> dict[str, str]:
        """See `bucket_remote.settings`."""
        return bucket_remote.settings(self.spec(""), values)
