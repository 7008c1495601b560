"""For folders of tests where one app runs for all tests of a module, so that the state belongs to the module too."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def state_dir(cache_dir: Path) -> Iterator[Path]:
    """A short path, because the sockets in it may have no more than about 100 characters."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLOUDFN_STATE_DIR", str(folder))
        patch.setenv("CLOUDFN_CACHE_DIR", str(cache_dir))
        patch.delenv("CLOUDFN_TRACEBACK", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)
