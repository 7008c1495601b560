"""A plan on a terminal: tables by rich. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from cloudfn.cli.plan_sections import Section

if TYPE_CHECKING:
    from rich.console import RenderableType

STYLES = {"error": "bold red", "warning": "yellow"}


def render(sections: Sequence[Section]) -> RenderableType:
    """The whole page."""
    from rich.console import Group

    return Group(*(part for section in sections for part in _section(section)))


def _section(section: Section) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(section.title, style=STYLES.get(section.level, "bold"))]
    if section.rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in section.columns:
            numeric = column.startswith(("$", "max"))
            table.add_column(column, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
        for row in section.rows:
            # Text, not markup: brackets in names are brackets.
            table.add_row(*(Text(cell) for cell in row))
        parts.append(table)
    parts += [Text(line) for line in section.lines]
    return [*parts, Text("")]
