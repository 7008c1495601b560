"""Ends host, agents and workers at random, as hard as it can, while durable calls run."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from collections import Counter

import psutil

KINDS = ("host", "agent", "worker", "zygote")


class Killer:
    """A thread that kills, again and again, one process of the host's family.

    Args:
        place: finds the host's process; 0 for none.
        pause: longest time between two kills, in seconds.
    """

    def __init__(self, place: object, seed: int, pause: float) -> None:
        self.kills: Counter[str] = Counter()
        self._place = place
        self._chance = random.Random(seed)
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._chance.uniform(0.0, self._pause)):
            kind = self._chance.choices(KINDS, weights=(2, 2, 5, 1))[0]
            victims = self._find(kind)
            if victims:
                victim = self._chance.choice(victims)
                try:
                    os.kill(victim, signal.SIGKILL)
                    self.kills[kind] += 1
                except ProcessLookupError:
                    pass

    def _find(self, kind: str) -> list[int]:
        pid = self._place._pid()  # type: ignore[attr-defined]
        if not pid:
            return []
        if kind == "host":
            return [pid]
        try:
            family = psutil.Process(pid).children(recursive=True)
            return [process.pid for process in family if _kind(process) == kind]
        except psutil.Error:
            return []


def _kind(process: psutil.Process) -> str:
    name = process.name()
    if name in ("cloudfn-agent", "cloudfn-zygote"):
        return name.removeprefix("cloudfn-")
    return "worker" if re.fullmatch(r"cloudfn-(w[0-9]+|spare)", name) else ""
