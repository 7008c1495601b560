"""The side of `cloudfn serve` that starts collectors and watches files."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Iterable, Iterator, Sequence

import watchfiles

from cloudfn.cli.collected import Found, Order
from cloudfn.exception import StartupError, StartupTimeoutError

_PATIENCE = 120.0  # seconds that the user's file may take to be imported
_DEBOUNCE = 60  # milliseconds in which changes count as one: an editor writes several files
_STEP = 15
_LOOK = 1000  # milliseconds between looks of our own, where the system tells of no changes


class Collectors:
    """Looks at a file, again and again, with one process ready for the next time.

    Args:
        reference: as on the command line.
    """

    def __init__(self, reference: str, is_module: bool, environment: str | None, cloud: str | None) -> None:
        self._fields = {
            "reference": reference,
            "is_module": is_module,
            "environment": environment,
            "cloud": cloud,
        }
        self._packages: Sequence[str] = ()
        self._next: tuple[subprocess.Popen[bytes], int] | None = None

    def prepare(self) -> None:
        """Start the next process, if there is none."""
        if self._next is None:
            self._next = self._start()

    def _start(self) -> tuple[subprocess.Popen[bytes], int]:
        read, write = os.pipe()
        order = json.dumps(asdict(Order(out=write, preload=self._packages, **self._fields)))  # type: ignore[arg-type]
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "cloudfn.cli.collector", order], stdin=subprocess.PIPE, pass_fds=[write]
            )
        finally:
            os.close(write)
        return process, read

    def collect(self) -> Found:
        """Look at the file as it is now. An error in it was shown where `code` is not 0.

        Raises:
            StartupTimeoutError: it takes too long to be imported.
            StartupError: the process that imported it died.
        """
        self.prepare()
        assert self._next is not None
        (process, read), self._next = self._next, None
        assert process.stdin is not None
        with open(read, "rb") as pipe:
            try:
                process.stdin.write(b"go\n")
                process.stdin.close()
            except OSError:  # it has died already; that it said nothing shows below
                pass
            if not _readable(pipe.fileno()):
                process.kill()
                process.wait()
                raise StartupTimeoutError(f"importing the file took longer than {_PATIENCE:.0f} s")
            data = pipe.read()
        code = process.wait()
        if not data:
            raise StartupError(f"the process that imported the file ended with code {code} and said nothing")
        found: Found = pickle.loads(data)  # noqa: S301 (from our own child, by a pipe that only it has)
        self._packages = found.packages
        return found

    def close(self) -> None:
        if self._next is not None:
            process, read = self._next
            os.close(read)
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def _readable(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLHUP)
    return bool(poll.poll(_PATIENCE * 1000))


class Watch:
    """Tells when one of some files changes, or a file comes to a folder of a package."""

    def __init__(self) -> None:
        self._files: frozenset[str] = frozenset()
        self._is_broken = False
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._filter = watchfiles.DefaultFilter()

    def look_at(self, files: Iterable[str], is_broken: bool) -> None:
        """What to watch from now on.

        Args:
            is_broken: they could not be imported, so `files` does not name all: those of before may be among them too,
                and so may a module that is not there yet.
        """
        self._files = frozenset(files) | (self._files if is_broken else frozenset())
        self._is_broken = is_broken
        self._stamps = _stamps(self._files)

    def changes(self) -> Iterator[None]:
        """Yields after each change, for ever. Not while nobody asks: what happens meanwhile is told then."""
        while True:
            folders = self._folders()
            batches = watchfiles.watch(
                *folders,
                watch_filter=self._concerns,
                debounce=_DEBOUNCE,
                step=_STEP,
                rust_timeout=_LOOK,
                yield_on_timeout=True,
                raise_interrupt=True,
                recursive=False,
            )
            for batch in batches:
                if batch or _stamps(self._files) != self._stamps:
                    self._stamps = _stamps(self._files)
                    yield
                    if self._folders() != folders:
                        break

    def _folders(self) -> tuple[str, ...]:
        found = {str(Path(file).parent) for file in self._files}
        return tuple(sorted(folder for folder in found if Path(folder).is_dir()))

    def _concerns(self, change: watchfiles.Change, path: str) -> bool:
        if path in self._files:
            return True
        if not self._filter(change, path):
            return False
        folder = Path(path).parent
        neighbours = [file for file in self._files if Path(file).parent == folder]
        return any(_is_in_package(file) for file in neighbours) or (self._is_broken and path.endswith(".py"))


def _is_in_package(file: str) -> bool:
    return (Path(file).parent / "__init__.py").exists()


def _stamps(files: Iterable[str]) -> dict[str, tuple[int, int, int]]:
    found = {}
    for file in files:
        try:
            status = os.stat(file)  # noqa: PTH116
        except OSError:
            continue
        found[file] = (status.st_mtime_ns, status.st_size, status.st_ino)
    return found
