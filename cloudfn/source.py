"""How a function's code reaches a worker: as source, content-addressed, or by value.

A bundle holds the function's module and the local modules that it imports. Local is what lies under the same source
root, the folder from which the module imports. What goes:

- a module that belongs to a package, with or without `__init__.py`: the whole folder of the outermost package, data
  files too;
- any other module: its own file;
- never cloudfn itself, which every worker has;
- never `.git`, `__pycache__`, `node_modules`, virtual environments, nor what a `.gitignore` names (those of the folder,
  of the folders in it and of those above it up to the top of the git repository). A module that the code imports goes
  even if it is ignored (a generated `_version.py`): without it the import fails in the worker.
- A link that leads to a place under the source root goes as what it points to; one that leads out of it is an
  InvalidError; one that leads nowhere is left out.
"""

# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH116, PTH118, PTH120, PTH206, PTH208 - Path objects would cost most of the time

from __future__ import annotations

import ast
import hashlib
import os
import re
import sys
import threading
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator

from cloudfn.exception import (
    ExecutionError,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    RequestSizeError,
)
from cloudfn.gitignore import Rules, ignored, rules_above, rules_in
from cloudfn.record import dataclass
from cloudfn.spec import digest as digest_of

MAX_FILE = 50_000_000  # bytes
MAX_BUNDLE = 500_000_000  # bytes

_OURS = frozenset({"cloudfn", "cloudfn_agent"})  # every worker has these, whatever its image
_NEVER = frozenset({".git", "__pycache__", "node_modules"})


@dataclass(frozen=True)
class BundleFile:
    """One file. `path` is relative to the source root, with "/"; `mode` is 0o755 or 0o644."""

    path: str
    sha256: str
    size: int
    mode: int


@dataclass(frozen=True)
class Bundle:
    """Source files under one root. `digest` is that of their paths, contents and modes; "" where there are none."""

    root: Path
    files: tuple[BundleFile, ...]
    digest: str

    def write_to(self, folder: Path) -> Path:
        """Copy the bundle to `folder/<digest>`, whole or not at all, unless it is there; return that path.

        Raises:
            InvalidError: the bundle is empty, or a file changed since it was made.
        """
        import shutil
        import tempfile

        if not self.files:
            raise InvalidError("a bundle without files cannot be written")
        target = folder / self.digest
        there = target.exists()
        if there:
            try:
                verify(target, self.digest)
                return target
            except ExecutionError:  # cut short, or edited: make it anew
                pass
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder))
        try:
            for file in self.files:
                self._copy(file, scratch / "fresh" / file.path)
            try:
                if there:
                    target.rename(scratch / "broken")
                (scratch / "fresh").rename(target)
            except OSError:  # another writer was faster, if what is there now is right
                verify(target, self.digest)
            return target
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _copy(self, file: BundleFile, target: Path) -> None:
        content = _read(str(self.root / file.path))
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise InvalidError(f"{self.root / file.path} changed while it was being shipped", hint="Run again.")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(file.mode)


def verify(folder: Path, digest: str) -> None:
    """Check that a bundle's folder holds what its digest says (`__pycache__`, which Python adds, aside).

    Raises:
        ExecutionError: it does not, or it is not there.
    """
    files = [] if not folder.is_dir() or folder.is_symlink() else list(_everything(str(folder)))
    found = "" if None in files else _digest([_hashed(str(folder), path) for path in files if path is not None])
    if not found or found != digest:
        raise ExecutionError(
            f"the code in {folder} is not what its digest {digest[:12]} says",
            hint="Delete that folder; the next run writes it again.",
        )


