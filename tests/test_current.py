"""Where an app runs: the command line, variables, files of settings, in this order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloudfn import registry
from cloudfn.client import current
from cloudfn.exception import InvalidError, NotFoundError
from cloudfn.settings import Settings


class Place:
    """Stands for a provider that is told its settings."""

    def use(self, settings: Settings) -> None:
        self.settings = settings


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> dict[str, Place]:
    made = {"local": Place(), "aws": Place(), "mars": Place()}

    def find(name: str = "local") -> Any:
        if name not in made:
            raise NotFoundError(f"There is no provider {name!r}.")
        return made[name]

    monkeypatch.setattr(registry, "provider", find)
    monkeypatch.setattr(current, "_choice", None)
    for variable in ("CLOUDFN_PROVIDER", "CLOUDFN_ENVIRONMENT"):
        monkeypatch.delenv(variable, raising=False)
    return made


def test_this_machine_is_the_default_and_reads_nothing(places: dict[str, Place], tmp_path: Path) -> None:
    current.choose(tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "uses-cloudfn"\nthis is broken')
    assert current.provider() is places["local"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("cloudfn.toml", 'provider = "aws"\nregions = ["eu-west-1"]\n'),
        ("pyproject.toml", '[tool.cloudfn]\nprovider = "aws"\nregions = ["eu-west-1"]\n'),
        ("pyproject.toml", '[tool]\ncloudfn = {provider = "aws", regions = ["eu-west-1"]}\n'),
    ],
)
def test_files_choose_from_any_folder_below(places: dict[str, Place], tmp_path: Path, file: str, text: str) -> None:
    (tmp_path / file).write_text(text)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    current.choose(below)
    assert current.provider() is places["aws"]
    assert places["aws"].settings.regions == ("eu-west-1",)


def test_variables_go_above_files_and_the_command_line_above_both(
    places: dict[str, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cloudfn.toml").write_text('provider = "aws"\n[environments.prod]\nregions = ["eu-west-1"]\n')
    monkeypatch.setenv("CLOUDFN_PROVIDER", "mars")
    current.choose(tmp_path)
    assert current.provider() is places["mars"]
    current.choose(tmp_path, "prod", "aws")
    assert current.provider() is places["aws"]
    assert (places["aws"].settings.environment, places["aws"].settings.regions) == ("prod", ("eu-west-1",))
    monkeypatch.setenv("CLOUDFN_PROVIDER", "local")
    current.choose(tmp_path)
    assert current.provider() is places["local"]


def test_mistakes_are_raised(places: dict[str, Place], tmp_path: Path) -> None:
    (tmp_path / "cloudfn.toml").write_text('provder = "aws"\n')
    current.choose(tmp_path)
    with pytest.raises(InvalidError, match="Did you mean 'provider'"):
        current.provider()
    current.choose(tmp_path / "elsewhere", None, "venus")
    (tmp_path / "cloudfn.toml").write_text("")
    with pytest.raises(NotFoundError, match="venus"):
        current.provider()
