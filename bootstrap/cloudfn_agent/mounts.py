"""Local files at absolute paths, in one worker's view only: bubblewrap arguments that add to what the machine has.

The worker sees the machine as it is, with the same processes, network and open files; nothing is made on the machine
itself. Where a target cannot be laid over something that exists, its parent is rebuilt: an empty folder in memory
into which each child of the real one is bound. Children that others add to the real parent later are then not seen,
and new ones of the worker's own are gone with it; everything inside the children is as ever.

A folder that is added where the machine has one is spread into it: its entries come beside the real ones, and before
those of the same name.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Iterator, Sequence

from cloudfn.exception import InvalidError, ResourceUnavailableError
from cloudfn.provider import Mount

# Kernel interfaces: a worker that has its own copy of these is no longer on this machine.
_RESERVED = ("/proc", "/sys", "/dev")

_TOP = PurePosixPath("/")

# bubblewrap refuses to read more than 9000 arguments.
_MAX_ARGUMENTS = 8900


@dataclass
class _Node:
    """A path of the view. `mount` None: only its children are asked for."""

    mount: Mount | None = None
    children: dict[str, _Node] = field(default_factory=dict)


def command(mounts: Sequence[Mount], argv: Sequence[str]) -> list[str]:
    """`argv`, prefixed so that it runs where the mounts are visible.

    The process that is started is bubblewrap, the program its child; when one ends so does the other, and the exit
    status is handed on (128 + n for signal n). It dies with the thread that started it.

    Args:
        mounts: sources must exist; an empty source is an empty writable folder.
        argv: the program by absolute path or by a name on PATH; returned as it is if there are no mounts.

    Raises:
        InvalidError: a target that is relative, "/", reserved, inside of a file, or given twice.
        ResourceUnavailableError: bubblewrap is not installed.
    """
    if not mounts:
        return list(argv)
    program = find_bubblewrap()
    arguments = list(_render(_TOP, _tree(mounts), Path("/")))
    if len(arguments) + len(argv) > _MAX_ARGUMENTS:
        widest = ", ".join(sorted({str(PurePosixPath(mount.target).parent) for mount in mounts}))
        raise InvalidError(
            f"The files that the image adds lie in folders with too many entries to rebuild: {widest}.",
            hint="Add them in a folder of their own, such as /data.",
        )
    return [program, *arguments, "--die-with-parent", "--", *argv]


def find_bubblewrap() -> str:
    """Path of `bwrap`. Raises `ResourceUnavailableError` where there is none."""
    import shutil

    program = shutil.which("bwrap")
    if program is None:
        raise ResourceUnavailableError(
            "To show local files at absolute paths in a worker, process mode needs bubblewrap (`bwrap`), "
            "which is not installed on this machine.",
            hint="Install it (Debian, Ubuntu: apt-get install bubblewrap), or read the files by a path of your own.",
        )
    return program


def check() -> str:
    """Why mounts do not work on this machine, in one line; "" if they do."""
    import subprocess

    try:
        program = find_bubblewrap()
    except ResourceUnavailableError as error:
        return error.message
    arguments = [program, "--dev-bind", "/", "/", "true"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=10, check=False)
    return "" if done.returncode == 0 else done.stderr.strip() or f"bwrap exits with {done.returncode}"


def _tree(mounts: Sequence[Mount]) -> _Node:
    root = _Node()
    given: dict[str, Mount] = {}
    for mount in mounts:
        target = _target(mount.target)
        if target in given:
            raise InvalidError(
                f"Two things are to be at {target}: what the image adds, volumes or buckets.",
                hint="Give each a path of its own; a folder may hold the others' paths.",
            )
        given[target] = mount
    for target, mount in {**_spread(given), **given}.items():
        if target not in given or not _is_spread(target, mount):
            node = root
            for part in PurePosixPath(target).parts[1:]:
                node = node.children.setdefault(part, _Node())
            node.mount = mount
    return root


def _is_spread(target: str, mount: Mount) -> bool:
    """Whether a folder is added where the machine has one with something in it (/root): then both are to be seen."""
    there = Path(target)
    if mount.writable or not mount.source or not Path(mount.source).is_dir() or not there.is_dir():
        return False
    return os.access(there, os.R_OK | os.X_OK) and any(there.iterdir())


def _spread(given: dict[str, Mount]) -> dict[str, Mount]:
    """The entries of such folders, each as a mount of its own."""
    return {
        str(Path(target, entry.name)): Mount(str(entry), str(Path(target, entry.name)))
        for target, mount in given.items()
        if _is_spread(target, mount)
        for entry in sorted(Path(mount.source).iterdir())
    }


def _target(path: str) -> str:
    """Normalised, through the links that the machine has on the way (/bin, /var/run)."""
    if not path.startswith("/"):
        raise InvalidError(f"The path {path!r} must be absolute.")
    try:
        real = Path(path).resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links, up to Python 3.12
        raise InvalidError(f"The image cannot add {path}: its links cannot be followed ({error}).") from error
    if real == Path("/"):
        raise InvalidError('An image cannot add something at "/" itself.', hint="Name a folder, such as /data.")
    if any(real == taken or taken in real.parents for taken in map(Path, _RESERVED)):
        raise InvalidError(f"An image cannot add something at {path}: {', '.join(_RESERVED)} belong to the kernel.")
    for parent in real.parents:
        if _exists(parent) and not parent.is_dir():
            raise InvalidError(f"An image cannot add {path}: {parent} is a file on this machine.")
    return str(real)


def _render(path: PurePosixPath, node: _Node, base: Path | None, writable: bool = True) -> Iterator[str]:
    """Arguments that make `path` what `node` asks for.

    Args:
        base: what lies there so far (a path on this machine), or None.
        writable: whether `base` is the machine's own, not a mount's content.
    """
    if node.mount is not None:
        base, writable = Path(node.mount.source) if node.mount.source else None, node.mount.writable
    elif base is not None and not os.access(base, os.R_OK | os.X_OK):
        base = None  # /root, for all but root: there is nothing in it that this user could see
    if base is not None and not base.is_dir():
        if node.children:
            raise InvalidError(f"The image adds something inside {path}, which is a file.")
        yield from _bind(base, path, writable)
        return
    below = {name: _below(base, name) for name in node.children}
    if base is not None and all(_fits(below[name], child) for name, child in node.children.items()):
        # Whatever is at `path` already shows `base`, unless this is the top or a mount of its own.
        if node.mount is not None or path == _TOP:
            yield from _bind(base, path, writable)
    else:
        yield from _rebuild(path, node, base, writable)
    for name, child in sorted(node.children.items()):
        yield from _render(path / name, child, below[name], writable)


def _rebuild(path: PurePosixPath, node: _Node, base: Path | None, writable: bool) -> Iterator[str]:
    """`path` as an empty folder in memory, with the children of `base` that the node says nothing about."""
    if path != _TOP:  # the top is an empty folder in memory already
        mode = stat.S_IMODE(base.stat().st_mode) if base is not None else 0o755
        yield from ("--perms", f"{mode:04o}", "--tmpfs", str(path))
    for child in sorted(base.iterdir()) if base is not None else ():
        wanted = node.children.get(child.name)
        if child.is_symlink():
            if wanted is None:
                yield from ("--symlink", str(child.readlink()), str(path / child.name))
        elif wanted is None or (wanted.mount is None and child.is_dir()):
            yield from _bind(child, path / child.name, writable)


def _bind(source: Path, path: PurePosixPath, writable: bool) -> tuple[str, str, str]:
    return ("--dev-bind" if writable else "--ro-bind", str(source), str(path))


def _below(base: Path | None, name: str) -> Path | None:
    return base / name if base is not None and _exists(base / name) else None


def _exists(path: Path) -> bool:
    """Whether there is anything, a dangling link too; no where this user may not look."""
    try:
        path.lstat()
    except OSError:
        return False
    return True


def _fits(existing: Path | None, node: _Node) -> bool:
    """Whether something exists that the node can be mounted on."""
    if existing is None or existing.is_symlink():
        return False
    wants_folder = node.mount is None or not node.mount.source or Path(node.mount.source).is_dir()
    return existing.is_dir() == wants_folder


def wrap(argv: list[str], runtime: dict[str, Any]) -> list[str]:
    """`command` for a runtime in its JSON form (`cloudfn.provider.Runtime.to_json`)."""
    return command([Mount(source, target) for source, target in runtime["mounts"]], argv)