def _everything(folder: str) -> Iterator[str | None]:
    """Every file in a folder; None for a thing that no bundle holds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _everything(entry.path)
            else:
                yield entry.path if entry.is_file(follow_symlinks=False) else None


def bundle_for(module_file: Path, module_name: str, extra: Iterable[str] = ()) -> Bundle:
    """The source that a module needs to be imported in a worker.

    Args:
        module_file: the module's file.
        module_name: its full name; "__main__" for the script that runs, whose own code goes by value, so that the
            bundle holds what it imports only (and may have no files: `digest` is ""). Started with
            `python -m package.module`, it brings its package.
        extra: names of further local modules, for those that no import statement names.

    Raises:
        InvalidError: the module is not importable from its file, or a link leads out of the source root.
        NotFoundError: the file or an extra module does not exist.
        RequestSizeError: a file is above 50 MB, or all together above 500 MB.
    """
    file = Path(os.path.abspath(module_file))
    if not file.is_file():
        raise NotFoundError(f"{file}, the file of module {module_name!r}, does not exist")
    name = _main_name(file) if module_name == "__main__" else module_name
    root = _source_root(file, name)
    collector = _Collector(root, only=name.partition(".")[0] if _is_installed(root) else "")
    with warnings.catch_warnings():  # the parser repeats what the import has said already
        warnings.simplefilter("ignore")
        if module_name == "__main__" and "." not in name:
            collector.scan(str(file))
        elif not collector.add(name):
            raise InvalidError(f"module {name!r} cannot be found under {root}")
        for other in extra:
            if not collector.add(other):
                raise NotFoundError(f"there is no local module {other!r} under {root}")
        collector.follow()
    _check_sizes(root, collector.sizes)
    files = tuple(_hashed(str(root), path) for path in collector.sizes)
    return Bundle(root, tuple(sorted(files, key=lambda f: f.path)), _digest(files))


def _main_name(file: Path) -> str:
    """What `__main__` would be called by an import: `python -m package.module` knows."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec.name if spec is not None and spec.origin and Path(spec.origin) == file else file.stem


def _source_root(file: Path, module: str) -> Path:
    parts = module.split(".")
    tail = (*parts, "__init__.py") if file.name == "__init__.py" else (*parts[:-1], f"{parts[-1]}.py")
    if file.parts[-len(tail) :] != tail:
        raise InvalidError(
            f"module {module!r} cannot be imported from {file}: its name does not fit the path",
            hint="Import it under its own name, or send the function by value with `serialized=True`.",
        )
    return file.parents[len(tail) - 1]


def _is_installed(root: Path) -> bool:
    """Is this a folder of installed packages? Then the neighbours come with the image, not with the code."""
    import sysconfig

    paths = sysconfig.get_paths()
    return root.name in ("site-packages", "dist-packages") or str(root) in (paths["stdlib"], paths["platstdlib"])


def _check_sizes(root: Path, sizes: dict[str, int]) -> None:
    biggest = sorted(sizes, key=lambda path: -sizes[path])[:3]
    hint = "If the code does not need it, name it in a .gitignore; if it is data, put it into the image or a volume."
    if biggest and sizes[biggest[0]] > MAX_FILE:
        size = f"{sizes[biggest[0]] / 1e6:.0f} MB"
        raise RequestSizeError(f"{biggest[0]} is {size}; a source file may have {MAX_FILE / 1e6:.0f} MB", hint=hint)
    if sum(sizes.values()) > MAX_BUNDLE:
        named = ", ".join(f"{os.path.relpath(path, root)} ({sizes[path] / 1e6:.0f} MB)" for path in biggest)
        raise RequestSizeError(
            f"the source under {root} is {sum(sizes.values()) / 1e6:.0f} MB; {MAX_BUNDLE / 1e6:.0f} MB may go. "
            f"The biggest: {named}",
            hint=hint,
        )


def _hashed(root: str, path: str) -> BundleFile:
    content = _read(path)
    mode = 0o755 if os.stat(path).st_mode & 0o100 else 0o644
    name = path[len(root.rstrip(os.sep)) + 1 :].replace(os.sep, "/")
    return BundleFile(name, hashlib.sha256(content).hexdigest(), len(content), mode)


def _digest(files: Iterable[BundleFile]) -> str:
    rows = sorted([file.path, file.sha256, file.mode] for file in files)
    return digest_of(rows) if rows else ""


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as error:
        kind = PermissionDeniedError if isinstance(error, PermissionError) else NotFoundError
        raise kind(f"{path}, which the code to ship contains, cannot be read: {error.strerror}") from error


