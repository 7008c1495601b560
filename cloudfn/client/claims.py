"""How many machines are wanted, and what people hear while they wait for them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

if TYPE_CHECKING:
    from cloudfn.provider import Fleet, Need, Report, Waiting

LET_GO = 10.0  # seconds that fewer machines must be enough before the fleet hears of it
REPEAT = 15.0  # seconds between lines that say the same


@dataclass
class _Claim:
    asked: int = 0
    lower_since: float | None = None
    waits_since: float | None = None
    text: str = ""
    said: tuple[str, float] = field(default=("", 0.0))


class Claims:
    """One for each need. Everything runs on the reactor's thread."""

    def __init__(self, fleet: Fleet, report: Report, now: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._report = report
        self._now = now
        self._claims: dict[Need, _Claim] = {}

    def set(self, need: Need, machines: int) -> None:
        """So many are wanted. More are asked for at once, fewer after a while."""
        claim = self._claims.setdefault(need, _Claim())
        if machines >= claim.asked:
            claim.lower_since = None
            if machines > claim.asked:
                claim.asked = machines
                self._fleet.want(need, machines)
            return
        now = self._now()
        if claim.lower_since is None:
            claim.lower_since = now
        elif now - claim.lower_since >= LET_GO:
            claim.asked, claim.lower_since = machines, None
            self._fleet.want(need, machines)

    def settled(self, need: Need) -> bool:
        """Nothing is asked for any more."""
        claim = self._claims.get(need)
        return claim is None or claim.asked == 0

    def refused(self, need: Need) -> None:
        """The fleet gave up: the next `set` asks again."""
        claim = self._claims.setdefault(need, _Claim())
        claim.asked, claim.lower_since = 0, None

    # -- words

    def heard(self, waiting: Waiting) -> None:
        """The fleet says what it waits for."""
        claim = self._claims.setdefault(waiting.need, _Claim())
        claim.text = waiting.text
        self._say(claim)

    def waits(self, need: Need, waits: bool) -> None:
        """Whether any input waits for a machine of this need now."""
        claim = self._claims.setdefault(need, _Claim())
        if not waits:
            claim.waits_since, claim.text, claim.said = None, "", ("", 0.0)
            return
        if claim.waits_since is None:
            claim.waits_since = self._now()
        self._say(claim)

    def _say(self, claim: _Claim) -> None:
        now = self._now()
        text, when = claim.said
        if not claim.text or (claim.text == text and now - when < REPEAT):
            return
        claim.said = (claim.text, now)
        seconds = int(now - claim.waits_since) if claim.waits_since is not None else 0
        self._report(f"{claim.text} ({seconds} s)" if seconds else claim.text)
