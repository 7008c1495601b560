"""When a deployed function runs by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Mapping, NoReturn

from cloudfn import argument, execution
from cloudfn.exception import InvalidError
from cloudfn.spec import ScheduleSpec


class Schedule:
    """What `Cron` and `Period` have in common: `spec`, what was asked for as plain data."""

    spec: ScheduleSpec


class Cron(Schedule):
    """Runs at the times that a crontab line names: `Cron("0 9 * * MON-FRI", timezone="Europe/Paris")`.

    The common ground of all cron engines is accepted: `*`, numbers, names (JAN, MON), ranges, lists and steps on `*`
    or a range. Sunday is 0 or 7. Where both a day of the month and a day of the week are given, either is enough.

    Args:
        cron_string: minute, hour, day of month, month, day of week.
        timezone: an IANA name, such as "America/New_York".

    Raises:
        InvalidError: the line can never run, or the zone does not exist.
    """

    def __init__(self, cron_string: str, timezone: str = "UTC") -> None:
        self.cron_string = cron_string
        self.timezone = timezone
        self.spec = ScheduleSpec(cron=_normalise(cron_string), timezone=_check_timezone(timezone))

    def __repr__(self) -> str:
        return f"Cron({self.cron_string!r}, timezone={self.timezone!r})"


class Period(Schedule):
    """Runs again and again, so much time apart: `Period(hours=4)`.

    Args:
        years, months, weeks, days, hours, minutes: whole numbers, 0 or more. `days=1` keeps the time of day where
            `hours=24` drifts by an hour when clocks change; `months=1` keeps the day of the month.
        seconds: may be a fraction.

    Raises:
        InvalidError: all are zero, or one is negative or not a number.
    """

    def __init__(
        self,
        *,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: float = 0,
    ) -> None:
        whole = {"years": years, "months": months, "weeks": weeks, "days": days, "hours": hours, "minutes": minutes}
        period: dict[str, float] = {name: argument.integer(name, value, low=0) for name, value in whole.items()}
        period["seconds"] = argument.number("seconds", seconds, low=0)
        period = {name: value for name, value in period.items() if value}
        if not period:
            raise InvalidError("Period() is zero long.", hint="Give it a length, for example Period(minutes=15).")
        self.spec = ScheduleSpec(period=period)

    def __repr__(self) -> str:
        return f"Period({', '.join(f'{name}={value:g}' for name, value in self.spec.period.items())})"


@dataclass(frozen=True)
class _Field:
    """One of the five columns; `names` are other spellings of its numbers."""

    title: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict)


_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"
_WEEKDAYS = "SUN MON TUE WED THU FRI SAT"
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, {name: i for i, name in enumerate(_MONTHS.split(), 1)}),
    _Field("day of week", 0, 7, {name: i for i, name in enumerate(_WEEKDAYS.split())}),
)
_LONGEST_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_ITEM = re.compile(r"(?:(?P<all>\*)|(?P<first>[0-9A-Z]+)(?:-(?P<last>[0-9A-Z]+))?)(?:/(?P<step>[0-9]{1,4}))?")
_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def _normalise(line: str) -> str:
    """The line with numbers for names and single spaces, so that every engine that runs it reads the same.

    Raises `InvalidError` that names the field and the part at fault.
    """
    if not isinstance(line, str):
        raise InvalidError(f"Cron({line!r}): must be a string, not {type(line).__name__}.")
    parts = line.split()
    if len(parts) != len(_FIELDS):
        hint = f"Write {_ALIASES[line.strip()]!r} instead." if line.strip() in _ALIASES else ""
        if len(parts) == 6:
            hint = "There are no seconds (nor years) in it: take the extra field out."
        raise InvalidError(
            f"Cron({line!r}): must have five fields ({', '.join(f.title for f in _FIELDS)}), not {len(parts)}.",
            hint=hint,
        )
    fields = [_parse_field(line, column, part) for column, part in zip(_FIELDS, parts, strict=True)]
    days, months = fields[2][0], fields[3][0]
    if parts[4].startswith("*") and min(days) > max(_LONGEST_MONTH[month - 1] for month in months):
        raise InvalidError(f"Cron({line!r}): no such day exists, so it would never run.")
    return " ".join(text for _, text in fields)


def _parse_field(line: str, column: _Field, part: str) -> tuple[set[int], str]:
    """The values that a field stands for, and its normal form."""
    values: set[int] = set()
    texts = []
    for item in part.split(","):
        match = _ITEM.fullmatch(item.upper())
        if match is None:
            _refuse(
                line,
                column,
                f"{item!r} is not understood",
                "Use *, numbers, ranges (1-5), lists (1,3) and steps (*/5).",
            )
        first, last, text = column.low, column.high, "*"
        if not match["all"]:
            first, last, text = _parse_range(line, column, item, match)
        step = int(match["step"] or 1)
        if not 1 <= step <= column.high:
            _refuse(line, column, f"the step in {item!r} must be 1 to {column.high}")
        values.update(range(first, last + 1, step))
        texts.append(f"{text}/{step}" if match["step"] else text)
    return values, ",".join(texts)


def _parse_range(line: str, column: _Field, item: str, match: re.Match[str]) -> tuple[int, int, str]:
    first = last = _parse_value(line, column, match["first"])
    if match["last"] is None:
        if match["step"]:
            # Some engines read 5/10 as 5-59/10, some as 5 alone, some refuse it.
            _refuse(line, column, f"a step needs a range: {item!r}", f"Write {first}-{column.high}/{match['step']}.")
        return first, last, str(first)
    last = _parse_value(line, column, match["last"])
    if last < first and column.names.get(match["last"]) == 0:
        last = 7  # FRI-SUN: as the end of a range Sunday is the seventh day
    if last < first:
        _refuse(line, column, f"the range {item!r} runs backwards", "Write it as a list of two ranges.")
    return first, last, f"{first}-{last}"


def _parse_value(line: str, column: _Field, text: str) -> int:
    if text in column.names:
        return column.names[text]
    if not text.isdigit() or len(text) > 4 or not column.low <= int(text) <= column.high:
        names = f" or {' '.join(column.names)}" if column.names else ""
        _refuse(line, column, f"{text!r} must be {column.low} to {column.high}{names}")
    return int(text)


def _refuse(line: str, column: _Field, why: str, hint: str = "") -> NoReturn:
    raise InvalidError(f"Cron({line!r}): in the field {column.title!r}, {why}.", hint=hint)


def _check_timezone(name: str) -> str:
    # A worker imports the user's module too, perhaps in an image without zone data, and runs no schedule itself.
    if name == "UTC" or execution.in_worker:
        return name
    if not isinstance(name, str):
        raise InvalidError(f"timezone={name!r}: must be the name of a time zone, not {type(name).__name__}.")
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):  # the last two for "", "../x" and "Europe"
        raise _unknown_timezone(name, zoneinfo.available_timezones()) from None
    return name


def _unknown_timezone(name: str, known: set[str]) -> InvalidError:
    import difflib

    message = f"timezone={name!r}: there is no such time zone."
    if not known:
        return InvalidError(message, hint="This machine has no time zones at all: pip install tzdata")
    near = difflib.get_close_matches(name, known, n=1)
    return InvalidError(message, hint=f"Did you mean {near[0]!r}?" if near else "For example 'Europe/Paris' or 'UTC'.")
