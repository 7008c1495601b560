"""Clouds are found by entry points; what is not there is named."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints

import pytest
from fake_cloud import FakeCloud

from cloudfn import clouds
from cloudfn.exception import NotFoundError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    points = EntryPoints(
        [
            EntryPoint("fake", "fake_cloud:FakeCloud", clouds.CLOUDS),
            EntryPoint("gone", "no_such_module:Cloud", clouds.CLOUDS),
            EntryPoint("odd", "fake_cloud:Missing", clouds.CLOUDS),
            EntryPoint("fake", "fake_cloud:FakeCloud", clouds.ACCOUNTS),
            EntryPoint("fake", "fake_cloud:offers", clouds.STACKS),
        ]
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.select(group=group))


def test_each_side_of_a_cloud_is_found() -> None:
    import fake_cloud

    assert clouds.names() == ["fake", "gone", "odd"]
    assert isinstance(clouds.cloud("fake"), FakeCloud)
    assert isinstance(clouds.account("fake"), FakeCloud)
    assert clouds.program("fake") is fake_cloud.offers


@pytest.mark.parametrize("find", [clouds.cloud, clouds.account, clouds.program])
def test_an_unknown_one_is_named_with_those_there_are(find: object) -> None:
    with pytest.raises(NotFoundError, match=r"'azure'\. Installed: .*fake"):
        find("azure")  # type: ignore[operator]


@pytest.mark.parametrize("name", ["gone", "odd"])
def test_one_that_cannot_be_loaded(name: str) -> None:
    with pytest.raises(NotFoundError, match=f"The cloud '{name}' cannot be loaded") as caught:
        clouds.cloud(name)
    assert caught.value.hint == f"Install it: pip install 'cloudfn[{name}]'"
