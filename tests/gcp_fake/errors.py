"""How Google's APIs say no."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """An answer other than success.

    Args:
        code: HTTP status.
        reason: of the older APIs ("notFound"); the newer ones get `status` from the code.
        message: for people.
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

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message

    def body(self) -> dict[str, Any]:
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "status": self.STATUS.get(self.code, "UNKNOWN"),
                "errors": [{"message": self.message, "domain": "global", "reason": self.reason}],
            }
        }


def not_found(what: str) -> Refused:
    return Refused(404, "notFound", f"The resource '{what}' was not found")


def exists(what: str) -> Refused:
    return Refused(409, "alreadyExists", f"The resource '{what}' already exists")


def invalid(message: str) -> Refused:
    return Refused(400, "invalid", f"Invalid value: {message}")


def in_use(what: str, by: str) -> Refused:
    return Refused(400, "resourceInUseByAnotherResource", f"The resource '{what}' is already being used by '{by}'")
