"""Runs that were handed to the host (`cloudfn run --detach`): processes that go on when their terminal has closed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

if TYPE_CHECKING:
    from cloudfn.host.journal import Journal

_KEPT = 20
_NAME = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class DetachedRuns:
    """Args:
    folder: for what they print, a folder for each; made, for this user alone.
    """

    def __init__(self, folder: Path, journal: Journal) -> None:
        self._folder = folder
        self._journal = journal
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self, arguments: Sequence[str], folder: str, environment: Mapping[str, str]) -> dict[str, Any]:
        """Run `cloudfn run` with these arguments. Raises `InvalidError` where that cannot be started."""
        from cloudfn.exception import InvalidError

        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        place = self._folder / name
        place.mkdir(mode=0o700)
        self._prune()
        try:
            with (place / "out").open("xb") as out, (place / "err").open("xb") as err:
                process = subprocess.Popen(
                    [sys.executable, "-m", "cloudfn", "run", *arguments],
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        except OSError as error:
            raise InvalidError(f"the run cannot be started in {folder}: {error}") from error
        self._running[name] = process
        self._journal.write("run_started", run=name, pid=process.pid)
        return {"run": name, "pid": process.pid, "out": str(place / "out"), "err": str(place / "err")}

    def list(self) -> list[dict[str, Any]]:
        """All that are on record, oldest first; `code` None while one runs, or where its end was not seen."""
        found = []
        for place in sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)):
            process = self._running.get(place.name)
            code = process.poll() if process else _written(place)
            if process and code is not None:
                (place / "code").write_text(str(code))
                self._journal.write("run_ended", run=place.name, code=code)
                del self._running[place.name]
            alive = process is not None and code is None
            found.append({"run": place.name, "alive": alive, "pid": process.pid if process else 0, "code": code})
        return found

    def close(self) -> None:
        """End those that run."""
        for process in self._running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.list()

    def _prune(self) -> None:
        import shutil

        old = [entry["run"] for entry in self.list() if not entry["alive"]]
        for name in old[: max(0, len(old) - _KEPT)]:
            shutil.rmtree(self._folder / name, ignore_errors=True)


def _written(place: Path) -> int | None:
    try:
        return int((place / "code").read_text())
    except (OSError, ValueError):
        return None