class _Collector:
    """Gathers the files to ship, following imports.

    Attributes:
        sizes: absolute path to size in bytes.
    """

    def __init__(self, root: Path, only: str) -> None:
        self.sizes: dict[str, int] = {}
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._only = only
        self._known: dict[str, bool] = {}  # full names of modules; are they local?
        self._todo: list[str] = []
        # What an import must name to lead to a file that does not go anyway: neighbours under the root, and modules
        # that a .gitignore names. Few sources do, and only those are worth parsing.
        self._missing: set[str] = set()
        self._expect([only] if only else os.listdir(root))
        self._pattern: re.Pattern[bytes] | None = None

    def add(self, name: str) -> bool:
        """Ship a module by its full name, as far as it is local. False when nothing of it is."""
        if name not in self._known:
            found = self._find(name)
            self._known[name] = bool(found)
            if found and os.path.dirname(found[0]) != self._root:
                self._add_tree(name.partition(".")[0])
            for path in found:
                if path not in self.sizes:
                    self._check_link(path)
                    self._add_file(path)
        return self._known[name]

    def _find(self, name: str) -> list[str]:
        """Files of the modules that `import name` runs, the outermost package first; as many as exist."""
        parts = name.split(".")
        if (self._only and parts[0] != self._only) or parts[0] in sys.builtin_module_names or parts[0] in _OURS:
            return []
        here, found = self._root, []
        for part in parts:
            path = os.path.join(here, part)
            init = os.path.join(path, "__init__.py")
            if os.path.isfile(init):
                found.append(init)
            elif os.path.isfile(f"{path}.py"):
                found.append(f"{path}.py")
                break
            elif not os.path.isdir(path):
                break
            here = path
        return found

    def follow(self) -> None:
        """Ship what the modules so far import, what that imports, and so on."""
        while self._todo:
            self.scan(self._todo.pop())

    def scan(self, path: str) -> None:
        source = _read(path)
        if self._may_lead_on(source):
            parts = os.path.relpath(path, self._root).split(os.sep)
            for imported in _imports(source, ".".join(parts[:-1])):
                self.add(imported)

    def _expect(self, names: Iterable[str]) -> None:
        modules = (name.partition(".")[0] for name in names)
        self._missing.update(module for module in modules if module.isidentifier() and module not in _OURS)

    def _may_lead_on(self, source: bytes) -> bool:
        if not self._missing:
            return False
        if self._pattern is None:
            words = (re.escape(name.encode("utf-8", "surrogateescape")) for name in self._missing)
            self._pattern = re.compile(rb"(?<![A-Za-z0-9_])(?:" + b"|".join(words) + rb")(?![A-Za-z0-9_])")
        return any(self._pattern.search(line) for line in _IMPORT.findall(source))

    def _add_tree(self, name: str) -> None:
        folder = os.path.join(self._root, name)
        if name not in self._missing:
            return
        self._missing.discard(name)
        self._check_link(folder)
        self._walk(folder, rules_above(folder, self._root), frozenset({os.path.realpath(folder)}))
        self._pattern = None

    def _walk(self, folder: str, rules: Rules, trail: frozenset[str]) -> None:
        rules = rules + rules_in(folder)
        with os.scandir(folder) as scan:
            entries = list(scan)
        for entry in entries:
            if entry.name in _NEVER or entry.name.endswith(".pyc"):
                continue
            is_folder = entry.is_dir()
            if ignored(rules, entry.path, is_folder):
                self._expect([entry.name])
                continue
            if entry.is_symlink() and not (os.path.exists(entry.path) and self._check_link(entry.path)):
                continue
            if not is_folder:
                if entry.is_file():
                    self._add_file(entry.path)
            elif not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                real = os.path.realpath(entry.path)
                if real not in trail:  # else a link to a folder that we are in
                    self._walk(entry.path, rules, trail | {real})

    def _check_link(self, path: str) -> bool:
        """Does the path lead to what may be shipped? Raises when it leads out of the root."""
        real = os.path.realpath(path)
        inside = os.path.relpath(real, self._real_root).split(os.sep)
        if inside[0] == os.pardir:
            raise InvalidError(
                f"{path} leads to {real}, which is not under {self._root}",
                hint="Copy it there, or name the link in a .gitignore if the code does not need it.",
            )
        return not _NEVER.intersection(inside)

    def _add_file(self, path: str) -> None:
        self.sizes[path] = os.stat(path).st_size
        if path.endswith(".py"):
            self._todo.append(path)


