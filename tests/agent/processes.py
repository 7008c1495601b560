"""What belongs to one run: processes, by a mark in the environment that every one of them inherits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path
from typing import Callable

PATIENCE = 30.0  # seconds; far more than anything here takes


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll, for what happens in other processes; fails when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.01)


def name_of(pid: int) -> str:
    """What `ps` shows it by; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Mark:
    """A mark that starts with `LC_`, which the agent hands on to zygotes and workers as part of the locale."""

    def __init__(self) -> None:
        self.name = "LC_CLOUDFN_TEST"
        self.value = uuid.uuid4().hex

    def processes(self) -> dict[int, str]:
        """Living processes with the mark (this one left out), and their command lines."""
        found = {}
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                if f"{self.name}={self.value}".encode() in (folder / "environ").read_bytes():
                    command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if (folder / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                        found[int(folder.name)] = command
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def find(self, words: str) -> list[int]:
        return [pid for pid, command in self.processes().items() if words in command]

    def parent(self, pid: int) -> int:
        """0 for a process that is gone."""
        try:
            return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            return 0

    def zygotes(self) -> list[int]:
        """Also processes that were to be one and became a worker themselves, since their code must not be forked."""
        agents = self.agents()
        return self.named("cloudfn-zygote") + [pid for pid in self.named("cloudfn-w") if self.parent(pid) in agents]

    def workers(self) -> list[int]:
        """Forks of a zygote, without those that are only ready to become one."""
        agents = self.agents()
        return [pid for pid in self.named("cloudfn-w") if self.parent(pid) not in (0, *agents)]

    def spares(self) -> list[int]:
        return self.named("cloudfn-spare")

    def named(self, start: str) -> list[int]:
        return [pid for pid in self.processes() if name_of(pid).startswith(start)]

    def agents(self) -> list[int]:
        """The agent, without its warden (which is its child)."""
        both = set(self.find("cloudfn_agent.main"))
        return [pid for pid in both if self.parent(pid) not in both]


class Run:
    """A script in a process (and session) of its own, with a folder for temporary files that nobody else uses.

    Args:
        folder: short enough for a Unix socket's path.
    """

    def __init__(self, folder: Path, script: str, mark: Mark, *command: str) -> None:
        self.mark = mark
        self.folder = folder
        self.temporary = folder / "t"
        self.temporary.mkdir()
        self.notes = folder / "notes"
        path = folder / "app_under_test.py"
        path.write_text(textwrap.dedent(script))
        environment = {**os.environ, mark.name: mark.value, "TMPDIR": str(self.temporary), "LC_NOTES": str(self.notes)}
        environment["PYTHONUNBUFFERED"] = "1"
        self.popen = subprocess.Popen(
            [sys.executable, *(command or (str(path),)), *([str(path)] if command else [])],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def note(self) -> str:
        """What the run has written into its file of notes."""
        return self.notes.read_text() if self.notes.exists() else ""

    def wait_for_note(self, text: str) -> None:
        def there() -> bool:
            # Looked for last of all: what has ended by itself writes no more, what we killed may have others who do.
            ended = self.popen.poll() not in (None, -signal.SIGKILL)
            found = text in self.note()
            assert found or not ended, self.popen.communicate()[0]
            return found

        wait_until(there, f"the note {text!r}")

    def interrupt(self) -> None:
        """Ctrl-C in a terminal: SIGINT to the foreground process group."""
        os.killpg(self.popen.pid, signal.SIGINT)

    def kill(self) -> None:
        self.popen.kill()

    def output(self) -> str:
        """Wait for its end; everything it printed."""
        return self.popen.communicate(timeout=PATIENCE)[0]

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.mark.processes(), "the end of every process")
        wait_until(lambda: not any(self.temporary.iterdir()), "the removal of temporary folders")
        records = list((Path(os.environ["CLOUDFN_STATE_DIR"]) / "runs").glob("*/run.json"))
        shared = [Path(json.loads(record.read_text())["shared"]) for record in records]
        assert shared
        wait_until(lambda: not any(path.name and path.exists() for path in shared), f"the removal of {shared}")

    def end(self) -> None:
        """After a test that failed: end whatever is left."""
        for pid in self.mark.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.popen.communicate()
