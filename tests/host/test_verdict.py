"""What becomes of an input whose run has ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import remote_error, wire
from cloudfn.client.call import Outcome, failed
from cloudfn.durable import Call, Taken, pack, unpack
from cloudfn.exception import (
    ConnectionError,
    ExecutionError,
    FunctionTimeoutError,
    OutOfMemoryError,
    StartupError,
    WorkerDiedError,
)
from cloudfn.exposition import Page
from cloudfn.host.flight import Window
from cloudfn.host.metrics import BUCKETS, Histogram
from cloudfn.host.verdict import Verdict, judge, too_often
from cloudfn.spec import RetryPolicy

RETRIES = RetryPolicy(max_retries=2, initial_delay=3.0, backoff_coefficient=2.0)


def taken(attempts: int = 0, deaths: int = 0, receives: int = 1) -> Taken:
    return Taken(Call(1, "app", "f"), 0, pack(b""), attempts, deaths, receives)


def signalled(error: WorkerDiedError) -> WorkerDiedError:
    error.signal = 9
    return error


def test_a_result_is_kept_with_its_buffers() -> None:
    verdict = judge(Outcome(wire.OK, b"body", [b"buffer"]), taken(), None, False)
    assert verdict.what == "complete" and verdict.result is not None
    assert unpack(verdict.result.body) == (b"body", [bytearray(b"buffer")])


def test_an_error_is_retried_as_the_function_says_and_then_kept() -> None:
    outcome = Outcome(wire.ERROR, remote_error.pack(ValueError("x")))
    again = [judge(outcome, taken(n), RETRIES, False) for n in (0, 1, 2)]
    assert [(v.what, v.delay, v.attempts) for v in again] == [
        ("again", 3.0, 1),
        ("again", 6.0, 2),
        ("complete", 0.0, 0),
    ]
    assert judge(outcome, taken(), None, False).what == "complete"
    timeout = failed(FunctionTimeoutError("slow"))
    assert judge(timeout, taken(), RETRIES, False).what == "again"
    assert judge(timeout, taken(), None, False).what == "complete"


@pytest.mark.parametrize("error", [WorkerDiedError("x"), OutOfMemoryError("x"), StartupError("x")])
def test_a_worker_that_dies_is_forgiven_twice(error: Exception) -> None:
    verdicts = [judge(failed(error), taken(deaths=n), RETRIES, False) for n in (0, 1, 2)]
    assert [v.what for v in verdicts] == ["again", "again", "bury"]
    assert [v.deaths for v in verdicts[:2]] == [1, 2]
    assert type(error).__name__ in verdicts[2].reason


@pytest.mark.parametrize("error", [ConnectionError("x"), ExecutionError("stopped"), signalled(StartupError("killed"))])
def test_what_is_nobodys_fault_costs_nothing(error: Exception) -> None:
    verdict = judge(failed(error), taken(1, 2), RETRIES, False)
    assert (verdict.what, verdict.attempts, verdict.deaths) == ("again", 1, 2)


@given(st.sampled_from([wire.CANCELLED, wire.ERROR]), st.integers(0, 5))
def test_a_lost_session_blames_no_input(status: int, deaths: int) -> None:
    assert judge(failed(WorkerDiedError("x")), taken(deaths=deaths), None, True).what == "again"
    assert judge(Outcome(wire.CANCELLED, b""), taken(deaths=deaths), None, True).what == "again"


def test_an_input_that_ends_its_takers_is_put_aside() -> None:
    verdict = too_often(taken(receives=33))
    assert verdict.what == "bury" and "32 times" in verdict.reason
    assert isinstance(verdict, Verdict)


@given(st.lists(st.tuples(st.integers(1, 2000), st.floats(0.001, 5.0)), min_size=1, max_size=30))
def test_a_window_stays_within_its_limits(steps: list[tuple[int, float]]) -> None:
    window, now = Window(), 0.0
    window._since = 0.0
    for ended, span in steps:
        now += span
        for _ in range(ended):
            window.note_end(now)
        assert 16 <= window.size <= 1024


@given(st.lists(st.floats(0.0, 1e6), max_size=50))
def test_a_histogram_counts_each_time_once(times: list[float]) -> None:
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    page = Page()
    page.histogram("x", {"a": "b"}, BUCKETS, histogram.counts, histogram.sum)
    lines = page.text().splitlines()
    assert lines[-1] == f'x_count{{a="b"}} {len(times)}'
    counts = [int(line.rsplit(" ", 1)[1]) for line in lines[: len(BUCKETS) + 1]]
    assert counts == [sum(t <= bound for t in times) for bound in BUCKETS] + [len(times)]
