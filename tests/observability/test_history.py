"""What plots are drawn from."""

from __future__ import annotations

from cloudfn.host.history import History, Load, Series

KEY = ("shop", "work")


def test_a_step_has_the_most_that_there_was_and_all_that_ended() -> None:
    history = History()
    history.note_end(KEY, 0.1, failed=False)
    history.look(100.0, {KEY: Load(waiting=3, running=1, workers=1)})
    history.note_end(KEY, 0.2, failed=False)
    history.note_end(KEY, 0.9, failed=True)
    history.look(101.0, {KEY: Load(waiting=1, running=2, workers=2)})
    history.look(102.0, {})
    (point,) = history.since("shop", "minutes", -1)["work"]
    assert point == (50, 3, 2, 2, 3, 1, 0.2, 0.2)
    assert history.since("shop", "minutes", 50) == {} and history.since("other", "minutes", -1) == {}
    assert history.since("shop", "day", -1) == {}  # its minute is not over
    history.look(180.0, {})
    assert history.since("shop", "day", -1)["work"][0].ended == 3


def test_a_function_at_rest_costs_nothing() -> None:
    history = History()
    for second in range(10_000):
        history.look(float(second), {KEY: Load(dead=1)})
    assert history.since("shop", "minutes", -1) == {} == history.since("shop", "day", -1)


def test_points_and_times_are_bounded() -> None:
    series = Series(2.0, 5)
    for second in range(100):
        for _ in range(100):
            series.note_end(1.0, False)
        series.look(float(second), Load())
    assert [point.number for point in series.points] == [44, 45, 46, 47, 48]
    assert series.points[-1].ended == 200 and series.points[-1].p99 == 1.0
