"""The event stream and its log file."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn.events import (
    AppState,
    Event,
    Events,
    FunctionState,
    Log,
    Notice,
    Progress,
    file_sink,
    from_json,
    to_json,
)

counts = st.integers(0, 1 << 40)
events = st.one_of(
    st.builds(Log, st.text(), st.text(), st.sampled_from(["stdout", "stderr"]), st.binary()),
    st.builds(Progress, st.text()),
    st.builds(FunctionState, st.text(), counts, counts, counts, counts, counts),
    st.builds(Notice, st.sampled_from(["info", "warning", "error"]), st.text()),
    st.builds(AppState, st.text(), st.sampled_from(["starting", "stopped"]), st.floats(0, 1e9)),
)


@given(events)
def test_an_event_comes_back_from_its_line(event: Event) -> None:
    line = to_json(event)
    assert "\n" not in line
    assert from_json(line) == event


@given(st.binary())
def test_a_line_that_is_no_event_is_none(line: bytes) -> None:
    assert from_json(line) is None


@pytest.mark.parametrize(
    "line", ["", "[]", "3", '{"event": "Log"}', '{"event": "Later", "time": 1}', '{"event": [], "time": 1}']
)
def test_a_line_of_another_version_is_none(line: str) -> None:
    assert from_json(line) is None


def test_every_sink_gets_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    stream = Events(first.append)
    stream.emit(Progress("a"))
    stream.add(second.append)
    stream.emit(Progress("b"))
    stream.remove(first.append)
    stream.emit(Progress("c"))
    stream.remove(first.append)
    assert first == [Progress("a"), Progress("b")]
    assert second == [Progress("b"), Progress("c")]


def test_a_sink_that_fails_is_dropped_and_the_others_are_told() -> None:
    seen: list[Event] = []

    def full(event: Event) -> None:
        raise OSError(28, "No space left on device")

    stream = Events(full, seen.append)
    stream.emit(Progress("a"))
    stream.emit(Progress("b"))
    assert [event for event in seen if isinstance(event, Progress)] == [Progress("a"), Progress("b")]
    (notice,) = (event for event in seen if isinstance(event, Notice))
    assert "No space left" in notice.text


def test_lines_of_many_threads_are_whole(tmp_path: Path) -> None:
    sink = file_sink(tmp_path / "events")
    stream = Events(sink)

    def speak(worker: int) -> None:
        for index in range(50):
            stream.emit(Log(str(worker), "f", "stdout", b"%d\xff\n" % index))

    threads = [threading.Thread(target=speak, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    found = [from_json(line) for line in (tmp_path / "events").read_bytes().splitlines()]
    assert len(found) == 400
    for worker in range(8):
        data = [event.data for event in found if isinstance(event, Log) and event.worker == str(worker)]
        assert data == [b"%d\xff\n" % index for index in range(50)]


def test_a_log_file_is_private_has_times_and_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "events"
    for text in ("a", "b"):
        sink = file_sink(path)
        sink(Progress(text))
        sink.close()
        sink.close()
        sink(Progress("after the end"))
    assert path.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["text"] for line in lines] == ["a", "b"]
    assert all(abs(line["time"] - path.stat().st_mtime) < 60 for line in lines)
