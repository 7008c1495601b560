"""The bucket that keeps the engine's state in the user's project, and the key that encrypts secrets in it."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Mapping

from cloudfn.exception import AlreadyExistsError, InvalidError, NotFoundError, PermissionDeniedError, StateError
from cloudfn_gcp.google_api import Body, Connect, call

Consent = Callable[[str], bool]

LABELS = {"cloudfn-state": "true"}
KEY_RING = "cloudfn"
KEY = "state"
ROTATION = 90
"""Days after which Cloud KMS takes a new version of the key; it keeps the old ones for what they encrypted."""
KEPT = 50
"""Older versions of an object that stay however old they are; the others go after a year."""

_WANTED: Mapping[str, Body] = {
    "versioning": {"enabled": True},
    "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
}
_LIFECYCLE = {
    "rule": [{"action": {"type": "Delete"}, "condition": {"numNewerVersions": KEPT, "daysSinceNoncurrentTime": 365}}]
}


def name(project: str) -> str:
    """Of the bucket. Projects of a domain have "." and ":", which bucket names may not have."""
    return f"cloudfn-state-{re.sub(r'[^a-z0-9-]', '-', project)}"


def ensure_bucket(storage: Any, projects: Any, bucket: str, project: str, region: str, create: Consent) -> str:
    """The bucket's location, in lower case ("us-central1", "eu"), once it is there and as it must be.

    Raises:
        NotFoundError: there is none, or it is open, and the user wants nothing made or changed.
        PermissionDeniedError: somebody else's project has a bucket of this name.
    """
    try:
        found = call(storage.buckets().get(bucket=bucket), f"looking for the state bucket {bucket}")
    except NotFoundError:
        _consent(create, f"bucket gs://{bucket} in {region}: versioned, encrypted, closed to the public")
        body = {"name": bucket, "location": region.upper(), "labels": LABELS, "lifecycle": _LIFECYCLE, **_WANTED}
        found = call(storage.buckets().insert(project=project, body=body), f"making the state bucket {bucket}")
        return str(found["location"]).lower()
    _check_owner(found, projects, bucket, project)
    wrong = {field: value for field, value in _WANTED.items() if not _holds(found.get(field, {}), value)}
    if wrong:
        _consent(
            create, f"settings of the bucket gs://{bucket}: versioned, one access rule for all, closed to the public"
        )
        call(storage.buckets().patch(bucket=bucket, body=wrong), f"closing the state bucket {bucket}")
    return str(found["location"]).lower()


RIGHTS = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
"""What the engine does in the bucket."""


def check_rights(storage: Any, bucket: str) -> None:
    """Raises `PermissionDeniedError` with the rights in the bucket that the caller lacks: the engine would say no more
    than that it was refused, and perhaps half-way."""
    request = storage.buckets().testIamPermissions(bucket=bucket, permissions=list(RIGHTS))
    held = call(request, f"asking what we may do in gs://{bucket}").get("permissions", ())
    missing = [right for right in RIGHTS if right not in held]
    if missing:
        raise PermissionDeniedError(
            f"In the state's bucket gs://{bucket} you lack {', '.join(missing)}.",
            hint=f"Ask its owner: gcloud storage buckets add-iam-policy-binding gs://{bucket} "
            "--member=user:YOU --role=roles/storage.objectUser",
        )


def ensure_key(connect: Connect, project: str, location: str, create: Consent) -> str:
    """Pulumi's URL of the key; raises as `ensure_bucket`."""
    keys = connect("cloudkms", "v1").projects().locations().keyRings()
    parent = f"projects/{project}/locations/{location}"
    ring = f"{parent}/keyRings/{KEY_RING}"
    key = f"{ring}/cryptoKeys/{KEY}"
    try:
        found = call(keys.cryptoKeys().get(name=key), f"looking for the key {key}")
    except NotFoundError:
        _consent(
            create,
            f"Cloud KMS key {key}: encrypts secrets in the state; about 0.06 USD a month and version, and it stays",
        )
        _unless_there(keys.create(parent=parent, keyRingId=KEY_RING, body={}), f"making the key ring {ring}")
        period = f"{ROTATION * 86400}s"
        body = {"purpose": "ENCRYPT_DECRYPT", "rotationPeriod": period, "nextRotationTime": _in_days(ROTATION)}
        _unless_there(keys.cryptoKeys().create(parent=ring, cryptoKeyId=KEY, body=body), f"making the key {key}")
        return f"gcpkms://{key}"
    state = found.get("primary", {}).get("state", "ENABLED")
    if state != "ENABLED":
        raise InvalidError(
            f"The key {key} is {state}: the state's secrets cannot be read with it.",
            hint=f"gcloud kms keys versions list --key={KEY} --keyring={KEY_RING} --location={location}",
        )
    return f"gcpkms://{key}"


def _check_owner(found: Body, projects: Any, bucket: str, project: str) -> None:
    """Bucket names are the world's: somebody could have taken this one, to read what is put there or to be believed."""
    number = call(projects.get(projectId=project), f"looking at the project {project}")["projectNumber"]
    if str(found.get("projectNumber")) != str(number):
        raise PermissionDeniedError(
            f"The bucket gs://{bucket} belongs to another project than {project}: it is not used for the state.",
            hint='Name a bucket of your own: [state] url = "gs://..." in cloudfn.toml.',
        )


def read(storage: Any, projects: Any, url: str, project: str, path: str) -> bytes | None:
    """See `Account.read_state`."""
    scheme, _, place = url.partition("://")
    if scheme != "gs":
        raise StateError(f"The state is kept in {url.partition('?')[0]}, which only the engine reads.")
    bucket, _, folder = place.partition("?")[0].partition("/")
    key = "/".join(part for part in (folder.strip("/"), path) if part)
    try:
        found = call(storage.buckets().get(bucket=bucket), f"looking for the state bucket {bucket}")
        _check_owner(found, projects, bucket, project)
        content: Any = call(storage.objects().get_media(bucket=bucket, object=key), "reading the state")
    except NotFoundError:
        return None
    return bytes(content)


def _consent(create: Consent, line: str) -> None:
    if not create(line):
        raise NotFoundError(
            f"Not made: {line}.",
            hint='Agree to it, or keep the state elsewhere: [state] backend = "file" in cloudfn.toml.',
        )


def _unless_there(request: Any, what: str) -> None:
    """Key rings and keys are never deleted, so one of an earlier time, or of a colleague's `up` just now, is taken."""
    try:
        call(request, what)
    except AlreadyExistsError:
        return


def _holds(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(_holds(found.get(field), value) for field, value in wanted.items())
    return bool(found == wanted)


def _in_days(days: int) -> str:
    return (datetime.now(timezone.utc) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
