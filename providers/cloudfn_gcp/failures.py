"""What Google's messages mean, as the engine passes them on from its provider."""

from __future__ import annotations

import re

from cloudfn.exception import AuthError, Error, PermissionDeniedError, ResourceExhaustedError
from cloudfn_gcp.google_api import LOGIN

_LOGGED_OUT = re.compile(
    r"could not find default credentials|invalid_grant|Error 401|reauth related error|oauth2: cannot fetch token"
    r"|invalid authentication credentials",
    re.I,
)
_DISABLED = re.compile(r"accessNotConfigured|SERVICE_DISABLED", re.I)
_SERVICE = re.compile(r"\b([a-z]+)\.googleapis\.com")
_LACKS = re.compile(r"(?:Required|Permission) '?([a-zA-Z]+(?:\.[a-zA-Z]+)+)'? (?:permission|denied)")
_QUOTA = re.compile(r"Quota '([A-Z0-9_a-z-]+)' exceeded\.?(?:\s*Limit: ([0-9.]+))?(?: in region ([a-z0-9-]+))?")
_FORBIDDEN = re.compile(r"Error 403|PERMISSION_DENIED|does not have \S+ access", re.I)


def explain(message: str) -> Error | None:
    """See `Account.explain`."""
    if _LOGGED_OUT.search(message):
        return AuthError("Google does not take this machine's credentials.", hint=f"Log in: {LOGIN}")
    if _DISABLED.search(message):
        named = _SERVICE.search(message)
        service = f"{named[1]}.googleapis.com" if named else "An API"
        hint = "It may take some minutes until it works; else switch it on: gcloud services enable " + (
            service if named else "SERVICE"
        )
        return PermissionDeniedError(f"{service} is off in this project.", hint=hint)
    lacks = _LACKS.search(message)
    if lacks:
        return PermissionDeniedError(
            f"The permission {lacks[1]} is missing.", hint="Ask an owner of the project for a role that has it."
        )
    quota = _QUOTA.search(message)
    if quota:
        limit = f" of {quota[2].rstrip('.')}" if quota[2] else ""
        where = f" in {quota[3]}" if quota[3] else ""
        return ResourceExhaustedError(
            f"The quota {quota[1]}{limit}{where} is used up.",
            hint="Ask for more: https://console.cloud.google.com/iam-admin/quotas",
        )
    if _FORBIDDEN.search(message):
        return PermissionDeniedError(
            "Google refused it for lack of a permission.", hint="Ask an owner of the project for a role that has it."
        )
    return None
