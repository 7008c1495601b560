from __future__ import annotations

import inspect
import math
from typing import Any

import modal
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import execution
from cloudfn.exception import InvalidError
from cloudfn.schedule import Cron, Period, Schedule
from cloudfn.spec import ScheduleSpec, canonical


@pytest.mark.parametrize("name", ["Cron", "Period"])
def test_signatures_are_modals(name: str) -> None:
    theirs = inspect.signature(getattr(modal, name)).parameters.values()
    ours = inspect.signature({"Cron": Cron, "Period": Period}[name]).parameters.values()
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_a_schedule_is_plain_data() -> None:
    cron = Cron("5 4 * * *", timezone="America/New_York")
    assert isinstance(cron, Schedule) and isinstance(Period(days=1), Schedule)
    assert cron.spec == ScheduleSpec(cron="5 4 * * *", timezone="America/New_York")
    assert repr(cron) == "Cron('5 4 * * *', timezone='America/New_York')"
    assert canonical(dict(Period(days=1, seconds=0.5).spec.period)) == b'{"days":1,"seconds":0.5}'


@pytest.mark.parametrize(
    ("line", "normal"),
    [
        ("* * * * *", "* * * * *"),
        ("  5   4 *\t* * ", "5 4 * * *"),
        ("*/15 0-6/2,12 1,15 * *", "*/15 0-6/2,12 1,15 * *"),
        ("0 9 * * MON-FRI", "0 9 * * 1-5"),
        ("0 9 * jan,Jul mon,wed-fri/2", "0 9 * 1,7 1,3-5/2"),
        ("0 9 * * 7", "0 9 * * 7"),
        ("0 9 * * FRI-SUN", "0 9 * * 5-7"),
        ("0 9 * * SUN-TUE", "0 9 * * 0-2"),
        ("0 9 * * SUN-SUN", "0 9 * * 0-0"),
        ("007 09 * * *", "7 9 * * *"),
        ("0 0 29 2 *", "0 0 29 2 *"),
        ("0 0 31 FEB MON", "0 0 31 2 1"),  # runs on Mondays in February
    ],
)
def test_valid_lines_are_brought_to_one_form(line: str, normal: str) -> None:
    assert Cron(line).spec.cron == normal
    assert Cron(normal).spec.cron == normal


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0 0 12 * * *", "five fields (minute, hour, day of month, month, day of week), not 6"),
        ("* * * *", "not 4"),
        ("", "not 0"),
        ("60 * * * *", "'minute', '60' must be 0 to 59"),
        ("* 24 * * *", "'hour', '24'"),
        ("* * 0 * *", "'day of month', '0' must be 1 to 31"),
        ("* * * 13 *", "'month', '13'"),
        ("* * * FOO *", "'month', 'FOO'"),
        ("* * * * 8", "'day of week', '8'"),
        ("* * MON * *", "'day of month', 'MON'"),
        ("*/0 * * * *", "step in '*/0' must be 1 to 59"),
        ("*/90 * * * *", "step in '*/90'"),
        ("*/" + "9" * 5000 + " * * * *", "not understood"),
        ("9" * 5000 + " * * * *", "must be 0 to 59"),
        ("5/10 * * * *", "Write 5-59/10."),
        ("30-10 * * * *", "'30-10' runs backwards"),
        ("1,,2 * * * *", "'' is not understood"),
        ("-5 * * * *", "'-5' is not understood"),
        ("1.5 * * * *", "'1.5' is not understood"),
        ("0 0 L * *", "'day of month', 'L'"),
        ("0 0 ? * *", "'?' is not understood"),
        ("0 0 * * MON#2", "'MON#2' is not understood"),
        ("0 0 * * ٣", "is not understood"),
        ("0 0 30 2 *", "no such day"),
        ("0 0 31 4,6,9,11 *", "no such day"),
        ("@daily", "Write '0 0 * * *' instead."),
        (None, "must be a string"),
        (5, "must be a string"),
    ],
)
def test_a_bad_line_is_refused_with_field_and_part(line: Any, said: str) -> None:
    with pytest.raises(InvalidError) as caught:
        Cron(line)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "zone", ["Europe/Pariss", "", "../x", "/etc/passwd", "Europe", "a\0b", "\ud800", "x" * 5000, None, 3]
)
def test_an_unknown_zone_is_refused(zone: Any) -> None:
    with pytest.raises(InvalidError, match="timezone="):
        Cron("* * * * *", timezone=zone)


def test_the_nearest_zone_is_suggested() -> None:
    with pytest.raises(InvalidError, match="Did you mean 'Europe/Paris'"):
        Cron("* * * * *", timezone="Europe/Pariss")


def test_a_worker_needs_no_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "in_worker", True)
    assert Cron("* * * * *", timezone="Mars/Base").spec.timezone == "Mars/Base"


@pytest.mark.parametrize(
    "lengths",
    [{}, {"days": 0}, {"days": -1}, {"days": 2, "hours": -1}, {"hours": 1.5}, {"seconds": math.nan}, {"seconds": -0.1},
     {"seconds": math.inf}, {"minutes": "5"}, {"minutes": True}],
)  # fmt: skip
def test_a_bad_period_is_refused(lengths: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="|".join([*lengths, "Period"])):
        Period(**lengths)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{unit: st.integers(1, 1000) for unit in ("years", "months", "weeks", "days", "hours", "minutes")},
            "seconds": st.floats(0.001, 1e6),
        },
    ).filter(bool)
)
def test_a_period_keeps_what_modal_would_be_told(lengths: dict[str, Any]) -> None:
    assert dict(Period(**lengths).spec.period) == lengths
    theirs = modal.Period(**lengths).proto_message.period
    assert {name: getattr(theirs, name) for name in lengths} == pytest.approx(lengths)


BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


@st.composite
def _fields(draw: st.DrawFn) -> str:
    parts = []
    for low, high in BOUNDS:
        number = st.integers(low, high)
        pair = st.tuples(number, number).map(lambda ends: "{}-{}".format(*sorted(ends)))
        stepped = st.builds("{}/{}".format, st.just("*") | pair, st.integers(1, high))
        parts.append(",".join(draw(st.lists(st.just("*") | number.map(str) | pair | stepped, min_size=1, max_size=3))))
    return " ".join(parts)


@given(_fields())
def test_every_line_of_the_grammar_is_kept_as_it_is(line: str) -> None:
    try:
        assert Cron(line).spec.cron == line
    except InvalidError as error:
        assert "no such day" in str(error)


@given(st.text(alphabet="0123456789*/-, MONJAFSUEBL?#@", max_size=30) | st.text())
def test_any_text_gives_a_stable_form_or_an_invalid_error(text: str) -> None:
    try:
        normal = Cron(text).spec.cron
    except InvalidError as error:
        assert "Cron(" in error.message
        return
    assert Cron(normal).spec.cron == normal
    assert len(normal.split(" ")) == 5
