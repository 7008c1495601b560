"""One app runs for all tests of a module, so the state belongs to the module too."""

from __future__ import annotations

from pathlib import Path

import pytest
from gate import Gate
from module_state import state_dir

__all__ = ["state_dir"]


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)
