"""What rclone must know of a bucket, credentials included."""

from __future__ import annotations

from typing import Mapping
from urllib.parse import urlsplit

from cloudfn.exception import InvalidError
from cloudfn.spec import BucketMountSpec

_GOOGLE = "storage.googleapis.com"


def settings(bucket: BucketMountSpec, values: Mapping[str, str]) -> dict[str, str]:
    """The settings of rclone's S3 backend.

    Args:
        values: those of the bucket's secret.

    Raises:
        InvalidError: the secret lacks a key.
    """
    is_google = (urlsplit(bucket.endpoint).hostname or "").endswith(_GOOGLE)
    made = {
        "type": "s3",
        "provider": "GCS" if is_google else "Other" if bucket.endpoint else "AWS",
        "force_path_style": "true" if bucket.force_path_style or (bucket.endpoint and not is_google) else "false",
        "no_check_bucket": "true",  # never make one
    }
    if bucket.endpoint:
        made["endpoint"] = bucket.endpoint
    if region := values.get("AWS_REGION") or values.get("AWS_DEFAULT_REGION"):
        made["region"] = region
    if bucket.requester_pays:
        made["requester_pays"] = "true"
    if bucket.secret is None:
        return made
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    if is_google and "GOOGLE_ACCESS_KEY_ID" in values:
        names = ("GOOGLE_ACCESS_KEY_ID", "GOOGLE_ACCESS_KEY_SECRET")
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise InvalidError(
            f"The secret for the bucket {bucket.bucket!r} lacks {', '.join(missing)}.",
            hint="Store it again with both keys: cloudfn secret create NAME --force KEY ...",
        )
    made["access_key_id"], made["secret_access_key"] = (values[name] for name in names)
    if token := values.get("AWS_SESSION_TOKEN"):
        made["session_token"] = token
    return made
