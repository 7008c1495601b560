"""What a run on machines far away leaves on the machine that started it: who runs, and the log of its events. So
`cloudfn ps`, `logs` and `stop` know it as they know runs here."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from cloudfn.folders import state_dir

REMOTE = "remote"
"""`kind` of such a record; those of runs on this machine have none."""
_KEPT = 20


class RunRecord:
    """A folder below `runs` of the state. While the run lives, this process holds a lock on the record, which the
    kernel takes away however it ends.

    Attributes:
        log_path: takes the run's events.
    """

    def __init__(self, app: str, stack: str) -> None:
        self.id = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(3).hex()}"
        runs = state_dir() / "runs"
        runs.mkdir(mode=0o700, exist_ok=True)
        folder = runs / self.id
        folder.mkdir(mode=0o700)
        self.log_path = folder / "events.jsonl"
        record = {
            "kind": REMOTE,
            "id": self.id,
            "app": app,
            "stack": stack,
            "pid": os.getpid(),
            "started": time.time(),
        }
        aside = folder / ".run.json"
        self._file = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.write(self._file, json.dumps(record).encode())
        aside.rename(folder / "run.json")  # whoever sees it sees it locked
        _prune(runs)

    def close(self) -> None:
        """The run has ended. Idempotent."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


def is_over(folder: Path) -> bool:
    """True when nobody holds the record's lock any more."""
    try:
        with (folder / "run.json").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # it was removed
        return True
    return True


def is_remote(record: dict[str, Any]) -> bool:
    return record.get("kind") == REMOTE


def _prune(runs: Path) -> None:
    """Remove old records of this kind; those of runs here are their provider's."""
    mine = []
    for folder in sorted(runs.iterdir()):
        try:
            if is_remote(json.loads((folder / "run.json").read_bytes())):
                mine.append(folder)
        except (OSError, ValueError):
            continue
    for folder in mine[:-_KEPT]:
        if is_over(folder):
            shutil.rmtree(folder, ignore_errors=True)
