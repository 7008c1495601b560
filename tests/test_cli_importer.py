"""How `cloudfn run` loads the user's file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

import pytest

from cloudfn.cli.importer import Reference, load, look_at
from cloudfn.exception import InvalidError, NotFoundError, UsageError


@pytest.fixture(autouse=True)
def clean_imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """What a test imports is forgotten, and it runs in a folder of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "target", "name"),
    [
        ("a.py", "a.py", ""),
        ("a.py::f", "a.py", "f"),
        ("dir/a.py::Model.predict", "dir/a.py", "Model.predict"),
        ("pkg.mod::f", "pkg.mod", "f"),
    ],
)
def test_a_reference_has_a_target_and_a_name(text: str, target: str, name: str) -> None:
    assert Reference.parse(text) == Reference(target, name)


@pytest.mark.parametrize("text", ["", "::f", "a.py::", "a.py:f"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


def test_one_colon_is_taken_for_two() -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse("a.py:f")
    assert "a.py::f" in caught.value.hint


def test_a_file_is_a_module_of_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "some" / "my_app.py", "import beside\nclass C: pass\ndef f(): pass")
    write(tmp_path / "some" / "beside.py", "x = 1")
    module = load(Reference("some/my_app.py"))
    assert module.__name__ == "my_app"
    assert sys.modules["my_app"] is module
    assert module.C.__module__ == "my_app"
    assert sys.path[0] == str(path.parent)
    assert load(Reference("some/my_app.py")) is module


def test_a_file_with_a_name_that_is_no_identifier(tmp_path: Path) -> None:
    write(tmp_path / "01-hello.py", "x = 1")
    assert load(Reference("01-hello.py")).x == 1


def test_a_file_wins_over_a_package_of_its_name(tmp_path: Path) -> None:
    write(tmp_path / "thing.py", "x = 'file'")
    write(tmp_path / "thing" / "__init__.py", "x = 'package'")
    assert load(Reference("thing.py")).x == "file"


def test_a_file_in_a_package_is_imported_as_part_of_it(tmp_path: Path) -> None:
    write(tmp_path / "pkg" / "__init__.py")
    write(tmp_path / "pkg" / "sub" / "__init__.py")
    write(tmp_path / "pkg" / "common.py", "x = 1")
    write(tmp_path / "pkg" / "sub" / "app.py", "from ..common import x")
    module = load(Reference("pkg/sub/app.py"))
    assert module.__name__ == "pkg.sub.app"
    assert module.x == 1
    assert sys.path[0] == str(tmp_path)
    assert "pkg.sub" in sys.modules


def test_the_init_file_of_a_package(tmp_path: Path) -> None:
    write(tmp_path / "pkg2" / "__init__.py", "from .common import x")
    write(tmp_path / "pkg2" / "common.py", "x = 1")
    assert load(Reference("pkg2/__init__.py")).__name__ == "pkg2"


def test_a_module_is_looked_for_in_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path / "pkg3" / "app.py", "x = 1")
    assert load(Reference("pkg3.app", is_module=True)).x == 1


def test_a_module_that_is_not_there(tmp_path: Path) -> None:
    for name in ("no_such_package.app", "no_such_package"):
        with pytest.raises(NotFoundError, match="no_such_package"):
            load(Reference(name, is_module=True))


def test_a_module_that_imports_what_is_not_there_fails_by_itself(tmp_path: Path) -> None:
    write(tmp_path / "imports_more.py", "import no_such_dependency")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        load(Reference("imports_more", is_module=True))


def test_a_file_for_a_module_is_refused() -> None:
    with pytest.raises(UsageError, match="not a module"):
        load(Reference("a.py", is_module=True))


def test_a_file_that_is_not_there_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "classify.py")
    with pytest.raises(NotFoundError, match=r"no file clasify\.py") as caught:
        load(Reference("clasify.py"))
    assert "classify.py" in caught.value.hint


def test_a_module_name_for_a_file_leads_to_the_option() -> None:
    with pytest.raises(NotFoundError) as caught:
        load(Reference("pkg.app"))
    assert "cloudfn run -m pkg.app" in caught.value.hint


@pytest.mark.parametrize("name", ["json.py", "click.py", "cloudfn.py"])
def test_a_file_that_would_hide_another_module_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(InvalidError, match="another module") as caught:
        load(Reference(name))
    assert "Rename" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "word"), [("a.b.py", "no dots"), ("notes.txt", "no Python file"), ("folder", "is a folder")]
)
def test_files_that_are_no_modules_are_refused(tmp_path: Path, name: str, word: str) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
    else:
        write(tmp_path / name)
    with pytest.raises(InvalidError, match=word):
        load(Reference(name))


def test_a_module_that_failed_is_not_left_behind(tmp_path: Path) -> None:
    write(tmp_path / "fails_once.py", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        load(Reference("fails_once.py"))
    assert "fails_once" not in sys.modules


RUNS = """
import cloudfn
app = cloudfn.App("runs-at-once")
@app.function()
def f(): pass
with app.run():
    raise AssertionError("it runs")
"""


def test_to_look_at_a_script_runs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "runs_at_once.py", RUNS)
    assert set(look_at(Reference("runs_at_once.py")).app.registered_functions) == {"f"}


def test_a_run_in_another_file_is_told(tmp_path: Path) -> None:
    write(tmp_path / "runs_at_once.py", RUNS)
    write(tmp_path / "around.py", "import runs_at_once\napp = runs_at_once.app")
    with pytest.raises(InvalidError, match="around.py runs an app while it is imported") as caught:
        look_at(Reference("around.py"))
    assert "__main__" in caught.value.hint
