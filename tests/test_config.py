"""Settings from files: which value wins, where it came from, and what a mistake is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import config, toml_position
from cloudfn.cli.config import config as config_command
from cloudfn.cli.init import init
from cloudfn.exception import AlreadyExistsError, InvalidError
from cloudfn.settings import Settings

TEXT = """\
provider = "aws"
regions = ["us-east-1"]
tags = {team = "ml"}
[network]
private = true
[caps]
hourly = 5
[environments.prod]
regions = ["eu-west-1", "eu-west-2"]
[environments.prod.caps]
monthly = 2000
[environments.prod.tags]
tier = "1"
[environments.test]
spot = "only"
"""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in config.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def write(folder: Path, text: str, name: str = config.FILE) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def message(folder: Path, text: str, environment: str | None = None, name: str = config.FILE) -> str:
    write(folder, text, name)
    with pytest.raises(InvalidError) as caught:
        config.load(folder, environment)
    return str(caught.value)


def test_without_a_file_everything_is_default(tmp_path: Path) -> None:
    loaded = config.load(tmp_path)
    assert loaded.settings == Settings() and loaded.path is None
    assert set(loaded.origins.values()) == {config.DEFAULT}


def test_an_environment_stands_above_what_is_shared(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    main, prod = config.load(tmp_path).settings, config.load(tmp_path, "prod").settings
    assert (main.regions, main.caps.hourly, main.caps.monthly, main.tags) == (("us-east-1",), 5, None, {"team": "ml"})
    assert prod.regions == ("eu-west-1", "eu-west-2")
    assert (prod.caps.hourly, prod.caps.monthly) == (5, 2000)
    assert prod.tags == {"team": "ml", "tier": "1"}
    assert prod.environment == "prod" and prod.network.private and prod.spot == "never"


def test_each_value_says_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, TEXT)
    monkeypatch.setenv("CLOUDFN_ENVIRONMENT", "prod")
    loaded = config.load(tmp_path, options={"provider": "gcp"})
    assert loaded.settings.provider == "gcp"
    assert loaded.origins["provider"] == "command line"
    assert loaded.origins["environment"] == "CLOUDFN_ENVIRONMENT"
    assert loaded.origins["regions"] == "cloudfn.toml:9"
    assert loaded.origins["caps.hourly"] == "cloudfn.toml:7"
    assert loaded.origins["spot"] == config.DEFAULT
    assert list(loaded.origins) == config.all_keys()


def test_a_variable_stands_above_the_file_and_an_argument_above_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, TEXT)
    monkeypatch.setenv("CLOUDFN_PROVIDER", "gcp")
    monkeypatch.setenv("CLOUDFN_ENVIRONMENT", "test")
    assert config.load(tmp_path).settings.provider == "gcp"
    assert config.load(tmp_path).settings.spot == "only"
    assert config.load(tmp_path, "prod").settings.environment == "prod"


def test_the_nearest_file_upward_is_read(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    write(tmp_path, 'owner = "above"')
    write(tmp_path / "a", '[project]\nname = "x"\n', "pyproject.toml")  # nothing about cloudfn: passed over
    assert config.load(inner).settings.owner == "above"
    write(tmp_path / "a", '[project]\nname = "x"\n[tool.cloudfn]\nowner = "near"\n', "pyproject.toml")
    loaded = config.load(inner)
    assert loaded.settings.owner == "near" and loaded.origins["owner"] == "pyproject.toml:4"


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ('provider = "aws"\nspto = "never"', ":2:8", "Did you mean 'spot'?"),
        ('regions = "us-east-1"', ":1:11", "list of strings"),
        ("[caps]\n  hourly = 0", ":2:12", "above 0"),
        ("[caps]\nmonthly = nan", ":2:11", "above 0"),
        ("[caps]\nweekly = 3", ":2:10", "no setting 'caps.weekly'"),
        ("caps = 3", ":1:8", "is a table"),
        ("max_machines = true", ":1:16", "whole number"),
        ("disk_gib = 1", ":1:12", "from 10"),
        ('[network]\nroad = "air"', ":2:8", "one of auto, helper, ssh"),
        ('[network]\nssh_from = ["1.2.3.4/8"]', ":2:12", "host bits"),
        ("tags = {a = 1}", ":1:8", "table of strings"),
        ("environments = 3", ":1:16", "are tables"),
        ('[environments.a]\nenvironment = "b"', ":2:15", "leave the key out"),
        ("[environments.a.caps]\nhourly = -1", ":2:10", "above 0"),
        ('environment = "a b"', ":1:15", "letters"),
        ("a = \n", ":1:5", "no valid TOML"),
        ("[[network]]\nprivate = true", ":1:1", "is a table"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(tmp_path: Path, text: str, place: str, part: str) -> None:
    told = message(tmp_path, text)
    assert f"{config.FILE}{place}:" in told
    assert part in told


def test_a_mistake_in_pyproject_is_told_with_its_line(tmp_path: Path) -> None:
    told = message(tmp_path, '[project]\nname = "x"\n[tool.cloudfn.caps]\nhourly = "5"\n', name="pyproject.toml")
    assert "pyproject.toml:4:10:" in told


def test_a_mistake_in_another_environment_is_told_too(tmp_path: Path) -> None:
    assert ":2:8:" in message(tmp_path, "[environments.prod]\nspot = 1", "main")


def test_an_unknown_environment_is_told_with_those_that_exist(tmp_path: Path) -> None:
    told = message(tmp_path, TEXT, "prd")
    assert "Did you mean 'prod'?" in told and "prod, test" in told


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / config.FILE).write_bytes(b'owner = "\xff"')
    with pytest.raises(InvalidError, match="byte 9 is not UTF-8"):
        config.load(tmp_path)


KEYS = st.text("abc é.-", min_size=1, max_size=4)
VALUES: Any = st.recursive(
    st.booleans() | st.integers(-5, 5) | st.text("ab\"'\n é", max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), st.data())
def test_the_position_of_any_value_is_where_it_stands(document: dict[str, Any], data: st.DataObject) -> None:
    text = tomlkit.dumps(document)
    path: list[Any] = [data.draw(st.sampled_from(sorted(document)))]
    value = document[path[0]]
    while value and isinstance(value, (dict, list)) and data.draw(st.booleans()):
        path.append(data.draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value)))))
        value = value[path[-1]]
    line, column = toml_position.of_value(text, path)
    rest = "\n".join([text.split("\n")[line - 1][column - 1 :], *text.split("\n")[line:]])
    if isinstance(value, (bool, int, str)):
        rendered = tomlkit.item(value).as_string()
        assert rest.startswith(rendered)


def test_init_writes_a_file_that_loads_and_keeps_one_that_is_there(tmp_path: Path) -> None:
    done = CliRunner().invoke(init, ["--provider", "gcp", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert config.load(tmp_path).settings == Settings(provider="gcp")
    again = CliRunner().invoke(init, [str(tmp_path)])
    assert isinstance(again.exception, AlreadyExistsError)


def test_every_setting_is_in_what_init_writes(tmp_path: Path) -> None:
    CliRunner().invoke(init, [str(tmp_path)])
    written = (tmp_path / config.FILE).read_text()
    names = [key.split(".")[-1] for key in config.all_keys() if key != "environment"]
    assert [name for name in names if name not in written] == []


def test_what_init_comments_out_is_valid_too(tmp_path: Path) -> None:
    CliRunner().invoke(init, [str(tmp_path)])
    path = tmp_path / config.FILE
    lines = [
        line[2:] if line.startswith("# ") and ("=" in line or "# [" in line) else line
        for line in path.read_text().splitlines()
    ]
    path.write_text("\n".join(line for line in lines if not line.startswith("'")))
    assert config.load(tmp_path, "prod").settings.caps.monthly == 2000


def test_show_tells_values_and_origins(tmp_path: Path) -> None:
    write(tmp_path, TEXT)
    shown = CliRunner().invoke(config_command, ["show", "--env", "prod", str(tmp_path)]).output
    assert "cloudfn.toml:9" in shown and "eu-west-2" in shown
    document = json.loads(CliRunner().invoke(config_command, ["show", "--json", str(tmp_path)]).output)
    assert document["settings"]["caps"]["hourly"] == 5 and document["origins"]["caps.hourly"] == "cloudfn.toml:7"
