"""What `.gitignore` files say of a path, level by level as git reads them.

pathspec lets a pattern for a folder decide about what is in it, too, so that a `!*.log` brings back files of a folder
`x.log` which another `.gitignore` leaves out; git does not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple


class _Rule(NamedTuple):
    ignores: bool  # False for one that starts with "!"
    folders_only: bool
    anchored: bool  # to the folder of its file; else it is about names at any depth
    regex: re.Pattern[str]


Rules = tuple[tuple[int, "list[_Rule]"], ...]  # length of the folder's path with its "/", and what its file says


def rules_in(folder: str) -> Rules:
    """The rules of a folder's own `.gitignore`."""
    try:
        content = Path(folder, ".gitignore").read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return ()
    lines = content.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").split("\n")
    rules = [rule for rule in map(_parse, lines) if rule is not None]
    rules.reverse()  # the last that matches decides
    return ((len(folder.rstrip(os.sep)) + 1, rules),) if rules else ()


def rules_above(folder: str, root: str) -> Rules:
    """The rules that reach a folder from the top of its git repository, or from `root` where there is none.

    Those that ignore the folder itself do not count.
    """
    top = next((p for p in (Path(root), *Path(root).parents) if (p / ".git").exists()), Path(root))
    rules: Rules = ()
    here = str(top)
    for part in Path(folder).relative_to(top).parts:
        rules += rules_in(here)
        here = str(Path(here, part))
        if ignored(rules, here, True):
            rules = ()
    return rules


def ignored(rules: Rules, path: str, is_folder: bool) -> bool:
    """Do the rules of the folders above leave out this path? That no folder above it is left out is for the caller."""
    name = path.rpartition(os.sep)[2]
    for start, ours in reversed(rules):  # the nearest file that has an opinion decides
        inside = path[start:]
        for rule in ours:
            if rule.regex.fullmatch(inside if rule.anchored else name) and (is_folder or not rule.folders_only):
                return rule.ignores
    return False


def _parse(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    stripped = line.rstrip(" ")
    if stripped.endswith("\\") and len(stripped) < len(line):
        stripped += " "
    ignores = not stripped.startswith("!")
    pattern = stripped if ignores else stripped[1:]
    folders_only = pattern.endswith("/")
    if folders_only:
        pattern = pattern[:-1]
    if not pattern:
        return None
    try:
        regex = re.compile(_translate(pattern.removeprefix("/")), re.DOTALL)
    except (re.error, IndexError, ValueError):  # an open bracket, a backslash at the end: matches nothing in git, too
        return None
    return _Rule(ignores, folders_only, "/" in pattern, regex)


def _translate(pattern: str) -> str:
    """A git pattern as a regular expression over a path with "/"."""
    out, i = "", 0
    while i < len(pattern):
        starts_part = i == 0 or pattern[i - 1] == "/"
        if starts_part and pattern.startswith("**/", i):
            out, i = out + "(?:.*/)?", i + 3
        elif starts_part and i > 0 and pattern[i:] == "**":
            out, i = out + ".+", i + 2
        elif pattern[i] == "*":
            out, i = out + "[^/]*", i + 1
        elif pattern[i] == "?":
            out, i = out + "[^/]", i + 1
        elif pattern[i] == "[":
            end = pattern.index("]", i + (3 if pattern[i + 1] in "!^" else 2))
            negated = pattern[i + 1] in "!^"
            members = pattern[i + 1 + negated : end].replace("\\", "")
            inner = "".join(c if c == "-" else re.escape(c) for c in members)
            out, i = f"{out}(?!/)[{'^' * negated}{inner}]", end + 1
        else:
            if pattern[i] == "\\":
                i += 1
            out, i = out + re.escape(pattern[i]), i + 1
    return out