# ---- which modules a source imports ----


# An import statement to its end, over backslashes and brackets; words in texts and comments too, which does no harm.
_IMPORT = re.compile(rb"(?s)\b(?:from|import)\b(?:[^\n\\(]|\\.|\([^)]*\))*")


def _imports(source: bytes, package: str) -> Iterator[str]:
    """Full names that the source may import; "package.name" too where `name` may be no module but an attribute."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # it goes as it is; the worker's import says what is wrong with it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            if base is not None:
                yield from (f"{base}.{alias.name}" if base else alias.name for alias in node.names)


def _absolute(module: str, level: int, package: str) -> str | None:
    """The full name of what `from ..module import` means in a package; None where it leads out of it."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return None
    return ".".join([*parts[: len(parts) - level + 1], *([module] if module else [])])


# ---- by name or by value ----


@dataclass(frozen=True)
class CodeHome:
    """Where a function or class is found in a worker.

    Attributes:
        qualname: its name inside the module, for errors where it goes by value.
        module: import this; "" where it goes by value.
        file: the module's file; None where it goes by value.
    """

    qualname: str
    module: str = ""
    file: Path | None = None

    @property
    def by_value(self) -> bool:
        return not self.module


def describe_home(obj: Callable[..., Any], *, serialized: bool = False) -> CodeHome:
    """Say how a function or class goes to a worker.

    It goes by name if a worker that has the source can import it; what lives in `__main__`, in a notebook or under
    a name that is not its own goes by value.

    Args:
        obj: the user's own function or class, not what a decorator made of it.
        serialized: the user asks for by value.

    Raises:
        InvalidError: it is defined inside of a function, and `serialized` is not set.
    """
    qualname = obj.__qualname__
    if serialized:
        return CodeHome(qualname)
    if "<locals>" in qualname.split("."):
        kind = "class" if isinstance(obj, type) else "function"
        where = qualname.rpartition(".<locals>.")[0]
        raise InvalidError(
            f"{kind} {qualname.rpartition('.')[2]} is defined inside of {where}(), where a worker cannot import it",
            hint="Move it to the top level of its module, or pass `serialized=True` to send it by value. A decorator "
            "of your own between the two should use `functools.wraps`.",
        )
    module = sys.modules.get(obj.__module__ or "")
    file = getattr(module, "__file__", None)
    if module is None or obj.__module__ == "__main__" or not file or not file.endswith(".py"):
        return CodeHome(qualname)
    if not Path(file).is_file() or not _resolves(module, obj):
        return CodeHome(qualname)
    return CodeHome(qualname, obj.__module__, Path(file))


def is_bare_class(obj: Callable[..., Any]) -> bool:
    """Whether the name of a class leads to itself: `app.cls()(C)` was said elsewhere. To import its module does not
    tell a worker then of its parameters and hooks."""
    module = sys.modules.get(obj.__module__ or "")
    return isinstance(obj, type) and _find(module, obj.__qualname__) is obj


def _resolves(module: ModuleType, obj: Callable[..., Any]) -> bool:
    """Does the name lead to the object, or to what our decorator made of it?"""
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        return "<lambda>" not in obj.__qualname__  # its decorators run: the name comes last
    found = _find(module, obj.__qualname__)
    return found is obj or hasattr(found, "__cloudfn_definition__")


def _find(module: ModuleType | None, qualname: str) -> Any:
    """None if there is no such name."""
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


_registry_lock = threading.Lock()  # cloudpickle's list of modules by value is global


def pickle_definition(definition: Any) -> bytes:
    """A function or class with all its module's helpers, by value, for a worker that does not have the source.

    Args:
        definition: the `Definition`, or any object with a `target`.

    Raises:
        SerializationError: naming what it refers to that cannot be pickled.
    """
    import cloudpickle

    from cloudfn.serialization import dumps_in_band

    module = sys.modules.get(getattr(definition.target, "__module__", None) or "")
    with _registry_lock:
        if module is None or module.__name__ in ("__main__", *cloudpickle.list_registry_pickle_by_value()):
            return dumps_in_band(definition)
        cloudpickle.register_pickle_by_value(module)
        try:
            return dumps_in_band(definition)
        finally:
            cloudpickle.unregister_pickle_by_value(module)
