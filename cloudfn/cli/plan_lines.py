"""A plan for pipes and logs: aligned columns of plain text. Pure."""

from __future__ import annotations

from typing import Sequence

from cloudfn.cli.plan_sections import Section


def render(sections: Sequence[Section]) -> str:
    """The whole page."""
    return "\n\n".join("\n".join(_section(section)) for section in sections)


def _section(section: Section) -> list[str]:
    lines = [section.title]
    if section.rows:
        table = [section.columns, *section.rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(section.columns))]
        for row in table:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append(f"  {'  '.join(cells)}".rstrip())
    return lines + [f"  {line}" for line in section.lines]
