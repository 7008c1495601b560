"""The volumes that are mounted in this worker, as the process that mounted them has told."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Iterator, Sequence

from cloudfn import execution
from cloudfn.record import dataclass
from cloudfn.storage.door import DoorRoad
from cloudfn.storage.link import Conversation, Link, converse
from cloudfn.storage.messages import SMALL, Request
from cloudfn.storage.stores import Entry

VARIABLE = "CLOUDFN_MOUNTED"
_TOGETHER = 512  # small files that are asked for at once


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
    small = [entry for entry in entries if entry.kind == "f" and entry.size <= SMALL]
    for entry in entries:
        if entry.kind != "f" or entry.size > SMALL:  # folders before the files in them
            stamp = yield from _apply(one, entry)
            if stamp is not None:
                applied.append((entry.path, *stamp))
    while small:
        done = yield from _apply_small(one, small[:_TOGETHER])
        applied += [(path, *stamp) for path, stamp in done.items() if stamp is not None]
        small = small[len(done) :]
    if not one.read_only:
        fields = {"token": one.token, "version": reply.fields["version"], "applied": applied}
        yield Request("workspace.reloaded", fields, again=True)


Stamp = tuple[int, int, int]  # size, mtime and ctime, as the service compares them


def _apply_small(one: Mounted, entries: Sequence[Entry]) -> Conversation[dict[str, Stamp | None]]:
    """Files, from the first on as many as one answer holds; by path, as `_apply` answers."""
    paths = [entry.path for entry in entries]
    reply = yield Request("volume.fetch", {"id": one.id, "paths": paths}, again=True)
    left_out = set(reply.fields["left_out"])
    done: dict[str, Stamp | None] = {}
    for number, (entry, content) in enumerate(zip(entries, reply.parts)):  # noqa: B905 - the answer may end sooner
        if number in left_out:
            done[entry.path] = yield from _apply(one, entry)
            continue
        aside = _aside(one, entry)
        aside.write_bytes(content)
        done[entry.path] = _put(one, entry, aside)
    return done


def _apply(one: Mounted, entry: Entry) -> Conversation[Stamp | None]:
    """None: it is gone again, as the next reload will tell."""
    place = _place(one, entry.path)
    if entry.kind == "d":
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            place.unlink()
        place.mkdir(exist_ok=True)
        return -3, 0, 0
    aside = _aside(one, entry)
    if entry.kind == "l":
        aside.symlink_to(entry.blob)
        return _put(one, entry, aside)
    try:
        yield from _fetch(one.id, entry, aside)
    except FileNotFoundError:
        aside.unlink(missing_ok=True)
        return None
    return _put(one, entry, aside)


def _aside(one: Mounted, entry: Entry) -> Path:
    return _place(one, entry.path).with_name(f".cloudfn-{os.getpid()}-{one.token[:8]}")


def _put(one: Mounted, entry: Entry, aside: Path) -> Stamp:
    """What was written aside, whole, to its place."""
    if entry.kind == "f":
        aside.chmod(entry.mode)
        os.utime(aside, (entry.mtime, entry.mtime))
    place = _place(one, entry.path)
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
