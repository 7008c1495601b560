"""What only Linux has, and the plain path where it is missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cloudfn_agent import system
from cloudfn_agent.warden import Warden

MODULES = sorted(path.stem for path in Path(system.__file__).parent.glob("[a-z]*.py"))
MODULES.remove("web_proxy")  # it imports aiohttp, whose own imports ask the system, not `sys.platform`


def test_every_module_can_be_imported_without_linux() -> None:
    """As on macOS: no prctl, no /proc, no memfd, no epoll."""
    code = f"""
import sys, os, select, socket
sys.platform = "darwin"
for owner, name in ((os, "memfd_create"), (select, "epoll"), (socket, "MSG_CMSG_CLOEXEC")):
    if hasattr(owner, name):
        delattr(owner, name)
import importlib
for name in {MODULES!r}:
    importlib.import_module("cloudfn_agent." + name)
from cloudfn_agent import system
assert not system.LINUX
system.die_with_parent(-1)
assert system.thread_count() == 1
assert system.open_accelerators() == []
assert system.memory_mb() > 0
from cloudfn_agent.system import exit_message
assert exit_message(0, 5 << 20)["max_rss_mb"] == 5.0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_threads_are_counted() -> None:
    before = system.thread_count()
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    assert system.thread_count() == before + 1
    end.set()
    thread.join()


def test_open_accelerators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, target in enumerate(["/dev/null", "/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/card0", "/dev/kfd"]):
        (tmp_path / str(number)).symlink_to(target)
    (tmp_path / "gone").touch()  # no link: the descriptor was closed meanwhile
    monkeypatch.setattr(system, "DESCRIPTORS", tmp_path)
    assert sorted(system.open_accelerators()) == ["/dev/dri/card0", "/dev/kfd", "/dev/nvidia0", "/dev/nvidiactl"]
    monkeypatch.setattr(system, "LINUX", False)
    assert system.open_accelerators() == []


def test_a_child_dies_with_its_parent() -> None:
    code = """
import os, sys, time
from cloudfn_agent import system
parent = os.getpid()
if os.fork() == 0:
    system.die_with_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(1000)
sys.stdin.read()
os._exit(0)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.read()  # ends when the child has
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(child, 0)
            if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                raise ProcessLookupError


def test_kill_group_ends_children_too() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    system.kill_group(process.pid)
    assert process.wait() == -signal.SIGKILL
    assert process.stdout.read() == b""  # the child held it open
    system.kill_group(process.pid)  # nothing is left: no error


def test_the_warden_cleans_up_after_an_agent_that_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "agent"
    (folder / "inner").mkdir(parents=True)
    spared, victim = (subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2))
    pid = os.fork()
    if pid == 0:
        warden = Warden(folder)
        warden.note(spared.pid)
        warden.note(victim.pid)
        warden.note(Path("/sys/fs/cgroup/memory/cloudfn-none"))
        warden.forget(spared.pid)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        assert victim.wait(20) == -signal.SIGKILL
        assert spared.poll() is None
        from agent.processes import wait_until

        wait_until(lambda: not folder.exists(), "the folder's removal")
    finally:
        spared.kill()
        spared.wait()


def test_a_warden_that_was_killed_does_not_hurt(tmp_path: Path) -> None:
    warden = Warden(tmp_path / "agent")
    os.kill(warden.pid, signal.SIGKILL)
    os.waitid(os.P_PID, warden.pid, os.WEXITED | os.WNOWAIT)
    warden.note(1 << 30)
    warden.forget(1 << 30)
    warden.close()
