"""HTTP GET with patience, for public price lists. Only the standard library, so that prices need no extra."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import IO, Any, Callable, Iterator, Mapping

from cloudfn.exception import AuthError, ConnectionError, NotFoundError, ProtocolError

AGAIN = (429, 500, 502, 503, 504)
ATTEMPTS = 6
LONGEST = 60.0
"""Seconds to wait at most between two attempts, whatever the server asks for."""
Sleep = Callable[[float], None]


@contextmanager
def stream(url: str, headers: Mapping[str, str] | None = None, *, sleep: Sleep = time.sleep) -> Iterator[IO[bytes]]:
    """The body of a GET, to be read to its end. What means "later" (429, 5xx) is asked for again, after `Retry-After`.

    Args:
        sleep: waits some seconds.

    Raises:
        AuthError: 401 or 403.
        NotFoundError: 404.
        ConnectionError: no answer, or still "later" after `ATTEMPTS`; or cut off half-way.
        ProtocolError: any other status.
    """
    body = _open(url, headers or {}, sleep)
    try:
        with body:
            yield body
            # A reader by pieces sees a connection that was cut as the end of the body.
            if body.length:
                raise http.client.IncompleteRead(b"", body.length)
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionError(f"The answer of {_plain(url)} broke off: {error}.", hint="Try again.") from error


def json_object(url: str, headers: Mapping[str, str] | None = None, *, sleep: Sleep = time.sleep) -> dict[str, Any]:
    """The JSON object that a GET answers with; raises as `stream`."""
    with stream(url, headers, sleep=sleep) as body:
        text = body.read()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"{_plain(url)} answered with something that is no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise ProtocolError(f"{_plain(url)} answered with JSON that is no object.")
    return document


def _open(url: str, headers: Mapping[str, str], sleep: Sleep) -> Any:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers)), timeout=60)
        except urllib.error.HTTPError as error:
            with error:
                if error.code not in AGAIN:
                    raise _refusal(url, error) from error
                problem, wait = f"{error.code} {error.reason}", _retry_after(error)
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            problem, wait = str(getattr(error, "reason", error)), None
        if attempt < ATTEMPTS:
            sleep(min(LONGEST, wait if wait is not None else 2.0 ** (attempt - 1)))
    raise ConnectionError(
        f"{_plain(url)} gave no answer in {ATTEMPTS} attempts: {problem}.", hint="The old price table stays. Try later."
    )


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    said = error.read(2000).decode("utf-8", "replace").strip()
    message = f"{_plain(url)} answered {error.code} {error.reason}{': ' + said if said else ''}"
    kind = {401: AuthError, 403: AuthError, 404: NotFoundError}.get(error.code, ProtocolError)
    return kind(message)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    value = error.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _plain(url: str) -> str:
    return url.partition("?")[0]
