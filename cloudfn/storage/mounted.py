"""The volumes that are mounted in this worker, as the process that mounted them has told."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Iterator

from cloudfn import execution
from cloudfn.record import dataclass
from cloudfn.storage.door import DoorRoad
from cloudfn.storage.link import Conversation, Link, converse
from cloudfn.storage.messages import Request
from cloudfn.storage.stores import Entry

VARIABLE = "CLOUDFN_MOUNTED"


@dataclass(frozen=True)
class Mounted:
    """One volume in this worker.

    Attributes:
        id: the volume's.
        token: names our view of it, see `cloudfn.storage.stores.Workspaces`.
        target: where it is.
        sub_path: the folder in the volume that is mounted, "" for all of it.
    """

    id: str
    token: str
    target: str
    read_only: bool
    sub_path: str


@cache
def mounted() -> tuple[Mounted, ...]:
    """All of them; none on the user's own machine."""
    if not execution.in_worker:
        return ()
    return tuple(Mounted(**one) for one in json.loads(os.environ.get(VARIABLE, "[]")))


class Commits:
    """What a worker does when an input has ended: what was written is committed before its result is told."""

    def __init__(self, door: execution.Door, tokens: list[str]) -> None:
        self._link = Link(DoorRoad(door))
        self._tokens = tokens

    def __call__(self) -> None:
        """Raises what a commit raises."""
        converse(self._link, commit(self._tokens))


def commits() -> Commits | None:
    """None in a worker without volumes that it could write to."""
    tokens = [one.token for one in mounted() if not one.read_only]
    return Commits(execution.door, tokens) if tokens and execution.door else None


def commit(tokens: list[str]) -> Conversation[None]:
    yield Request("workspace.commit", {"tokens": tokens}, again=True)


def reload(one: Mounted) -> Conversation[None]:
    """Bring what others have committed into a view, file by file: each is seen as it was or as it is."""
    reply = yield Request("workspace.changes", {"token": one.token}, again=True)
    entries = [Entry(*row) for row in reply.fields["entries"]]
    applied: list[tuple[str, int, int, int]] = []
    for path in reversed(reply.fields["gone"]):
        remove(_place(one, path))
        applied.append((path, -1, 0, 0))
    for entry in entries:
        stamp = yield from _apply(one, entry)
        if stamp is not None:
            applied.append((entry.path, *stamp))
    if not one.read_only:
        fields = {"token": one.token, "version": reply.fields["version"], "applied": applied}
        yield Request("workspace.reloaded", fields, again=True)


def _apply(one: Mounted, entry: Entry) -> Conversation[tuple[int, int, int] | None]:
    place = _place(one, entry.path)
    if entry.kind == "d":
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(exist_ok=True)
        return -3, 0, 0
    aside = place.with_name(f".cloudfn-{os.getpid()}-{one.token[:8]}")
    if entry.kind == "l":
        aside.symlink_to(entry.blob)
    else:
        try:
            yield from _fetch(one.id, entry, aside)
        except FileNotFoundError:  # it is gone again, as the next reload will tell
            aside.unlink(missing_ok=True)
            return None
    if place.is_dir() and not place.is_symlink():
        remove(place)
    aside.replace(place)
    status = place.lstat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _fetch(id: str, entry: Entry, place: Path) -> Conversation[None]:
    with place.open("wb") as file:
        reply = yield Request("volume.read", {"id": id, "path": entry.path})
        while True:
            for part in reply.parts:
                file.write(part)
            if not reply.more:
                break
            reply = yield None
    place.chmod(entry.mode)
    os.utime(place, (entry.mtime, entry.mtime))


def _place(one: Mounted, path: str) -> Path:
    inside = path[len(one.sub_path) + 1 :] if one.sub_path else path
    return Path(one.target, inside)


def remove(place: Path) -> None:
    """A file or a folder with all that is in it, if it is there."""
    import shutil

    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def everything(id: str) -> Iterator[Mounted]:
    """Where a volume is mounted in this worker."""
    return (one for one in mounted() if one.id == id)
