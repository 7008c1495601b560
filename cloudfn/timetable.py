"""When a schedule runs next. Pure: an instant goes in, the next one comes out. `docs/schedules.md` has the policy.

Instants are aware datetimes in UTC. A cron line is matched against the wall clock of its time zone:

- A time that does not exist (clocks were put forward over it) runs once, at the first moment after the gap, if the line
  names its hours. A line that runs in every hour just goes on after the gap.
- A time that comes twice (clocks were put back) runs at the first of both, if the line names its hours. A line that
  runs in every hour runs both times.

The n-th run of a period is counted from its anchor, so that `months=1` from the 31st comes back to the 31st.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Iterator
from zoneinfo import ZoneInfo

from cloudfn.spec import ScheduleSpec

_SHIFT = timedelta(hours=3)  # more than any zone puts its clocks back in one step (but for moves of the date line)
_FAR = timedelta(days=366 * 9)  # "29 February" comes back within this


def next_run(spec: ScheduleSpec, anchor: datetime, after: datetime, zone: str = "UTC") -> datetime | None:
    """The first instant later than `after`; None for a line that never comes again.

    Args:
        anchor: where a period is counted from.
        zone: of a period's wall clock, as `days=1` keeps the time of day.
    """
    if spec.cron:
        return _next_cron(spec.cron, ZoneInfo(spec.timezone), after)
    return _next_period(spec, anchor, after, ZoneInfo(zone))


def next_runs(spec: ScheduleSpec, anchor: datetime, after: datetime, count: int, zone: str = "UTC") -> list[datetime]:
    """The next `count` instants."""
    found: list[datetime] = []
    for _ in range(count):
        following = next_run(spec, anchor, found[-1] if found else after, zone)
        if following is None:
            break
        found.append(following)
    return found


def last_run(
    spec: ScheduleSpec, anchor: datetime, after: datetime, until: datetime, zone: str = "UTC"
) -> datetime | None:
    """The latest instant with `after` < it <= `until`: of the runs that were missed, the one to make up for."""
    found = None
    # Looked for from near the end first: a line for every minute, after a week, would be ten thousand steps.
    for span in (timedelta(hours=2), timedelta(days=2), timedelta(days=70), until - after):
        start = max(after, until - span)
        following = next_run(spec, anchor, start, zone)
        while following is not None and following <= until:
            found = following
            following = next_run(spec, anchor, following, zone)
        if found is not None or start == after:
            return found
    return found


def _next_cron(line: str, zone: ZoneInfo, after: datetime) -> datetime | None:
    every_hour = line.split()[1] == "*"
    best: datetime | None = None
    local = after.astimezone(zone).replace(tzinfo=None)
    for wall in _walls(line, local - _SHIFT, local + _FAR):
        if best is not None and wall > best.astimezone(zone).replace(tzinfo=None) + _SHIFT:
            break
        for instant in _instants(wall, zone, every_hour):
            if instant > after and (best is None or instant < best):
                best = instant
    return best


def _walls(line: str, start: datetime, end: datetime) -> Iterator[datetime]:
    """Times of the wall clock that a line names, without any zone."""
    from croniter import CroniterBadDateError, croniter

    # Both given, either is enough; `max_years_between_matches` ends the search of "30 February".
    found = croniter(line, start - timedelta(seconds=1), day_or=True, max_years_between_matches=9)
    while True:
        try:
            wall: datetime = found.get_next(datetime)
        except CroniterBadDateError:
            return
        if wall > end:
            return
        yield wall


def _instants(wall: datetime, zone: ZoneInfo, every_hour: bool) -> list[datetime]:
    """When a wall clock shows this time: mostly once, in the night of a change not at all or twice."""
    first, second = (
        wall.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc) for fold in (0, 1)
    )  # equal but for those nights
    if first == second:
        return [first]
    if first < second:  # comes twice
        return [first, second] if every_hour else [first]
    if every_hour:
        return []
    return [_end_of_gap(second, first, zone)]


def _end_of_gap(early: datetime, late: datetime, zone: ZoneInfo) -> datetime:
    """The first moment after a gap that lies between two instants, to the second."""
    offset = early.astimezone(zone).utcoffset()
    low, high = early, late
    while high - low > timedelta(seconds=1):
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high


def _next_period(spec: ScheduleSpec, anchor: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    from dateutil.relativedelta import relativedelta

    names = ("years", "months", "weeks", "days", "hours", "minutes", "seconds")
    lengths = (365.2425 * 86400, 30.436875 * 86400, 7 * 86400, 86400, 3600, 60, 1)
    approximate = sum(spec.period.get(name, 0) * length for name, length in zip(names, lengths, strict=True))
    dates = {name: int(spec.period[name]) for name in names[:4] if spec.period.get(name)}
    clock = timedelta(**{name: spec.period[name] for name in names[4:] if spec.period.get(name)})

    def run(number: int) -> datetime:
        moved = anchor
        if dates:
            wall = anchor.astimezone(zone).replace(tzinfo=None)
            wall += relativedelta(**{name: value * number for name, value in dates.items()})  # type: ignore[arg-type]
            moved = _instants(wall, zone, every_hour=False)[0]
        return moved + clock * number

    number = max(0, int((after - anchor).total_seconds() / approximate) - 2)
    while number < 1 or run(number) <= after:
        number += 1
    while number > 1 and run(number - 1) > after:
        number -= 1
    return run(number)
