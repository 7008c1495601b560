"""Prints the tests that failed in the last run of pytest in this folder, one in a line: `pytest @FILE` runs them again.

`pytest --last-failed` does not do: it knows a test of an xdist group as "NAME@GROUP", and finds no such test when it
runs without xdist. Exits with 1 where no test failed, since then something else was wrong.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

_GROUP = re.compile(r"@[^]/@]+$")  # what xdist appends; an id that has parameters ends with "]"


def main() -> int:
    cache = Path(".pytest_cache/v/cache/lastfailed")
    try:
        failed = json.loads(cache.read_text())
    except FileNotFoundError:
        failed = {}
    print("\n".join(_GROUP.sub("", name) for name in failed))
    return 0 if failed else 1


if __name__ == "__main__":
    sys.exit(main())
