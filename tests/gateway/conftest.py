"""One app runs for all tests of a module, so the state belongs to the module too."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest
from module_state import state_dir

__all__ = ["state_dir"]


@pytest.fixture(scope="module", autouse=True)
def web_settings(state_dir: Path) -> Iterator[None]:
    """Any free port, and no origin beside our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUDFN_WEB_PORT", "0")
        patch.delenv("CLOUDFN_WEB_ORIGINS", raising=False)
        yield
