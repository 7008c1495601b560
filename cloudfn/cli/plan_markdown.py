"""A plan as Markdown, for a pull request. Pure.

Names in it come from whoever opened the pull request, so nothing of them may act: no table, link, tag or mention.
"""

from __future__ import annotations

import re
from typing import Sequence

from cloudfn.cli.plan_sections import Section

MARKER = "<!-- cloudfn plan -->"
"""First line, by which a comment is found again to be updated."""


def render(sections: Sequence[Section]) -> str:
    """The whole page."""
    return "\n\n".join([MARKER, *(_section(section, first=n == 0) for n, section in enumerate(sections))])


def _section(section: Section, *, first: bool) -> str:
    body = []
    if section.rows:
        head = f"| {' | '.join(section.columns)} |"
        rule = "|".join("---:" if column.startswith(("$", "max")) else "---" for column in section.columns)
        body.append("\n".join([head, f"|{rule}|", *(_row(row) for row in section.rows)]))
    if section.lines and section.code:
        body.append("\n".join(f"    {line}" for line in section.lines))
    elif section.lines:
        body.append("\n".join(f"- {escape(line)}" for line in section.lines))
    content = "\n\n".join(body) or "none"
    title = escape(section.title)
    if section.folded:
        return f"<details><summary>{title}</summary>\n\n{content}\n\n</details>"
    mark = {"error": "\N{CROSS MARK} ", "warning": "\N{WARNING SIGN} "}.get(section.level, "")
    return f"{'##' if first else '###'} {mark}{title}\n\n{content}"


def _row(row: tuple[str, ...]) -> str:
    return f"| {' | '.join(escape(cell) for cell in row)} |"


def escape(text: str) -> str:
    """Text that shows as it is, on one line."""
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"[&<>|@`*_\[\]\\~#!]|://", lambda found: "".join(f"&#{ord(c)};" for c in found[0]), text)
