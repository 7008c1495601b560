"""`/metrics` and `status` tell what is so."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from cloudfn_agent.metrics import render_metrics
from cloudfn_local.machine import runs_dir
from cloudfn_local.runs import LocalRuns, ask, read_record
from hypothesis import given
from hypothesis import strategies as st

import cloudfn
from agent.processes import wait_until

LINE = re.compile(r'[a-z_]+\{app="((?:[^"\\\n]|\\.)*)",function="((?:[^"\\\n]|\\.)*)"\} [0-9.e+-]+\Z')


def entry(tag: str, **counts: float) -> dict[str, object]:
    names = ("queued", "running", "workers", "started", "died", "done", "failed", "busy_seconds")
    return {"tag": tag, **dict.fromkeys(names, 0), **counts}


@given(st.text(), st.text(), st.integers(0, 10**9))
def test_every_name_is_escaped(app: str, tag: str, done: int) -> None:
    text = render_metrics({"app": app, "functions": [entry(tag, done=done)]})
    lines = [line for line in text.split("\n") if line and not line.startswith("# ")]
    assert len(lines) >= 5
    for line in lines:
        found = LINE.match(line)
        assert found, line
        unescaped = [re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], name) for name in found.groups()]
        assert unescaped == [app, tag]
    assert any(line.startswith("cloudfn_inputs_total") and line.endswith(f" {done}") for line in lines)


def test_each_metric_has_help_and_type() -> None:
    text = render_metrics({"app": "a", "functions": [entry("f"), entry("g")]})
    names = set(re.findall(r"^(\w+)\{", text, re.MULTILINE))
    typed = dict(re.findall(r"^# TYPE (\w+) (gauge|counter|histogram)$", text, re.MULTILINE))
    assert set(typed) == set(re.findall(r"^# HELP (\w+) ", text, re.MULTILINE))
    assert names == {name for name, kind in typed.items() if kind != "histogram"}  # without pools there are no times
    assert text.endswith("\n")


def test_status_of_an_app_at_work(tmp_path: Path) -> None:
    app = cloudfn.App("status")

    @app.function(serialized=True, max_containers=2)
    def work(way: str) -> str:
        import time
        from pathlib import Path

        if way.startswith("/"):
            Path(way).touch()
            time.sleep(1000)
        return way

    with app.run():
        assert list(work.map(["a"] * 5)) == ["a"] * 5
        call = work.spawn(str(tmp_path / "started"))
        wait_until((tmp_path / "started").exists, "the start")
        (info,) = [run for run in LocalRuns().list() if run.app == "status"]
        record = read_record(runs_dir() / info.id)
        assert record is not None
        status = ask(record, {"op": "status"}, "status")
        (counts,) = status["functions"]
        assert (counts["tag"], counts["running"], counts["done"]) == ("work", 1, 5)
        assert 1 <= counts["workers"] == len(status["workers"]) <= 2
        assert {worker["function"] for worker in status["workers"]} == {"work"}
        assert all(Path(f"/proc/{worker['pid']}").exists() for worker in status["workers"])
        assert "leased" in {worker["state"] for worker in status["workers"]}
        assert 0 <= counts["busy_seconds"] < 1000
        assert (counts["started"], counts["died"]) == (counts["workers"], 0)
        busy = max(status["workers"], key=lambda worker: worker["state"] == "leased")
        os.kill(busy["pid"], signal.SIGKILL)
        wait_until(lambda: ask(record, {"op": "status"}, "status")["functions"][0]["died"] == 1, "the death")
        call.cancel()


def test_no_functions() -> None:
    assert "# TYPE cloudfn_workers gauge" in render_metrics({"app": "a", "functions": []})
