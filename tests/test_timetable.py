"""When a schedule runs, in the nights when clocks change above all. The table in `docs/schedules.md` is this one."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfn import Cron, Period
from cloudfn.spec import ScheduleSpec
from cloudfn.timetable import last_run, next_run, next_runs

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def cron_runs(line: str, zone: str, after: str, count: int) -> list[str]:
    spec = Cron(line, timezone=zone).spec
    found = next_runs(spec, utc(after), utc(after), count)
    return [run.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M %z") for run in found]


# Berlin: on 29 March 2026 at 02:00 clocks are put forward to 03:00, on 25 October at 03:00 back to 02:00.
@pytest.mark.parametrize(
    ("line", "after", "runs"),
    [
        ("30 4 * * *", "2026-03-28T12:00", ["03-29 04:30 +0200", "03-30 04:30 +0200"]),
        ("30 2 * * *", "2026-03-27T12:00", ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("*/30 2 * * *", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("*/30 * * * *", "2026-03-29T00:00", ["03-29 01:30 +0100", "03-29 03:00 +0200", "03-29 03:30 +0200"]),
        ("30 * * * *", "2026-03-29T00:00", ["03-29 01:30 +0100", "03-29 03:30 +0200", "03-29 04:30 +0200"]),
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("30 * * * *", "2026-10-24T23:45", ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"]),
        (
            "*/30 * * * *",
            "2026-10-25T00:00",
            ["10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"],
        ),
    ],
)
def test_cron_in_the_nights_of_change(line: str, after: str, runs: list[str]) -> None:
    assert cron_runs(line, BERLIN, after, len(runs)) == runs


@pytest.mark.parametrize(
    ("line", "after", "runs"),
    [
        ("0 0 29 2 *", "2026-01-01T00:00", ["02-29 00:00 +0000", "02-29 00:00 +0000"]),
        ("0 9 13 * FRI", "2026-11-12T00:00", ["11-13 09:00 +0000", "11-20 09:00 +0000", "11-27 09:00 +0000"]),
        ("0 9 * * MON-FRI", "2026-11-27T10:00", ["11-30 09:00 +0000", "12-01 09:00 +0000"]),
        ("59 23 31 * *", "2026-01-31T23:59", ["03-31 23:59 +0000", "05-31 23:59 +0000"]),
        ("0 0 * * 7", "2026-11-25T00:00", ["11-29 00:00 +0000"]),
    ],
)
def test_cron_in_utc(line: str, after: str, runs: list[str]) -> None:
    assert cron_runs(line, "UTC", after, len(runs)) == runs


def test_a_day_that_a_zone_left_out() -> None:
    """Samoa went from 29 to 31 December 2011."""
    assert cron_runs("0 12 * * *", "Pacific/Apia", "2011-12-29T20:00", 3) == [
        "12-29 12:00 -1000",
        "12-31 00:00 +1400",
        "12-31 12:00 +1400",
    ]


def test_a_line_that_never_comes_again() -> None:
    assert next_run(ScheduleSpec(cron="0 0 30 2 *"), utc("2026-01-01"), utc("2026-01-01")) is None


def period_runs(period: Period, anchor: str, count: int, zone: str = "UTC") -> list[str]:
    found = next_runs(period.spec, utc(anchor), utc(anchor), count, zone)
    return [run.isoformat()[:19] for run in found]


def test_months_come_back_to_the_day_they_began_on() -> None:
    assert period_runs(Period(months=1), "2026-01-31T10:00", 3) == [
        "2026-02-28T10:00:00",
        "2026-03-31T10:00:00",
        "2026-04-30T10:00:00",
    ]


def test_days_keep_the_time_of_day_and_hours_do_not() -> None:
    anchor = "2026-03-28T08:00"  # 09:00 in Berlin, the day before clocks change
    assert period_runs(Period(days=1), anchor, 2, BERLIN) == ["2026-03-29T07:00:00", "2026-03-30T07:00:00"]
    assert period_runs(Period(hours=24), anchor, 2, BERLIN) == ["2026-03-29T08:00:00", "2026-03-30T08:00:00"]


def test_a_day_of_a_period_that_falls_into_a_gap() -> None:
    assert period_runs(Period(days=1), "2026-03-28T01:30", 2, BERLIN) == ["2026-03-29T01:00:00", "2026-03-30T00:30:00"]


def test_seconds_may_be_fractions() -> None:
    runs = next_runs(Period(seconds=0.5).spec, utc("2026-01-01"), utc("2026-01-01"), 3)
    assert [run - utc("2026-01-01") for run in runs] == [timedelta(seconds=s) for s in (0.5, 1.0, 1.5)]


@settings(deadline=None, max_examples=60)
@given(
    line=st.sampled_from(["*/7 * * * *", "30 2 * * *", "0 */6 * * *", "15 1,2,3 * * SUN", "0 0 1 * *"]),
    zone=st.sampled_from(["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)),
)
def test_runs_go_forward_and_none_lies_between(line: str, zone: str, start: datetime) -> None:
    spec, after = Cron(line, timezone=zone).spec, start.replace(tzinfo=timezone.utc)
    runs = next_runs(spec, after, after, 4)
    assert runs == sorted(set(runs)) and runs[0] > after
    for early, late in itertools.pairwise(runs):
        middle = early + (late - early) / 2
        assert next_run(spec, after, middle) == late


@settings(deadline=None, max_examples=60)
@given(
    period=st.sampled_from(
        [Period(seconds=10), Period(hours=5), Period(days=1), Period(months=1), Period(weeks=1, hours=1)]
    ),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2028, 1, 1)),
    later=st.timedeltas(timedelta(0), timedelta(days=900)),
)
def test_a_period_is_found_from_anywhere(period: Period, start: datetime, later: timedelta) -> None:
    anchor = start.replace(tzinfo=timezone.utc)
    found = next_run(period.spec, anchor, anchor + later, BERLIN)
    assert found is not None and found > anchor + later
    assert last_run(period.spec, anchor, anchor, found, BERLIN) == found


def test_the_last_run_that_was_missed() -> None:
    spec = Cron("*/1 * * * *").spec
    start, end = utc("2026-01-01"), utc("2026-03-01T00:00:30")
    assert last_run(spec, start, start, end) == utc("2026-03-01")
    assert last_run(spec, start, end, end + timedelta(seconds=5)) is None
    yearly = Cron("0 0 1 1 *").spec
    assert last_run(yearly, start, utc("2020-06-01"), end) == start
