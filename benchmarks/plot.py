"""A bar chart as SVG text."""

from __future__ import annotations

from math import log10
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, BAR, GAP, TOP = 720, 110, 100, 22, 8, 44


def bars(title: str, note: str, values: list[tuple[str, float, str]], accent: str) -> str:
    """One bar for each (name, value, label). Logarithmic, and said so, where the largest is 30 times the smallest."""
    largest, smallest = max(v for _, v, _ in values), min(v for _, v, _ in values)
    logarithmic = smallest > 0 and largest / smallest > 30
    room = WIDTH - LEFT - RIGHT

    def length(value: float) -> float:
        if logarithmic:
            base = log10(smallest) - 0.5
            return room * (log10(value) - base) / (log10(largest) - base)
        return room * value / largest

    height = TOP + len(values) * (BAR + GAP) + GAP
    if logarithmic:
        note += ", logarithmic scale"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="18" font-weight="600" fill="#1a1a1a">{escape(title)}</text>',
        f'<text x="10" y="34" font-size="11" fill="#666666">{escape(note)}</text>',
    ]
    for index, (name, value, label) in enumerate(values):
        y = TOP + index * (BAR + GAP)
        colour = {"floor": "#c4c9d0", accent: "#2563eb"}.get(name, "#8a94a3")
        width = max(1.0, length(value))
        parts += [
            f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end" fill="#1a1a1a">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" fill="{colour}"/>',
            f'<text x="{LEFT + width + 6:.1f}" y="{y + 16}" fill="#1a1a1a">{escape(label)}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])
