"""Metrics as Prometheus reads them: text, exposition format 0.0.4."""

from __future__ import annotations

from typing import Iterable, Mapping, Sequence

Labels = Mapping[str, str]


class Page:
    """Lines of one answer to `GET /metrics`."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, kind: str, text: str) -> None:
        """What follows, up to the next family, are samples of this metric.

        Args:
            kind: "counter", "gauge" or "histogram".
            text: what it counts, in one line, with its unit.
        """
        self._lines += (f"# HELP {name} {text}", f"# TYPE {name} {kind}")

    def sample(self, name: str, labels: Labels, value: float) -> None:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        number = str(value) if isinstance(value, int) else f"{value:.9g}"
        self._lines.append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")

    def histogram(
        self, name: str, labels: Labels, bounds: Sequence[float], counts: Iterable[int], total: float
    ) -> None:
        """Args:
        bounds: upper ends of the buckets; the last bucket has none.
        counts: of each bucket by itself, one more than there are bounds.
        total: sum of what was observed.
        """
        count = 0
        for bound, number in zip((*bounds, None), counts, strict=True):
            count += number
            end = "+Inf" if bound is None else f"{bound:.9g}"
            self.sample(f"{name}_bucket", {**labels, "le": end}, count)
        self.sample(f"{name}_sum", labels, total)
        self.sample(f"{name}_count", labels, count)

    def text(self) -> str:
        return "\n".join(self._lines) + "\n"


def merged(pages: Iterable[str]) -> str:
    """Several answers as one, in which each family stands once."""
    families: dict[str, list[str]] = {}
    name = ""
    for line in (line for page in pages for line in page.splitlines()):
        kind, _, rest = line.partition(" ")
        if kind == "#":
            name = rest.split(" ")[1]
            if line not in families.setdefault(name, []):
                families[name].append(line)
        else:
            families[name].append(line)
    return "".join(f"{line}\n" for lines in families.values() for line in lines)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
