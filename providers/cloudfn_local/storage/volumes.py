"""Volumes: a tree in SQLite over contents in a folder."""

from __future__ import annotations

import builtins
import posixpath
import time
from dataclasses import replace
from typing import BinaryIO, Iterable, Sequence

from cloudfn.exception import InvalidError
from cloudfn.storage.stores import Entry, Stored, VolumeStore
from cloudfn.storage.volume_path import normalise, parents
from cloudfn_local.storage.blobs import Blobs
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.objects import Clock, Objects
from cloudfn_local.storage.tree import Tree


class LocalVolumes(VolumeStore):
    """See `VolumeStore`. Thread-safe."""

    def __init__(self, database: Database, blobs: Blobs, clock: Clock = time.time) -> None:
        self._database = database
        self.blobs = blobs
        self.objects = Objects(database, "Volume", clock)
        self.objects.drop_ephemeral()
        self.tree = Tree(database, clock)
        self._clock = clock

    def create(self, name: str, *, allow_existing: bool = False) -> Stored:
        return self.objects.create(name, allow_existing)

    def find(self, name: str) -> Stored:
        return self.objects.find(name)

    def find_id(self, id: str) -> Stored:
        return self.objects.find_id(id)

    def list(self) -> Sequence[Stored]:
        return self.objects.list()

    def delete(self, id: str) -> None:
        self.objects.delete(id)
        self.blobs.sweep(self.tree.blobs())

    def rename(self, id: str, name: str) -> None:
        self.objects.rename(id, name)

    def entries(self, id: str, path: str, *, recursive: bool) -> Sequence[Entry]:
        number = self.objects.number(id)
        entry = self._entry(number, normalise(path))
        return [entry] if entry.kind != "d" else self.tree.below(number, entry.path, recursive=recursive)

    def open(self, id: str, path: str) -> BinaryIO:
        number = self.objects.number(id)
        with self._database.transaction():  # so that no sweep comes between
            entry = self._entry(number, normalise(path))
            if entry.kind == "d":
                raise IsADirectoryError(f"{path} is a folder.")
            if entry.kind == "l":
                raise FileNotFoundError(f"{path} is a link, to {entry.blob}.")
            return self.blobs.path(entry.blob).open("rb", buffering=0)

    def store(self, chunks: Iterable[bytes]) -> tuple[str, int]:
        return self.blobs.store(chunks)

    def link(self, id: str, entries: Sequence[Entry], *, force: bool) -> None:
        number, now = self.objects.number(id), self._clock()
        made = []
        for entry in entries:
            path = normalise(entry.path)
            if not path or entry.kind != "f" or not self.blobs.has(entry.blob):
                raise InvalidError(f"{entry.path!r} cannot be put into a volume.")
            blob = self.blobs.variant(entry.blob, entry.mode)
            made.append(replace(entry, path=path, blob=blob, mtime=entry.mtime or now))
        with self._database.transaction():
            for entry in made:
                self._check_room(number, entry.path, force)
            self.tree.apply(number, made, ())

    def remove(self, id: str, path: str, *, recursive: bool) -> None:
        number = self.objects.number(id)
        with self._database.transaction():
            entry = self._entry(number, normalise(path))
            if entry.kind == "d" and not recursive:
                raise IsADirectoryError(f"{path} is a folder; say `recursive` to remove it with all that is in it.")
            gone = [entry.path] if entry.path else [e.path for e in self.tree.below(number, "", recursive=False)]
            self.tree.apply(number, (), gone)

    def copy(self, id: str, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        number = self.objects.number(id)
        with self._database.transaction():
            there = self.tree.entry(number, normalise(target))
            into = there is not None and there.kind == "d"
            if not into and (len(sources) != 1 or target.endswith("/")):
                raise NotADirectoryError(f"{target} is no folder in the volume.")
            made: builtins.list[Entry] = []
            for source in sources:
                entry = self._entry(number, normalise(source))
                if entry.kind == "d" and not recursive:
                    raise IsADirectoryError(f"{source} is a folder; say `recursive` to copy it.")
                place = posixpath.join(normalise(target), posixpath.basename(entry.path)) if into else normalise(target)
                made += self._copies(number, entry, place)
            self.tree.apply(number, made, ())

    def _copies(self, number: int, entry: Entry, place: str) -> builtins.list[Entry]:
        if not place:
            raise InvalidError("The volume itself cannot be replaced by a copy.")
        inside = f"{entry.path}/" if entry.path else ""
        if entry.kind == "d" and (place == entry.path or place.startswith(inside)):
            raise InvalidError(f"{entry.path or '/'} cannot be copied into itself, to {place}.")
        copies = [replace(entry, path=place, mtime=self._clock())]
        for below in self.tree.below(number, entry.path) if entry.kind == "d" else ():
            copies.append(replace(below, path=f"{place}/{below.path[len(inside) :]}", mtime=self._clock()))
        return copies

    def _entry(self, number: int, path: str) -> Entry:
        entry = self.tree.entry(number, path)
        if entry is None:
            raise FileNotFoundError(f"There is no {path!r} in the volume.")
        return entry

    def _check_room(self, number: int, path: str, force: bool) -> None:
        for above in parents(path):
            there = self.tree.entry(number, above)
            if there is not None and there.kind != "d":
                raise FileExistsError(f"{path} cannot be put into the volume: {above} is a file.")
        there = self.tree.entry(number, path)
        if there is not None and there.kind == "d":
            raise FileExistsError(f"{path} is a folder in the volume, and no file takes its place.")
        if there is not None and not force:
            raise FileExistsError(f"{path} is in the volume already; say `force` to replace it.")
