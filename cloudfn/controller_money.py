"""What has been spent, what may still be granted: machine-seconds x price, summed where capacity is granted.

Two limits. The hourly cap bounds what all machines together cost in an hour at any moment. The monthly cap bounds what
they have cost since the first of the month (UTC) plus what they would go on costing if they were all told to go now:
a machine may take `drain_limit` to finish its work, and the controller itself may not run for a while. So draining
begins before the cap, and what is granted still fits below it.
"""

from __future__ import annotations

import math
from datetime import datetime, timezone

from cloudfn.controller_facts import Facts, GroupFacts
from cloudfn.controller_state import DRAINING, GONE, Machine, State

ABSENCE = 360.0
"""Seconds for which the controller may not run."""
MANY = 1_000_000
USEFUL = 300.0
"""Seconds that a machine should be able to work for, to be worth starting below the cap."""


def month(now: float) -> str:
    """ "2026-11", in UTC."""
    return datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m")


def month_start(now: float) -> float:
    """When it began."""
    moment = datetime.fromtimestamp(now, timezone.utc)
    return datetime(moment.year, moment.month, 1, tzinfo=timezone.utc).timestamp()


def cost(machine: Machine, facts: Facts, since: float, now: float) -> float:
    """US dollars of a machine from `since` on; 0 where its price is unknown."""
    group = facts.groups.get(machine.group)
    seconds = max(0.0, (machine.ended or now) - max(machine.started, since))
    return seconds * ((group.usd_per_hour or 0.0) if group else 0.0) / 3600


def spent(state: State, facts: Facts, now: float) -> float:
    """US dollars in this month."""
    start = month_start(now)
    closed = state.closed_usd if state.month == month(now) else 0.0
    return closed + sum(cost(machine, facts, start, now) for machine in state.machines.values())


def roll(state: State, facts: Facts, now: float) -> None:
    """A new month, or a higher cap: what was reached does not count any more."""
    if state.month != month(now):
        state.month, state.closed_usd, state.over_cap = month(now), 0.0, 0.0
    if state.over_cap and (facts.caps.monthly is None or facts.caps.monthly > state.over_cap):
        state.over_cap = 0.0


def committed(state: State, group: str, now: float, *, late: bool = True) -> int:
    """Machines of a group that cost money, or may from now on.

    Args:
        late: count those, too, that may still come though they are not asked for any more.
    """
    known = state.groups[group]
    going = sum(machine.group == group and machine.state == DRAINING for machine in state.machines.values())
    coming = known.withdrawn if late and known.settled_at > now else 0
    return max(known.target + going, known.held) + coming


def rate(state: State, facts: Facts, now: float, *, late: bool = True) -> float:
    """US dollars an hour of all that is committed, see `committed`; groups whose price is unknown left out."""
    return sum(
        committed(state, name, now, late=late) * (group.usd_per_hour or 0.0) for name, group in facts.groups.items()
    )


def horizon(facts: Facts) -> float:
    """Seconds for which machines may go on costing money after it was time to tell them to go."""
    return facts.drain_limit + ABSENCE


def is_over(state: State, facts: Facts, now: float) -> bool:
    """Whether it is time to drain everything, lest the monthly cap be passed."""
    cap = facts.caps.monthly
    if cap is None:
        return False
    running = any(machine.state != GONE for machine in state.machines.values())
    return running and spent(state, facts, now) + rate(state, facts, now) * horizon(facts) / 3600 >= cap


class Purse:
    """How many more machines may be granted; kept up to date while one decision grants them."""

    def __init__(self, state: State, facts: Facts, now: float) -> None:
        self._caps = facts.caps
        self._rate = rate(state, facts, now)
        # The plan's worst case is an estimate, no promise: it need not hold while one group's machine comes late.
        self._late = self._rate - rate(state, facts, now, late=False)
        self._spent = spent(state, facts, now)
        self._hours = (horizon(facts) + USEFUL) / 3600
        self._over = bool(state.over_cap)

    def affords(self, group: GroupFacts, machines: int) -> int:
        """How many of so many machines of a group."""
        return max(0, min(machines, self._most(group)))

    def take(self, group: GroupFacts, machines: int) -> None:
        """They are granted."""
        self._rate += machines * (group.usd_per_hour or 0.0)

    def why_not(self, group: GroupFacts) -> tuple[str, bool]:
        """Why none of a group, in words, and whether waiting may help; "" if it is not for the money."""
        caps, price = self._caps, group.usd_per_hour
        if self._most(group) > 0:
            return "", True
        hourly, words = self._hourly()
        if price is None:
            return f"the price of {group.type} is unknown, and a cap is set", False
        if caps.monthly is not None and (self._over or self._monthly(price) <= 0):
            return (
                f"the monthly cap of {caps.monthly:,.2f} USD is reached: {self._spent:,.2f} USD are spent, the rest is "
                "kept for machines to finish their work",
                bool(self._rate) and not self._over and self._monthly(price, rate=0.0) > 0,
            )
        return (
            f"{words} of {hourly:,.2f} USD is reached: machines cost {self._rate:,.2f} USD an hour, "
            f"one {group.type} {price:,.2f} USD more",
            price <= hourly,
        )

    def _hourly(self) -> tuple[float, str]:
        """The least of what an hour may cost, and what that is."""
        caps = self._caps
        limits = [] if caps.hourly is None else [(caps.hourly, "the hourly cap")]
        limits += [] if caps.planned is None else [(caps.planned + self._late, "the plan's worst case for an hour")]
        return min(limits, default=(math.inf, ""))

    def _most(self, group: GroupFacts) -> int:
        caps, price = self._caps, group.usd_per_hour
        if price is None:
            return MANY if caps.hourly is None and caps.monthly is None else 0
        if self._over:
            return 0
        most = float(MANY)
        if price:
            most = min(most, (self._hourly()[0] - self._rate + 1e-9) / price)
        if caps.monthly is not None:
            most = min(most, self._monthly(price))
        return max(0, int(most))

    def _monthly(self, price: float, rate: float | None = None) -> float:
        left = (self._caps.monthly or 0.0) - self._spent - (self._rate if rate is None else rate) * self._hours
        return int(left / (price * self._hours)) if price else (float(MANY) if left >= 0 else 0.0)
