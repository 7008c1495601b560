"""How Google's APIs say no."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """An answer other than success.

    Args:
        code: HTTP status.
        reason: of the older APIs ("notFound"); the newer ones get `status` from the code.
        message: for people.
        details: more for programs.
    """

    STATUS = {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        409: "ALREADY_EXISTS",
        412: "FAILED_PRECONDITION",
        429: "RESOURCE_EXHAUSTED",
        501: "UNIMPLEMENTED",
        503: "UNAVAILABLE",
    }

    def __init__(self, code: int, reason: str, message: str, *details: dict[str, Any]) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details

    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": self.STATUS.get(self.code, "UNKNOWN"),
            "errors": [{"message": self.message, "domain": "global", "reason": self.reason}],
        }
        return {"error": {**error, "details": list(self.details)} if self.details else error}


def not_found(what: str) -> Refused:
    return Refused(404, "notFound", f"The resource '{what}' was not found")


def disabled(service: str, project: str) -> Refused:
    message = f"{service} has not been used in project {project} before or it is disabled."
    detail = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": f"projects/{project}"},
    }
    return Refused(403, "accessNotConfigured", message, detail)


def exists(what: str) -> Refused:
    return Refused(409, "alreadyExists", f"The resource '{what}' already exists")


def invalid(message: str) -> Refused:
    return Refused(400, "invalid", f"Invalid value: {message}")


def in_use(what: str, by: str) -> Refused:
    return Refused(400, "resourceInUseByAnotherResource", f"The resource '{what}' is already being used by '{by}'")
