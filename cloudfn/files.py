"""Local files as an image sees them: which there are under a folder, and what is in them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Callable, Iterator, Mapping, Sequence

from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.provider import LocalFile
from cloudfn.spec import digest

Ignore = Sequence[str] | Callable[[Path], bool]
"""Patterns as in a .dockerignore, or a predicate on the path relative to the folder; True leaves the file out."""

# By path, size, time of change and inode: an app asks for the same files several times in one process.
_hashes: dict[tuple[str, int, int, int], str] = {}

# A file that changed this short a time ago (seconds) may change again within the clock's grain, unseen.
_SETTLED = 2.0


def one(path: Path) -> dict[str, LocalFile]:
    """A single file as a tree, under its own name.

    Raises:
        NotFoundError: there is no such file.
        InvalidError: it is a folder.
    """
    if path.is_dir():
        raise InvalidError(f"{path} is a folder, not a file.", hint="Use add_local_dir for a folder.")
    return {path.name: _describe(path)}


def tree(folder: Path, ignore: Ignore = ()) -> dict[str, LocalFile]:
    """All files below a folder by relative path; links are followed, as the worker sees copies.

    Raises:
        NotFoundError: there is no such folder.
        InvalidError: it is a file.
    """
    if not folder.exists():
        raise NotFoundError(f"The local folder {folder} does not exist.")
    if not folder.is_dir():
        raise InvalidError(f"{folder} is a file, not a folder.", hint="Use add_local_file for a single file.")
    ignored = _predicate(ignore)
    found = sorted(relative for relative in _walk(folder) if not ignored(relative))
    return {relative.as_posix(): _describe(folder / relative) for relative in found}


def python_source(modules: Sequence[str], ignore: Ignore) -> dict[str, LocalFile]:
    """The source of importable modules and packages, laid out as on `sys.path`; nothing is imported to find them.

    Raises:
        NotFoundError: no such module.
        InvalidError: a module without Python source.
    """
    ignored = _predicate(ignore)
    files: dict[str, LocalFile] = {}
    for module in modules:
        parts = module.split(".")
        single, folders = _find_module(module)
        if single is not None:
            files["/".join(parts) + single.suffix] = _describe(single)
        for folder in folders:
            for relative in sorted(_walk(folder)):
                hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
                if not hidden and not ignored(relative):
                    files["/".join([*parts, relative.as_posix()])] = _describe(folder / relative)
    return files


def _find_module(name: str) -> tuple[Path | None, list[Path]]:
    """Its file, or the folders of a package (a namespace package may have several)."""
    from importlib.machinery import PathFinder

    # Not `importlib.util.find_spec`: it would import the parents of a dotted name.
    top, *below = name.split(".")
    if top in sys.builtin_module_names:  # which modules are, differs from one build of Python to the next
        raise InvalidError(f"The module {name!r} is a part of Python and has no Python source.", hint="Leave it out.")
    found = PathFinder.find_spec(top)
    folders = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    single = Path(found.origin) if found and found.origin and not folders else None
    for part in below:
        single = next((path for place in folders if (path := place / f"{part}.py").is_file()), None)
        folders = [place / part for place in folders if (place / part).is_dir()]
    if folders:
        return None, folders
    if single is None and not (found and not below):
        raise NotFoundError(
            f"There is no local Python module {name!r}.",
            hint="It must be importable here: start in the folder that holds it, or install it.",
        )
    if single is None or single.suffix != ".py":
        raise InvalidError(f"The module {name!r} has no Python source ({single}).", hint="Use uv_pip_install for it.")
    return single, []


def tree_digest(files: Mapping[str, LocalFile]) -> str:
    """Digest of names, content and execute bits: the same for equal trees on any machine."""
    return digest({name: [file.sha256, file.executable] for name, file in files.items()})


def _walk(folder: Path) -> Iterator[Path]:
    # Links to folders are followed, but not back into a folder that the walk is inside of.
    trail: dict[str, tuple[str, ...]] = {str(folder): (os.path.realpath(folder),)}
    for place, folders, names in os.walk(folder, followlinks=True):
        above = trail.pop(place)
        keep = []
        for name in folders:
            inner = os.path.join(place, name)  # noqa: PTH118 (paths stay strings here: this is the hot loop)
            real = os.path.realpath(inner)
            if real not in above:
                keep.append(name)
                trail[inner] = (*above, real)
        folders[:] = keep
        relative = Path(place).relative_to(folder)
        yield from (relative / name for name in names)


def _predicate(ignore: Ignore) -> Callable[[Path], bool]:
    if callable(ignore):
        return ignore
    if isinstance(ignore, str) or not all(isinstance(pattern, str) for pattern in ignore):
        raise InvalidError(f"ignore={ignore!r}: must be a list of patterns or a function.")
    if not ignore:
        return lambda _: False
    import pathspec

    # A .dockerignore pattern counts from the folder itself, where git's would match at any depth.
    lines = [f"!/{p[1:].lstrip('/')}" if p.startswith("!") else f"/{p.lstrip('/')}" for p in ignore]
    spec = pathspec.GitIgnoreSpec.from_lines(lines)
    return lambda path: spec.match_file(path.as_posix())


def _describe(path: Path) -> LocalFile:
    try:
        stat = path.stat()
        key = (str(path), stat.st_size, stat.st_ctime_ns, stat.st_ino)
        sha256 = _hashes.get(key) or _sha256(path)
    except FileNotFoundError as error:
        kind = "link leads nowhere" if path.is_symlink() else "file does not exist"
        raise NotFoundError(f"The local {kind}: {path}.") from error
    except OSError as error:
        raise InvalidError(f"The local file {path} cannot be read: {error.strerror}.") from error
    if time.time() - stat.st_ctime > _SETTLED:
        _hashes[key] = sha256
    return LocalFile(str(path), sha256, bool(stat.st_mode & 0o100))


def _sha256(path: Path) -> str:
    import hashlib
    import stat

    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for ever
        raise InvalidError(
            f"{path} is no regular file (a socket, a pipe or a device).", hint="Leave it out by `ignore`."
        )
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()
