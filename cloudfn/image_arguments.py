"""Checks the arguments of `Image`'s methods, and makes readers of the local files that they name."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Callable, Iterable, Mapping, Sequence

from cloudfn import files
from cloudfn.exception import Error, InvalidError, NotFoundError
from cloudfn.files import Ignore
from cloudfn.provider import LocalFile

OLDEST_PYTHON = (3, 10)

Read = Callable[[], "tuple[str, bytes | Mapping[str, LocalFile]]"]
"""Reads from this machine when the image is first needed: a digest, and what it names."""


def non_python_files(path: Path) -> bool:
    """True for what `add_local_python_source` leaves out by default."""
    return path.suffix != ".py"


def dockerignore(path: Path) -> bool:
    """As a default argument: leave out what the context's own .dockerignore says."""
    return False


def python_version(value: str | None) -> str | None:
    """Raises `InvalidError` where it is no version, or one that cloudfn does not run on."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidError(f"python_version={value!r}: must be a string.", hint=f'Write it in quotes: "{value}".')
    parts = re.fullmatch(r"3\.(\d{1,2})(\.\d{1,2}(rc\d+)?)?", value)
    if parts is None:
        raise InvalidError(f'python_version={value!r}: must look like "3.12" or "3.12.1".')
    if (3, int(parts[1])) < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        raise InvalidError(f"python_version={value!r}: cloudfn runs on Python {oldest} and later.")
    return value


def packages(kind: str, given: Iterable[Any]) -> list[str]:
    """Requirements, sorted, from strings and lists of strings."""
    names = sorted(flat(kind, "packages", given))
    for name in names:
        if name.startswith("-"):
            raise InvalidError(f"Image.{kind}: {name!r} is an option, no package.", hint="Put it in `extra_options`.")
        if not name.strip():
            raise InvalidError(f"Image.{kind}: a package has an empty name.")
    return names


def flat(kind: str, argument: str, given: Iterable[Any]) -> list[str]:
    """The strings of strings and lists of strings, in order."""
    items: list[str] = []
    for item in given:
        items.extend(item if isinstance(item, (list, tuple)) else [item])
    return strings(kind, argument, items)


def strings(kind: str, argument: str, given: Any) -> list[str]:
    """A list of strings; None is an empty one."""
    if given is None:
        return []
    if not isinstance(given, (list, tuple)) or not all(isinstance(item, str) for item in given):
        raise InvalidError(f"Image.{kind}: {argument} must be a list of strings, not {given!r}.")
    return list(given)


def env(given: Mapping[str, str | None] | None) -> dict[str, str]:
    """Variables that have a value, sorted."""
    found = {}
    for name, value in (given or {}).items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise InvalidError(f"env: {name!r} is no name of an environment variable.")
        if value is not None and not isinstance(value, str):
            kind = type(value).__name__
            raise InvalidError(f"env: {name} must be a string, not {kind}.", hint=f'Use "{name}": "{value}".')
        if value is not None and "\0" in value:
            raise InvalidError(f"env: the value of {name} holds a zero byte.")
        if value is not None:
            found[name] = value
    return dict(sorted(found.items()))


def options(kind: str, text: str) -> str:
    """Command-line options as one string; raises `InvalidError` on an open quote."""
    import shlex

    try:
        shlex.split(text)
    except (ValueError, AttributeError) as error:
        raise InvalidError(f"Image.{kind}: extra_options={text!r}: {error}.") from error
    return text


def install(
    kind: str,
    find_links: str | None,
    index_url: str | None,
    extra_index_url: str | None,
    pre: bool,
    extra_options: str,
    force_build: bool,
    variables: Mapping[str, str | None] | None,
    gpu: str | None,
) -> dict[str, Any]:
    """What all pip-like steps share, as their arguments in the spec."""
    return {
        "find_links": find_links,
        "index_url": index_url,
        "extra_index_url": extra_index_url,
        "pre": pre,
        "extra_options": options(kind, extra_options),
        "force_build": force_build,
        "env": env(variables),
        "gpu": gpu,
    }


def remote(kind: str, path: Any) -> str:
    """An absolute path in the worker, normalised; a "/" at the end stays."""
    text = str(path)
    if not PurePosixPath(text).is_absolute():
        hint = f'For example "/root/{text}".'
        raise InvalidError(f"Image.{kind}: the remote path {text!r} must be absolute.", hint=hint)
    if ".." in PurePosixPath(text).parts:
        raise InvalidError(f'Image.{kind}: the remote path {text!r} must not hold "..".')
    plain = "/" + "/".join(part for part in text.split("/") if part not in ("", "."))
    return plain + "/" if text.endswith("/") and plain != "/" else plain


def local(path: str | Path) -> Path:
    """Absolute at once, so that a later change of directory does not matter."""
    return Path(path).expanduser().absolute()


# Readers: partials of these, so that an image stays picklable


def file_read(path: str | Path) -> Read:
    """Reads one file's bytes."""
    return partial(_read_bytes, local(path))


def file_if_there_read(path: str | Path) -> Read:
    """Reads one file's bytes; none at all where there is no such file."""
    return partial(_read_bytes, local(path), missing_ok=True)


def single_read(path: str | Path) -> Read:
    """Reads one file as a tree of one."""
    return partial(_read_tree, files.one, local(path))


def tree_read(path: str | Path, ignore: Ignore) -> Read:
    """Reads a folder."""
    return partial(_read_tree, files.tree, local(path), ignore)


def source_read(modules: Sequence[str], ignore: Ignore) -> Read:
    """Reads the source of modules."""
    return partial(_read_tree, files.python_source, tuple(modules), ignore)


def function_read(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Read:
    """Pickles a call."""
    return partial(_read_function, function, tuple(args), dict(kwargs))


def read(kind: str, reader: Read) -> tuple[str, bytes | Mapping[str, LocalFile]]:
    """Read, and let an error name the step. Raises what the reader raises."""
    try:
        return reader()
    except Error as error:
        raise type(error)(f"Image.{kind}: {error.message}", hint=error.hint) from error


def _read_bytes(path: Path, missing_ok: bool = False) -> tuple[str, bytes]:
    import hashlib

    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        if not missing_ok:
            raise NotFoundError(f"The local file does not exist: {path}.") from error
        content = b""
    except OSError as error:
        raise InvalidError(f"The local file {path} cannot be read: {error.strerror}.") from error
    return hashlib.sha256(content).hexdigest(), content


def _read_tree(walk: Callable[..., Mapping[str, LocalFile]], *args: Any) -> tuple[str, Mapping[str, LocalFile]]:
    tree = walk(*args)
    return files.tree_digest(tree), tree


def _read_function(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, bytes]:
    from cloudfn.build_function import describe

    return describe(function, args, kwargs)
