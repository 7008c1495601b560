"""Who may look at the page: links that open it once, and the tokens that browsers get for them.

A token is no cookie: the browser keeps it for this very address and port, and sends it only where our own script says
so. So no other page can have a request made in its name, and nobody who listens on another port is told it.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import Callable

TICKET_LIFE = 600.0  # seconds in which a link can be opened
TOKEN_LIFE = 7 * 86400.0  # seconds after which a browser must be let in again
_LEAST = 32  # characters of a token that lies in a file
_MOST = 64  # of each kind; the oldest goes


class Sessions:
    """In memory only: with the host all of them end.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Digests, so that looking one up tells nothing of how much of a guess was right.
        self._tickets: OrderedDict[bytes, float] = OrderedDict()
        self._tokens: OrderedDict[bytes, float] = OrderedDict()
        self._scraping: bytes | None = None

    def allow_scraping(self, token: str) -> None:
        """Who says this may read the metrics, and nothing else."""
        if len(token) >= _LEAST:
            self._scraping = _digest(token)

    def may_scrape(self, token: str) -> bool:
        return self.is_known(token) or (self._scraping is not None and _digest(token) == self._scraping)

    def ticket(self) -> str:
        """What a link holds: good once, and for ten minutes."""
        return self._new(self._tickets)

    def redeem(self, ticket: str) -> str | None:
        """A token for a ticket; None for one that is used, too old, or none of ours."""
        made = self._tickets.pop(_digest(ticket), None)
        if made is None or self._clock() - made > TICKET_LIFE:
            return None
        return self._new(self._tokens)

    def is_known(self, token: str) -> bool:
        made = self._tokens.get(_digest(token))
        return made is not None and self._clock() - made <= TOKEN_LIFE

    def forget(self, token: str) -> None:
        """Idempotent."""
        self._tokens.pop(_digest(token), None)

    def _new(self, place: OrderedDict[bytes, float]) -> str:
        made = secrets.token_urlsafe(32)
        place[_digest(made)] = self._clock()
        while len(place) > _MOST:
            place.popitem(last=False)
        return made


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
