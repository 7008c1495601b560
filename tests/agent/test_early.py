"""The zygote that is forked at the agent's own start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.processes import Mark, wait_until
from cloudfn import App, Image

app = App("early")


@app.function(serialized=True)
def where() -> tuple[int, int, list[str], str, str]:
    ours = [name for name in os.environ if "TEST_CREDENTIAL" in name]
    return os.getppid(), os.getsid(os.getppid()), ours, str(Path("/proc/self/fd/0").readlink()), sys.path[-1]


def test_it_serves_the_first_function_and_holds_nothing_of_the_agent(
    mark: Mark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_CREDENTIAL", "x")
    with app.run():
        zygote, session, credentials, stdin, last = where.remote()
        (agent,) = mark.agents()
        assert mark.parent(zygote) == agent and session == zygote
        assert b"cloudfn_agent.main" in Path(f"/proc/{zygote}/cmdline").read_bytes()  # no interpreter of its own
        assert b"TEST_CREDENTIAL" not in Path(f"/proc/{zygote}/environ").read_bytes() and credentials == []
        assert stdin == os.devnull
        assert Path(last, "cloudfn_agent").is_dir()  # what the user has installed comes before it

        def sockets(pid: int) -> set[str]:
            links = (str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir())
            return {link for link in links if link.startswith("socket:")}

        assert sockets(zygote) & sockets(agent) == set()


other = App("other", image=Image.debian_slim().env({"A": "b"}).workdir("/tmp"))


@other.function(serialized=True)
def view() -> tuple[str, str]:
    return os.environ["A"], str(Path.cwd())


def test_it_takes_on_what_the_image_sets() -> None:
    with other.run():
        assert view.remote() == ("b", "/tmp")


def test_one_that_nobody_needs_goes_with_the_agent(mark: Mark) -> None:
    with app.run():
        wait_until(lambda: len(mark.zygotes()) == 1, "the early zygote")
        (pid,) = mark.zygotes()
    assert not Path(f"/proc/{pid}").exists()


CHECK = """
import sys, threading
{thread}
from cloudfn_agent.early import fork_zygote
early = fork_zygote(sys.path[-1])
print(early is None)
if early:
    fits = [early.fits(dict(python=p, mounts=m)) for p, m in
            ((sys.executable, []), ("/other/python", []), (sys.executable, [["/a", "/b"]]))]
    early.dismiss()
    print(fits, early.returncode)
"""


def check(thread: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CHECK.format(thread=thread)], capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout.splitlines()


def test_only_for_the_same_interpreter_without_mounts() -> None:
    assert check("") == ["False", "[True, False, False] -9"]


def test_no_fork_beside_a_thread() -> None:
    assert check("threading.Thread(target=threading.Event().wait, daemon=True).start()") == ["True"]
