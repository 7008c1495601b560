"""Deployed apps from the command line, in a user's folder."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest
from cloudfn_local.host_place import LocalHostPlace
from project_folder import Folder

from host.conftest import HostOfTest

pytestmark = pytest.mark.slow  # each starts a host, an agent and workers

NIGHTLY = """
@app.function(schedule=cloudfn.Cron("0 2 * * *", timezone="Europe/Paris"))
def nightly():
    print("it is night")


@app.function(schedule=cloudfn.Period(hours=24))
def daily():
    pass


@app.function()
def say(text: str):
    print(text, flush=True)
    return text


@app.local_entrypoint()
def main(path: str):
    import pathlib, time
    print("before", flush=True)
    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    print("after", square.remote(4), flush=True)
"""


@pytest.fixture
def deployed(host: HostOfTest, folder: Folder) -> Folder:
    folder.write("nightly.py", NIGHTLY)
    out, _ = folder.run("nightly.py", "--tag", "first", command="deploy")
    assert "deployed demo version 1: 4 functions" in out
    return folder


def call(folder: Folder, *arguments: str, code: int = 0) -> str:
    out, err = folder.run(*arguments[1:], command=arguments[0], code=code)
    return out + err


def test_list_show_history_and_rollback(deployed: Folder, host: HostOfTest) -> None:
    assert "demo" in call(deployed, "app", "list")
    deployed.run("nightly.py", "--tag", "second", command="deploy")
    shown = call(deployed, "app", "history", "demo").splitlines()
    assert [line.split()[0] for line in shown[1:]] == ["2", "1"] and "current" in shown[1]
    assert "version 3 now (rollback to 1)" in call(deployed, "app", "rollback", "demo")
    assert "version 3" in call(deployed, "app", "show", "demo")
    (app,) = json.loads(call(deployed, "app", "list", "--json"))
    assert app["version"] == 3
    assert "no deployed app 'other'" in call(deployed, "app", "history", "other", code=1)
    assert "has no version 9" in call(deployed, "app", "rollback", "demo", "9", code=1)


def test_the_next_five_runs_are_shown_in_their_zone(deployed: Folder, host: HostOfTest) -> None:
    lines = call(deployed, "app", "schedule").splitlines()
    assert lines[0].startswith("demo.daily: Period(hours=24)") and len(lines) == 12
    assert lines[6].startswith("demo.nightly: Cron('0 2 * * *', timezone='Europe/Paris')")
    assert all(" 02:00:00 CE" in line for line in lines[7:])
    found = json.loads(call(deployed, "app", "schedule", "demo", "-n", "2", "--json"))
    assert [len(entry["upcoming"]) for entry in found] == [2, 2]


def test_logs_dead_and_stop(deployed: Folder, host: HostOfTest) -> None:
    import cloudfn

    say = cloudfn.Function.from_name("demo", "say")
    say.spawn("good evening").get(timeout=60)
    while "good evening" not in call(deployed, "app", "logs", "demo"):
        time.sleep(0.05)
    assert "no dead inputs" in call(deployed, "app", "dead", "demo")
    assert "put back 0 inputs" in call(deployed, "app", "dead", "demo", "--replay")
    assert "ended" in call(deployed, "app", "show", "demo")
    assert "stopped demo" in call(deployed, "app", "stop", "demo")
    assert "Nothing is scheduled" in call(deployed, "app", "schedule")
    assert "was stopped" in call(deployed, "app", "show", "demo", code=1)


def test_top_prints_lines_into_a_pipe(deployed: Folder, host: HostOfTest) -> None:
    lines = call(deployed, "top", "--once").splitlines()
    assert any(line.startswith("app=demo function=square state=") for line in lines)
    assert "\x1b" not in "".join(lines)


def test_the_host_is_seen_ended_and_started(deployed: Folder, host: HostOfTest) -> None:
    assert "demo version 1: cold" in call(deployed, "host", "status")
    assert "cloudfn_host_commits_total" in call(deployed, "host", "metrics")
    assert '"event": "deployed"' in call(deployed, "host", "log")
    assert "stopped the host" in call(deployed, "host", "stop")
    assert "does not run" in call(deployed, "host", "status", code=1)
    assert json.loads(call(deployed, "host", "status", "--json", code=1)) == {"running": False}
    assert "does not run" in call(deployed, "host", "stop")
    assert "The host runs" in call(deployed, "host", "start")
    assert "demo version 1" in call(deployed, "host", "status")


def test_the_page_opens_by_a_link_that_no_argument_holds(deployed: Folder, host: HostOfTest) -> None:
    (line,) = [line for line in call(deployed, "host", "status").splitlines() if line.startswith("page: ")]
    address = line.split()[1]
    assert f"{address}#/apps/demo" in call(deployed, "deploy", "nightly.py")
    link = re.escape(address) + r"#ticket=[\w-]{43}"
    assert re.fullmatch(link + "\n", call(deployed, "host", "open", "--print"))
    out, _ = deployed.run("open", command="host", BROWSER="echo told %s")
    shown, told = out.splitlines()
    assert re.fullmatch(link, shown)
    path = Path(told.removeprefix("told file://"))
    assert shown in path.read_text() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"targets: ['{address.split('/')[2]}']" in call(deployed, "host", "metrics", "--scrape")


def test_the_unit_for_systemd(host: HostOfTest, folder: Folder, tmp_path: Path) -> None:
    text = call(folder, "host", "install", "--print")
    assert "Restart=always" in text and "WantedBy=default.target" in text
    assert f'Environment="CLOUDFN_STATE_DIR={host.place.name.removesuffix("/host")}"' in text
    assert "cloudfn.host.main" in text and "KEY" not in text
    _, err = folder.run("install", command="host", code=1, XDG_CONFIG_HOME=str(tmp_path), PATH="/nonexistent")
    assert "systemd is not here" in err
    unit = tmp_path / "systemd" / "user" / "cloudfn-host.service"
    assert "ExecStart=" in unit.read_text() and stat.S_IMODE(unit.stat().st_mode) == 0o600


@pytest.mark.machine
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own check, which needs no systemd that runs; with a state folder that has to be quoted."""
    monkeypatch.setenv("CLOUDFN_STATE_DIR", str(tmp_path / 'of "ann", 100%'))
    unit = tmp_path / "cloudfn-host.service"
    unit.write_text(LocalHostPlace().unit())
    command = ["systemd-analyze", "verify", "--user", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    assert [line for line in done.stderr.splitlines() if "cloudfn-host" in line] == []


def test_a_detached_run_outlives_its_terminal(host: HostOfTest, folder: Folder, tmp_path: Path) -> None:
    folder.write("later.py", NIGHTLY)
    go = tmp_path / "go"
    process = folder.start("--detach", "later.py", "--path", str(go))
    assert process.stdout
    assert process.stdout.readline() == "before\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    (run,) = host.ask("runs")["runs"]
    assert run["alive"]
    go.touch()
    while host.ask("runs")["runs"][0]["alive"]:
        time.sleep(0.05)
    (run,) = host.ask("runs")["runs"]
    assert run["code"] == 0
    out = (Path(host.place.name) / "detached" / run["run"] / "out").read_text()
    assert out == "before\nafter 16\n"


def test_a_detached_run_that_is_looked_at_to_its_end(host: HostOfTest, folder: Folder, tmp_path: Path) -> None:
    folder.write("later.py", NIGHTLY)
    go = tmp_path / "go"
    go.touch()
    out, err = folder.run("--detach", "later.py", "--path", str(go))
    assert out == "before\nafter 16\n" and "goes on without this terminal" in err
    folder.run("--detach", "missing.py", code=1)
