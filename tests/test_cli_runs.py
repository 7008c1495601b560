"""`cloudfn ps`, `logs` and `stop`, on records of runs that no app made."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result

from cloudfn import registry
from cloudfn.cli import logs as logs_module
from cloudfn.cli.logs import events, logs, pick
from cloudfn.cli.ps import duration, ps
from cloudfn.cli.stop import stop
from cloudfn.events import AppState, Event, Log, Notice, Progress, file_sink
from cloudfn.exception import NotFoundError, UnimplementedError, UsageError
from cloudfn.runs import FunctionInfo, RunInfo


class Records:
    """Stands in for a provider's runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known: list[RunInfo] = []
        self.stopped: list[tuple[str, float]] = []

    def list(self) -> list[RunInfo]:
        return self.known

    def log_path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    def stop(self, run_id: str, timeout: float) -> None:
        self.stopped.append((run_id, timeout))


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    records = Records(tmp_path)
    monkeypatch.setattr(registry, "provider", lambda name="local": SimpleNamespace(runs=records))
    work = FunctionInfo("square", queued=3, running=2, workers=2, done=10, failed=1, busy_seconds=125.0)
    records.known = [
        RunInfo("ap-new", "demo", 12, 2000.0, "ready", (work, FunctionInfo("other"))),
        RunInfo("ap-old", "demo", 11, 1000.0, "stopped"),
        RunInfo("ap-mid", "train", 13, 1500.0, "starting"),
    ]
    return records


def invoke(command: object, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments, catch_exceptions=False)  # type: ignore[arg-type]


def test_ps_shows_what_runs_with_its_functions(records: Records) -> None:
    lines = invoke(ps).stdout.splitlines()
    assert " ".join(lines[0].split()) == "RUN APP STATE AGE FUNCTION QUEUED RUNNING DONE FAILED WORKERS BUSY"
    assert lines[1].split()[:3] == ["ap-mid", "train", "starting"]
    assert lines[2].split()[:3] == ["ap-new", "demo", "ready"]
    assert lines[2].split()[4:] == ["square", "3", "2", "10", "1", "2", "2m05s"]
    assert lines[3].split() == ["other", "0", "0", "0", "0", "0", "0.0s"]
    assert lines[3].index("other") == lines[2].index("square")
    assert len(lines) == 4


def test_ps_all_shows_what_is_over_too(records: Records) -> None:
    assert "ap-old" not in invoke(ps).stdout
    assert "ap-old" in invoke(ps, "--all").stdout


def test_ps_json_is_one_document(records: Records) -> None:
    found = json.loads(invoke(ps, "--json").stdout)
    assert [run["id"] for run in found] == ["ap-mid", "ap-new"]
    assert found[1]["functions"][0]["busy_seconds"] == 125.0
    records.known = []
    assert json.loads(invoke(ps, "--json").stdout) == []


def test_ps_says_that_nothing_runs(records: Records) -> None:
    records.known = []
    done = invoke(ps)
    assert (done.stdout, done.stderr, done.exit_code) == ("", "Nothing runs.\n", 0)


def test_a_provider_without_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "provider", lambda name="local": SimpleNamespace())
    with pytest.raises(UnimplementedError):
        invoke(ps)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0s"), (0, "0.0s"), (59.94, "59.9s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (277200, "3d05h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("which", "found"),
    [("", "ap-new"), ("demo", "ap-new"), ("train", "ap-mid"), ("ap-old", "ap-old"), ("ap-m", "ap-mid")],
)
def test_a_run_is_picked_by_id_or_app(records: Records, which: str, found: str) -> None:
    assert pick(records.known, which).id == found


def test_no_run_or_several(records: Records) -> None:
    with pytest.raises(UsageError, match="ap-new, ap-mid, ap-old"):
        pick(records.known, "ap-")
    with pytest.raises(NotFoundError, match="'nothing'"):
        pick(records.known, "nothing")
    with pytest.raises(NotFoundError, match="no runs"):
        pick([], "")


def write_log(records: Records, run_id: str, *written: Event) -> None:
    sink = file_sink(records.log_path(run_id))
    for event in written:
        sink(event)
    sink.close()


def test_logs_show_the_bytes_of_each_stream(records: Records) -> None:
    write_log(
        records,
        "ap-new",
        AppState("demo", "starting"),
        Log("w", "f", "stdout", b"caf\xc3"),
        Log("w", "f", "stderr", b"bar\r"),
        Log("w", "f", "stdout", b"\xa9\xff\n"),
        Progress("not for the log"),
        Notice("warning", "no GPU"),
    )
    done = invoke(logs)
    assert done.stdout_bytes == b"caf\xc3\xa9\xff\n"
    assert done.stderr_bytes == b"bar\rwarning: no GPU\n"


def test_logs_of_a_run_without_any(records: Records) -> None:
    with pytest.raises(NotFoundError, match="ap-new"):
        invoke(logs)


def test_following_ends_with_the_app(records: Records) -> None:
    path = records.log_path("ap-new")
    sink = file_sink(path)
    found: list[Event] = []
    first = threading.Event()

    def follow() -> None:
        for event in events(path, lambda: False):
            found.append(event)
            first.set()

    thread = threading.Thread(target=follow)
    thread.start()
    written = [Progress("a"), Log("w", "f", "stdout", b"late\n"), AppState("demo", "stopped", 1.0)]
    sink(written[0])
    assert first.wait(10)
    for event in written[1:]:
        sink(event)
    sink(Progress("after the end"))
    thread.join(10)
    assert not thread.is_alive()
    assert found == written


def test_following_ends_when_the_owner_is_gone(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    write_log(records, "ap-new", Log("w", "f", "stdout", b"the last\n"))
    monkeypatch.setattr(logs_module, "POLL", 0.001)
    with records.log_path("ap-new").open("ab") as file:
        file.write(b'{"torn')
    records.known = [replace(run, state="dead") for run in records.known]
    assert invoke(logs, "-f", "ap-new").stdout == "the last\n"


def test_following_a_run_that_never_wrote(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    records.known = [replace(run, state="stopped") for run in records.known]
    assert invoke(logs, "-f", "ap-new").stdout == ""


def test_stop_one(records: Records) -> None:
    done = invoke(stop, "train", "--timeout", "2.5")
    assert records.stopped == [("ap-mid", 2.5)]
    assert done.stdout == "stopped ap-mid (train)\n"


def test_stop_all_leaves_what_is_over(records: Records) -> None:
    invoke(stop, "--all")
    assert sorted(records.stopped) == [("ap-mid", 10.0), ("ap-new", 10.0)]


def test_stop_needs_to_know_what(records: Records) -> None:
    for arguments in ((), ("--all", "demo")):
        with pytest.raises(UsageError):
            invoke(stop, *arguments)
    with pytest.raises(NotFoundError):
        invoke(stop, "ap-old")
    assert records.stopped == []
    records.known = []
    assert invoke(stop, "--all").exit_code == 0
