"""Workers' views of volumes.

A view that may be written to is an overlay: below lies a checkout, a folder of hard links to one version's contents,
which many views share; above lies a folder of the view's own, where the kernel puts what the worker writes. A commit
reads that folder only. A view to read from is a folder of hard links of its own, where later versions are put in place
file by file.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import threading
from pathlib import Path
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.storage.stores import Entry, Workspaces
from cloudfn.storage.volume_path import normalise
from cloudfn_local.storage.blobs import Batch
from cloudfn_local.storage.database import Database
from cloudfn_local.storage.volumes import LocalVolumes

SCHEMA = """
CREATE TABLE IF NOT EXISTS view (
    token TEXT PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES object ON DELETE CASCADE,
    version INTEGER NOT NULL,
    checkout TEXT NOT NULL,
    sub TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS seen (
    token TEXT NOT NULL REFERENCES view ON DELETE CASCADE,
    path TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime INTEGER NOT NULL,
    ctime INTEGER NOT NULL,
    PRIMARY KEY (token, path)
) WITHOUT ROWID;
"""
_GONE = -1  # as a size: a path that was removed, and others know
_OPAQUE = -2  # a folder that hides what lies below it, and others know
_FOLDER = -3
_HIDES = ("trusted.overlay.opaque", "user.overlay.opaque")
_SEEN = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?, ?)"

Stamp = tuple[int, int, int]  # size, mtime, ctime


class _View(NamedTuple):
    token: str
    number: int
    version: int
    checkout: str  # "" where the view has a folder of its own to read from
    sub: str


class LocalViews(Workspaces):
    """See `Workspaces`. Thread-safe.

    Args:
        folder: private to the user, on the same file system as the blobs.
    """

    def __init__(self, database: Database, volumes: LocalVolumes, folder: Path) -> None:
        self._database = database
        self._volumes = volumes
        self._tree = volumes.tree
        self._views = folder / "views"
        self._checkouts = folder / "checkouts"
        for made in (self._views, self._checkouts):
            made.mkdir(parents=True, exist_ok=True)
        self._own: set[str] = set()  # opened here: the end of a connection closes them
        self._lock = threading.RLock()  # of checkouts, and of each view's commits
        self.drop_unused()

    def open(self, volume: str, *, read_only: bool, sub_path: str) -> Mapping[str, str]:
        number, sub = self._volumes.objects.number(volume), normalise(sub_path)
        token = secrets.token_hex(12)
        place = self._views / token
        with self._lock:
            self._own.add(token)
            with self._database.transaction():
                version, entries = self._tree.version(number), self._tree.below(number, sub)
            checkout = "" if read_only else _checkout_name(number, version, sub)
            row = (token, number, version, checkout, sub)
            self._database.run("INSERT INTO view VALUES (?, ?, ?, ?, ?)", row)
            try:
                place.mkdir(mode=0o700)
                (place / "lock").touch(mode=0o600)
                if read_only:
                    self._fill(place / "tree", entries, sub)
                    return {"token": token, "lock": str(place / "lock"), "tree": str(place / "tree")}
                (place / "upper").mkdir()
                (place / "upper").chmod(0o755)
                (place / "work").mkdir(mode=0o700)
                lower = self._checkouts / checkout
                if not lower.exists():
                    aside = self._checkouts / f".{token}"
                    self._fill(aside, entries, sub)
                    aside.replace(lower)
            except BaseException:
                self.close(token)
                raise
        parts = {name: str(place / name) for name in ("lock", "upper", "work")}
        return {"token": token, "lower": str(lower), **parts}

    def commit(self, token: str) -> None:
        with self._lock:
            view = self._view(token)
            if view.checkout:
                self._commit(view)

    def changes(self, token: str) -> tuple[int, Sequence[Entry], Sequence[str]]:
        with self._lock:
            view = self._view(token)
            if view.checkout:
                self._commit(view)
            with self._database.transaction():
                version = self._tree.version(view.number)
                entries, gone = self._tree.since(view.number, view.version, view.sub, token)
            strip = len(view.sub) + 1 if view.sub else 0
            if not view.checkout:
                self._refresh(self._views / token / "tree", entries, gone, strip)
                self._database.run("UPDATE view SET version = ? WHERE token = ?", (version, token))
                return version, [], []
        # The paths stay those in the volume; the view's user knows its `sub`.
        return version, entries, gone

    def reloaded(self, token: str, version: int, applied: Sequence[tuple[str, int, int, int]]) -> None:
        view = self._view(token)
        with self._database.transaction():
            self._database.run("UPDATE view SET version = MAX(version, ?) WHERE token = ?", (version, token))
            rows = [(token, _strip(normalise(path), view.sub), *stamp) for path, *stamp in applied]
            self._database.run_many(_SEEN, rows)

    def close(self, token: str) -> None:
        with self._lock:
            row = self._database.row("SELECT checkout FROM view WHERE token = ?", (token,))
            self._database.run("DELETE FROM view WHERE token = ?", (token,))
            _remove(self._views / token)
            self._own.discard(token)
            if row and row[0] and not self._database.row("SELECT 1 FROM view WHERE checkout = ?", (row[0],)):
                number, version = row[0].split("-")[:2]
                if int(version) != self._tree.version(int(number)):  # the newest one serves the next worker
                    _remove(self._checkouts / row[0])

    def drop_unused(self) -> None:
        """Close views of a service before this one, where their users have ended; remove what no view stands on."""
        with self._lock:
            known = {row[0] for row in self._database.rows("SELECT token FROM view")}
            for place in self._views.iterdir():
                if place.name not in self._own and not _is_locked(place / "lock"):
                    self.close(place.name)
                    known.discard(place.name)
            for token in known:
                if not (self._views / token).exists():
                    self.close(token)
            used = {row[0] for row in self._database.rows("SELECT checkout FROM view")}
            for checkout in self._checkouts.iterdir():
                if checkout.name not in used:
                    _remove(checkout)
            if not used:
                self._tree.forget_gone()

    # -- commits

    def _commit(self, view: _View) -> None:
        seen: dict[str, Stamp] = {
            path: (size, mtime, ctime)
            for path, size, mtime, ctime in self._database.rows(
                "SELECT path, size, mtime, ctime FROM seen WHERE token = ?", (view.token,)
            )
        }
        with self._volumes.blobs.batch() as batch:
            scan = _Scan(self._views / view.token / "upper", view.sub, seen, batch)
            scan.run()
        if not scan.stamps:
            return
        with self._database.transaction():
            gone = list(scan.gone)
            for folder in scan.opaque:
                gone += [entry.path for entry in self._tree.below(view.number, folder, recursive=False)]
            if gone or scan.entries:
                self._tree.apply(view.number, scan.entries, gone, view.token)
            self._database.run_many(_SEEN, [(view.token, path, *stamp) for path, stamp in scan.stamps.items()])

    def _view(self, token: str) -> _View:
        row = self._database.row("SELECT token, number, version, checkout, sub FROM view WHERE token = ?", (token,))
        if row is None:
            raise NotFoundError(
                "The volume of this worker was deleted while it was mounted.", hint="What is written here is lost."
            )
        return _View(*row)

    # -- folders of hard links

    def _fill(self, folder: Path, entries: Sequence[Entry], sub: str) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        strip = len(sub) + 1 if sub else 0
        for entry in entries:  # in the order of paths: a folder comes before what is in it
            self._place(entry, folder / entry.path[strip:])

    def _place(self, entry: Entry, place: Path) -> None:
        if entry.kind == "d":
            place.mkdir(exist_ok=True)
            place.chmod(0o755)
        elif entry.kind == "l":
            place.symlink_to(entry.blob)
        else:
            self._volumes.blobs.link(entry.blob, place)

    def _refresh(self, folder: Path, entries: Sequence[Entry], gone: Sequence[str], strip: int) -> None:
        """Bring a folder up to date; whoever reads there sees each file as it was or as it is."""
        for path in reversed(gone):
            _remove(folder / path[strip:])
        aside = folder.parent / "aside"
        for entry in entries:
            place = folder / entry.path[strip:]
            if entry.kind != "d":
                self._place(entry, aside)
                if place.is_dir() and not place.is_symlink():
                    _remove(place)
                aside.replace(place)
                continue
            if place.is_symlink() or place.is_file():
                place.unlink()
            self._place(entry, place)


class _Scan:
    """What a view's user has changed since the last commit, read from the upper folder of its overlay.

    Attributes:
        entries, gone: for `Tree.apply`, by their paths in the volume.
        opaque: folders that hide everything that was in them.
        stamps: what is committed by that, by the path in the view.
    """

    def __init__(self, upper: Path, sub: str, seen: Mapping[str, Stamp], batch: Batch) -> None:
        self._upper = upper
        self._sub = sub
        self._seen = seen
        self._batch = batch
        self.entries: list[Entry] = []
        self.gone: list[str] = []
        self.opaque: list[str] = []
        self.stamps: dict[str, Stamp] = {}

    def run(self) -> None:
        there = set()
        for path, found in self._walk(""):
            there.add(path)
            try:
                self._look(path, found, found.stat(follow_symlinks=False))
            except FileNotFoundError:  # removed while we look: the next commit sees that
                continue
        for path, stamp in self._seen.items():  # of what lay in the upper folder only, nothing is left there
            if path not in there and stamp[0] != _GONE:
                self.gone.append(f"{self._sub}/{path}" if self._sub else path)
                self.stamps[path] = (_GONE, 0, 0)

    def _walk(self, path: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
        try:
            children = sorted(os.scandir(self._upper / path), key=lambda child: child.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        for child in children:
            below = f"{path}/{child.name}" if path else child.name
            yield below, child
            if child.is_dir(follow_symlinks=False):
                yield from self._walk(below)

    def _look(self, path: str, found: os.DirEntry[str], status: os.stat_result) -> None:
        place = _text(f"{self._sub}/{path}" if self._sub else path)
        known = self._seen.get(path)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:  # how an overlay says that a name is gone
            if known is None or known[0] != _GONE or known[2] not in (0, status.st_ctime_ns):
                self.gone.append(place)
            self.stamps_if_new(path, (_GONE, 0, status.st_ctime_ns))
        elif stat.S_ISDIR(status.st_mode):
            self._look_at_folder(path, place, found.path, known)
        elif known == stamp:
            return
        elif stat.S_ISREG(status.st_mode):
            blob, size = self._batch.add_file(Path(found.path), status.st_mode)
            mode = stat.S_IMODE(status.st_mode) & 0o777
            self.entries.append(Entry(place, "f", size, status.st_mtime, mode, blob))
            self.stamps[path] = stamp
        elif stat.S_ISLNK(status.st_mode):
            target = _text(str(Path(found.path).readlink()))
            self.entries.append(Entry(place, "l", len(target), status.st_mtime, 0o777, target))
            self.stamps[path] = stamp

    def _look_at_folder(self, path: str, place: str, real: str, known: Stamp | None) -> None:
        hides = any(_attribute(real, name) == b"y" for name in _HIDES)
        if hides and (known is None or known[0] != _OPAQUE):
            self.opaque.append(place)
        stamp = (_OPAQUE if hides else _FOLDER, 0, 0)
        if known != stamp:
            self.entries.append(Entry(place, "d", mode=0o755))
        self.stamps_if_new(path, stamp)

    def stamps_if_new(self, path: str, stamp: Stamp) -> None:
        if self._seen.get(path) != stamp:
            self.stamps[path] = stamp


def _text(name: str) -> str:
    """A name that a volume can keep. Raises `InvalidError`."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidError(
            f"A volume cannot keep the name {os.fsencode(name)!r}, which is no UTF-8; so nothing was committed.",
            hint="Rename what has it, or remove it.",
        ) from None
    return name


def _attribute(path: str, name: str) -> bytes:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError:  # there is none, or it is not for us to see
        return b""


def _strip(path: str, sub: str) -> str:
    return path[len(sub) + 1 :] if sub else path


def _checkout_name(number: int, version: int, sub: str) -> str:
    return f"{number}-{version}" + (f"-{hashlib.sha256(sub.encode()).hexdigest()[:16]}" if sub else "")


def _is_locked(path: Path) -> bool:
    """Whether the user of a view lives."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def _remove(path: Path) -> None:
    """A file or a folder with all that is in it, if it is there."""

    def open_up(function: Any, name: str, _error: Any) -> None:
        # The kernel's own folder in `work` has no permissions at all.
        try:
            Path(name).parent.chmod(0o700)
            Path(name).chmod(0o700)
            function(name)
        except OSError:
            pass

    if path.is_symlink() or path.is_file():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, onerror=open_up)
