"""The table that users read is the table that is tested."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "troubleshooting.md"


def test_each_row_of_the_page_is_a_test_and_each_test_a_row() -> None:
    rows = re.findall(r"`(test_\w+?)_\.\.\.`", PAGE.read_text())
    tests = [
        name for file in HERE.glob("test_faults_*.py") for name in re.findall(r"(?m)^def (test_\w+)", file.read_text())
    ]
    assert len(rows) > 20
    assert [row for row in rows if sum(test.startswith(row) for test in tests) != 1] == []
    assert [test for test in tests if not any(test.startswith(row) for row in rows)] == []
