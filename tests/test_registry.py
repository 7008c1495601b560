from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cloudfn import registry
from cloudfn.exception import NotFoundError

ENTRY_POINTS = """
[cloudfn.providers]
testcloud = cloudfn_testcloud:TestCloud
testbroken = cloudfn_testbroken:TestBroken
testlost = cloudfn_testcloud:Lost
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution with providers, on the path as an installer would leave it."""
    info = tmp_path / "cloudfn_testcloud-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cloudfn-testcloud\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "cloudfn_testcloud.py").write_text("class TestCloud:\n    pass\n")
    (tmp_path / "cloudfn_testbroken.py").write_text("import cloudfn_no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cloudfn_testcloud", raising=False)
    registry._load.cache_clear()


def test_a_provider_is_loaded_once(installed: None) -> None:
    first = registry.provider("testcloud")
    assert type(first).__name__ == "TestCloud"
    assert registry.provider("testcloud") is first


def test_an_unknown_name_lists_what_is_installed(installed: None) -> None:
    with pytest.raises(NotFoundError) as caught:
        registry.provider("mars")
    assert "'mars'" in caught.value.message
    assert "local" in caught.value.message and "testcloud" in caught.value.message


def test_a_provider_that_lacks_a_library_says_which(installed: None) -> None:
    with pytest.raises(NotFoundError, match="cloudfn_no_such_library") as caught:
        registry.provider("testbroken")
    assert caught.value.hint == "Install it: pip install 'cloudfn[testbroken]'"


def test_a_provider_whose_class_is_gone_is_named(installed: None) -> None:
    with pytest.raises(NotFoundError, match="'testlost' cannot be loaded"):
        registry.provider("testlost")
