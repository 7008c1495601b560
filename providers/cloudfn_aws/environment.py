"""Finds a stack that is up: what it says of itself lies in its bucket, whose name follows from app, environment,
account and region. No Pulumi, and two requests; none when this machine has asked before."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Sequence

from botocore.exceptions import BotoCoreError, ClientError
from filelock import FileLock

from cloudfn import descriptor, plan_names
from cloudfn.descriptor import Descriptor
from cloudfn.exception import AuthError, Error, NotFoundError, PermissionDeniedError
from cloudfn.settings import Settings
from cloudfn_aws import errors

if TYPE_CHECKING:
    from boto3 import Session

DEFAULT_REGION = "us-east-1"
FRESH = 24 * 3600.0
"""Seconds for which what was read is believed. Whoever finds it wrong asks again at once (`find(..., again=True)`)."""
_GONE = ("NoSuchBucket", "NoSuchKey", "404", "NotFound")
_DENIED = ("AccessDenied", "403", "Forbidden")


def home(settings: Settings) -> str:
    """The region of bucket and controller."""
    return settings.regions[0] if settings.regions else DEFAULT_REGION


class Environments:
    """The stacks that these settings and credentials lead to.

    Args:
        folder: where what was read is kept.
    """

    def __init__(self, session: Session, settings: Settings, folder: Path) -> None:
        self._session = session
        self._settings = settings
        self._folder = folder

    @property
    def name(self) -> str:
        """Of the environment."""
        return self._settings.environment

    def find(self, app: str, again: bool = False) -> Descriptor:
        """The stack of an app.

        Args:
            again: do not believe what was kept.

        Raises:
            NotFoundError: there is none.
            AuthError, PermissionDeniedError, ConnectionError: AWS cannot be asked.
        """
        path = self._path(app)
        if not again and (kept := _kept(path)) is not None:
            return kept
        found = self._read(app)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            aside = path.with_suffix(f".{os.getpid()}")
            aside.write_text(json.dumps(descriptor.to_json(found)))
            aside.replace(path)
        return found

    def known(self) -> Sequence[str]:
        """The apps of this environment that were found before by these credentials' account, or any."""
        apps = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                kept = descriptor.from_json(path.read_bytes())
            except (OSError, Error):
                continue
            if kept.environment == self._settings.environment and kept.region == home(self._settings):
                apps.append(kept.app)
        return list(dict.fromkeys(apps))

    def forget(self, app: str) -> None:
        """Its stack is gone."""
        self._path(app).unlink(missing_ok=True)

    def _path(self, app: str) -> Path:
        """By who asks, too: other credentials may be of another account. Their id is no secret, and is hashed."""
        try:
            credentials = self._session.get_credentials()
        except BotoCoreError as error:
            raise AuthError(f"The AWS credentials cannot be read: {error}", hint=errors.LOG_IN) from error
        if credentials is None:
            raise AuthError("There are no AWS credentials here.", hint=errors.LOG_IN)
        who = credentials.get_frozen_credentials().access_key
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
        prefix = plan_names.prefix(app, self._settings.environment)
        key = json.dumps([who, endpoint, self._settings.account, home(self._settings), prefix])
        return self._folder / f"{prefix}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"

    def _read(self, app: str) -> Descriptor:
        region = home(self._settings)
        prefix = plan_names.prefix(app, self._settings.environment)
        with errors.translated(f"the stack of {app!r} could not be looked up", role=f"{prefix}-call"):
            account = self._account(region)
            bucket = f"{prefix}-{account}-{region}"
            try:
                # Names of buckets are anybody's to take: one of another account is not ours.
                said = self._session.client("s3", region_name=region).get_object(
                    Bucket=bucket, Key=descriptor.KEY, ExpectedBucketOwner=account
                )
                return descriptor.from_json(said["Body"].read())
            except ClientError as error:
                code = error.response.get("Error", {}).get("Code", "")
                if code in _GONE:
                    raise self._no_stack(app, account, region) from error
                if code in _DENIED:
                    raise PermissionDeniedError(
                        f"The stack of {app!r} in {account}, {region} is not there, or these credentials may not "
                        f"read s3://{bucket}/{descriptor.KEY}.",
                        hint=f"`cloudfn up` makes the stack; then the policy {prefix}-call has to be attached to you.",
                    ) from error
                raise

    def _account(self, region: str) -> str:
        said = self._session.client("sts", region_name=region).get_caller_identity()
        account = said["Account"]
        if self._settings.account and self._settings.account != account:
            raise AuthError(
                f"These credentials are of the AWS account {account} ({said['Arn']}), but the settings pin "
                f"{self._settings.account}.",
                hint="Choose other credentials (AWS_PROFILE), or another environment (--env).",
            )
        return account

    def _no_stack(self, app: str, account: str, region: str) -> NotFoundError:
        return NotFoundError(
            f"The app {app!r} has no stack in the environment {self._settings.environment!r} "
            f"(AWS account {account}, {region}).",
            hint="Make it: cloudfn up FILE. Or run here: CLOUDFN_PROVIDER=local",
        )


def _kept(path: Path) -> Descriptor | None:
    try:
        if time.time() - path.stat().st_mtime > FRESH:
            return None
        return descriptor.from_json(path.read_bytes())
    except (OSError, Error):  # not there, or written by another version: it is read again
        return None
