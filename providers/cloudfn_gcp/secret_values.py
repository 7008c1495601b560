"""Values of secrets, put into the places that the stack made for them: they never pass through plan or state."""

from __future__ import annotations

import base64
import json
from typing import Any, Mapping

from cloudfn.exception import NotFoundError, PermissionDeniedError
from cloudfn.plan_spec import Plan
from cloudfn_gcp.google_api import call
from cloudfn_gcp.permissions import secret_id


def put(secrets: Any, plan: Plan, project: str, name: str, values: Mapping[str, str]) -> None:
    """Add a version with these values, as a JSON object, unless the latest one holds them already: each version costs.

    Args:
        secrets: client of the collection `projects.secrets`.
        name: of a `SecretPlan`.

    Raises:
        NotFoundError: the stack made no place for it.
    """
    parent = f"projects/{project}/secrets/{secret_id(name).replace('{prefix}', plan.prefix)}"
    payload = json.dumps(dict(values), sort_keys=True, separators=(",", ":")).encode()
    if _latest(secrets, parent) == payload:
        return
    body = {"payload": {"data": base64.b64encode(payload).decode()}}
    try:
        call(secrets.addVersion(parent=parent, body=body), f"setting the secret {name}")
    except NotFoundError as error:
        raise NotFoundError(
            f"The stack {plan.stack} has no place for the secret {name!r} ({parent}).", hint="Run `cloudfn up` first."
        ) from error


def _latest(secrets: Any, parent: str) -> bytes | None:
    """None where there is none yet, or where the caller may write secrets but not read them."""
    try:
        found = call(secrets.versions().access(name=f"{parent}/versions/latest"), "comparing a secret")
    except (NotFoundError, PermissionDeniedError):
        return None
    return base64.b64decode(found["payload"]["data"])
