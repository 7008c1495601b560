"""The cloud's clock: real time, and what tests have let pass at once."""

from __future__ import annotations

import datetime
import time


class CloudClock:
    """EC2, Auto Scaling, Lambda and the bill go by it. Machines and callers have clocks of their own, which are right.

    Attributes:
        ahead: seconds that it is ahead of real time.
    """

    def __init__(self) -> None:
        self.ahead = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time() + self.ahead

    def datetime(self) -> datetime.datetime:
        """The same, in UTC."""
        return datetime.datetime.fromtimestamp(self.now(), datetime.timezone.utc)
