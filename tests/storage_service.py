"""The storage service that a test has started."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path


def end_storage(state: Path, number: int = signal.SIGTERM) -> None:
    """Send a signal to the storage service of this state folder, if one runs."""
    try:
        os.kill(json.loads((state / "storage" / "service.json").read_bytes())["pid"], number)
    except (FileNotFoundError, ProcessLookupError):
        pass
