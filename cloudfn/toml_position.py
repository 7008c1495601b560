"""Where a value stands in a TOML text, for errors that name line and column."""

from __future__ import annotations

from typing import Any, Sequence

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}mark"


def of_value(text: str, path: Sequence[str | int]) -> tuple[int, int]:
    """Line and column, both from 1, where the value of a key begins; of the header for a `[table]`.

    tomlkit keeps every byte of what it did not change. So the value is replaced by a mark, and where the mark then
    stands in the text is where the value stood. That needs no second parser.

    Args:
        text: a valid TOML document.
        path: keys, and indices of arrays, from the root to the value.
    """
    import tomlkit
    from tomlkit.items import AoT, Table

    document: Any = tomlkit.parse(text)
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    value = parent[path[-1]]
    if isinstance(value, (AoT, Table)):
        return _of_table(text, value, path)
    parent[path[-1]] = _MARK
    marked = document.as_string()
    return _line_and_column(text, marked.index(_MARK) - 1)  # its quote


def _of_table(text: str, table: Any, path: Sequence[str | int]) -> tuple[int, int]:
    """Where the first header that opens the table stands; one that dotted keys made begins with its first key."""
    for line, content in enumerate(text.splitlines(), 1):
        if _header(content)[: len(path)] == list(path):
            return line, content.index("[") + 1
    first = next(iter(table), None)
    return of_value(text, [*path, first]) if first is not None else (1, 1)


def _header(line: str) -> list[str]:
    """The keys of a `[table]` or `[[table]]` line; none for any other."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    if not line.lstrip().startswith("["):
        return []
    try:
        opened: Any = tomlkit.parse(line).unwrap()
    except ParseError:  # an array's continuation
        return []
    keys = []
    while opened:
        if isinstance(opened, list):
            opened = opened[0]
        else:
            ((key, opened),) = opened.items()
            keys.append(key)
    return keys


def _line_and_column(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1
