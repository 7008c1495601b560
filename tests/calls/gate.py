"""Inputs that wait for the test, and what they note meanwhile."""

from __future__ import annotations

from pathlib import Path

from events import lines


class Gate:
    """Attributes:
    log: a file with a line for each thing that an input did.
    path: a file that inputs wait for.
    """

    def __init__(self, folder: Path) -> None:
        self.log, self.path = str(folder / "log"), str(folder / "gate")

    def lines(self) -> list[str]:
        return lines(self.log)

    def open(self) -> None:
        Path(self.path).touch()
