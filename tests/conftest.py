"""Every test has its own state, and all share one cache, where images are built once."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from project_folder import Folder
from storage_service import end_storage

from cloudfn.client import current


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test run."""
    base = tmp_path_factory.getbasetemp()
    # Under xdist each process has a folder of its own in that of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def state_dir(monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Iterator[Path]:
    """The test's own state; a short path, because the sockets in it may have no more than about 100 characters."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-"))
    monkeypatch.setenv("CLOUDFN_STATE_DIR", str(folder))
    monkeypatch.setenv("CLOUDFN_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("CLOUDFN_CACHE_DIR", str(cache_dir))
    monkeypatch.delenv("CLOUDFN_TRACEBACK", raising=False)
    monkeypatch.setattr(current, "_choice", None)  # a command that runs in this process chooses for all of it
    yield folder
    end_storage(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
