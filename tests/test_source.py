"""Which files go with a function, what their digest says, and what goes by value."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import cloudpickle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudfn import source
from cloudfn.definition import Definition
from cloudfn.exception import ExecutionError, InvalidError, NotFoundError, RequestSizeError, SerializationError
from cloudfn.serialization import loads
from cloudfn.source import Bundle, bundle_for, describe_home, pickle_definition, verify

Tree = dict[str, str]


def make(root: Path, tree: Tree) -> Path:
    for name, content in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def paths(bundle: Bundle) -> list[str]:
    return [file.path for file in bundle.files]


APP: Tree = {
    "app.py": "import helpers\ndef f():\n    from pkg.sub import deep\n",
    "helpers.py": "import os, other\nimport numpy\n",
    "other.py": "x = 1",
    "unused.py": "",
    "pkg/__init__.py": "",
    "pkg/data.csv": "1,2",
    "pkg/sub/__init__.py": "",
    "pkg/sub/deep.py": "import \\\n  far",
    "far.py": "",
    "README.md": "",
}


def test_cloudfn_itself_is_in_every_worker_already(tmp_path: Path) -> None:
    """As in a checkout of it, whose examples and benchmarks have it as their neighbour."""
    tree = {"app.py": "import cloudfn, cloudfn_agent.wire, other", "other.py": "from cloudfn import exception"}
    ours = {"cloudfn/__init__.py": "", "cloudfn/exception.py": "", "cloudfn_agent/wire.py": ""}
    assert paths(bundle_for(make(tmp_path, {**tree, **ours}) / "app.py", "app")) == ["app.py", "other.py"]


def test_a_module_brings_what_it_imports(tmp_path: Path) -> None:
    bundle = bundle_for(make(tmp_path, APP) / "app.py", "app")
    assert bundle.root == tmp_path
    assert paths(bundle) == [
        "app.py",
        "far.py",
        "helpers.py",
        "other.py",
        "pkg/__init__.py",
        "pkg/data.csv",
        "pkg/sub/__init__.py",
        "pkg/sub/deep.py",
    ]


def test_a_single_file(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": "import os, sys, json", "other.py": "", "data/x.bin": ""})
    assert paths(bundle_for(tmp_path / "app.py", "app")) == ["app.py"]


def test_main_brings_its_imports_only(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": "import helpers", "helpers.py": "", "alone.py": "import os"})
    assert paths(bundle_for(tmp_path / "app.py", "__main__")) == ["helpers.py"]
    alone = bundle_for(tmp_path / "alone.py", "__main__")
    assert (alone.files, alone.digest) == ((), "")
    with pytest.raises(InvalidError):
        alone.write_to(tmp_path / "out")


def test_main_started_as_a_module_brings_its_package(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/lib.py": "",
            "pkg/app.py": "from . import lib\nimport sys\nfrom pathlib import Path\n"
            "from cloudfn.source import bundle_for\n"
            "print(*[f.path for f in bundle_for(Path(__file__), '__main__').files])\n",
        },
    )
    run = subprocess.run([sys.executable, "-m", "pkg.app"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["pkg/__init__.py", "pkg/app.py", "pkg/lib.py"]


def test_packages_relative_imports_and_namespaces(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/a/__init__.py": "",
            "pkg/a/mod.py": "from ..b import x\nfrom ... import beyond",
            "pkg/b.py": "from space.inner import thing",
            "space/inner/thing.py": "import outer",
            "space/notes.txt": "",
            "outer.py": "",
            "emptyspace/readme.txt": "",
        },
    )
    bundle = bundle_for(tmp_path / "pkg/a/mod.py", "pkg.a.mod")
    assert bundle.root == tmp_path
    assert set(paths(bundle)) == {
        "pkg/__init__.py",
        "pkg/a/__init__.py",
        "pkg/a/mod.py",
        "pkg/b.py",
        "space/inner/thing.py",
        "space/notes.txt",
        "outer.py",
    }
    assert bundle_for(tmp_path / "pkg/a/__init__.py", "pkg.a").digest == bundle.digest
    assert paths(bundle_for(tmp_path / "space/inner/thing.py", "space.inner.thing"))[0] == "outer.py"


def test_a_bundle_can_be_imported_from(tmp_path: Path) -> None:
    make(tmp_path, {**APP, "helpers.py": "import other", "pkg/sub/deep.py": "import far\ny = 5"})
    folder = bundle_for(tmp_path / "app.py", "app").write_to(tmp_path / "out")
    code = "import app; app.f(); import pkg.sub.deep as d; print(d.y, d.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["5", str(folder / "pkg/sub/deep.py")]
    verify(folder, folder.name)  # though Python has added its __pycache__


def test_never_shipped(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            "pkg/__init__.py": "",
            "pkg/.git/config": "",
            "pkg/__pycache__/x.cpython-311.pyc": "",
            "pkg/old.pyc": "",
            "pkg/node_modules/a.js": "",
            "pkg/env/pyvenv.cfg": "",
            "pkg/env/lib/x.py": "",
            "pkg/.hidden": "",
        },
    )
    os.mkfifo(tmp_path / "pkg/pipe")
    assert paths(bundle_for(tmp_path / "pkg/__init__.py", "pkg")) == ["pkg/.hidden", "pkg/__init__.py"]


def test_gitignore_filters_but_never_what_is_imported(tmp_path: Path) -> None:
    make(
        tmp_path,
        {
            ".git/HEAD": "",
            ".gitignore": "*.log\n/project/pkg/big/\n_version.py\nsecret.py",
            "project/.gitignore": "!keep.log\n",
            "project/pkg/__init__.py": "from . import (\n    _version,\n)\n",
            "project/pkg/_version.py": "",
            "project/pkg/secret.py": "",
            "project/pkg/x.log": "",
            "project/pkg/keep.log": "",
            "project/pkg/big/file.bin": "",
            "project/pkg/sub/.gitignore": "*\n!*.py\n",
            "project/pkg/sub/a.py": "",
            "project/pkg/sub/a.txt": "",
        },
    )
    assert paths(bundle_for(tmp_path / "project/pkg/__init__.py", "pkg")) == [
        "pkg/__init__.py",
        "pkg/_version.py",
        "pkg/keep.log",
        "pkg/sub/a.py",
    ]


def test_a_project_in_an_ignored_folder_goes(tmp_path: Path) -> None:
    make(tmp_path, {".git/HEAD": "", ".gitignore": "scratch/", "scratch/pkg/__init__.py": "", "scratch/pkg/d.txt": ""})
    assert len(bundle_for(tmp_path / "scratch/pkg/__init__.py", "pkg").files) == 2


names = st.sampled_from(["a", "b", "c.txt", "d.log", "e", "!x", "#y", "a b", "-"])
written = """a b/ /a *.log !*.log a/* !a/b **/e a/** * !*/ c.* !c.txt #y [ab] a/b/e a/**/e ? [!a] !a/ \\!x \\#y **/a/b
    ** a** [a [z-a] /**/b **/ [a-] [^a]*.txt ! / [] []a] e\\ !** \\a a/b*/**"""
patterns = st.sampled_from([*written.split(), "a b", "a  ", "", "# a", "a\\ b", " a", "a\\ "])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@given(
    files=st.lists(st.lists(names, min_size=1, max_size=4), min_size=1, max_size=8),
    rules=st.dictionaries(
        st.sampled_from(["", "pkg", "pkg/a", "pkg/a/b"]), st.lists(patterns, min_size=1, max_size=4), max_size=3
    ),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ignores_what_git_ignores(repository: Path, files: list[list[str]], rules: dict[str, list[str]]) -> None:
    subprocess.run(["rm", "-rf", str(repository / "pkg"), str(repository / ".gitignore")], check=True)
    (repository / "pkg").mkdir()
    for parts in files:
        path = repository / "pkg" / Path(*parts)
        if not path.exists() and not any(p.is_file() for p in path.parents if p != repository):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("")
    for folder, lines in rules.items():
        if (repository / folder).is_dir():
            (repository / folder / ".gitignore").write_text("\n".join(lines) + "\n")
    there = [p.relative_to(repository).as_posix() for p in (repository / "pkg").rglob("*") if p.is_file()]
    check = ["git", "check-ignore", "--no-index", "--stdin", "-z"]
    asked = subprocess.run(check, cwd=repository, input="\0".join(there), capture_output=True, text=True)
    ignored = set(asked.stdout.split("\0")) - {""}
    folder_ignored = subprocess.run(["git", "check-ignore", "-q", "--no-index", "pkg"], cwd=repository).returncode == 0
    if folder_ignored:  # then it goes all the same, because it is imported
        return
    collector = source._Collector(repository, only="")
    collector._add_tree("pkg")
    assert {os.path.relpath(p, repository) for p in collector.sizes} == set(there) - ignored


def test_links(tmp_path: Path) -> None:
    root = make(tmp_path / "root", {"pkg/__init__.py": "", "shared/data.txt": "x", ".git/HEAD": "secret"})
    (root / "pkg/data").symlink_to(root / "shared")
    (root / "pkg/one.txt").symlink_to("../shared/data.txt")
    (root / "pkg/loop").symlink_to(root / "pkg")
    (root / "pkg/.#lock").symlink_to("nobody@nowhere")
    (root / "pkg/head").symlink_to(root / ".git/HEAD")
    bundle = bundle_for(root / "pkg/__init__.py", "pkg")
    assert paths(bundle) == ["pkg/__init__.py", "pkg/data/data.txt", "pkg/one.txt"]
    folder = bundle.write_to(tmp_path / "out")
    assert (folder / "pkg/one.txt").read_text() == "x"
    assert not (folder / "pkg/one.txt").is_symlink()

    (root / "pkg/passwords").symlink_to("/etc/passwd")
    with pytest.raises(InvalidError, match="passwords leads to /etc/passwd") as caught:
        bundle_for(root / "pkg/__init__.py", "pkg")
    assert "gitignore" in caught.value.hint
    (root / ".gitignore").write_text("passwords")
    assert bundle_for(root / "pkg/__init__.py", "pkg").digest == bundle.digest


def test_a_syntax_error_ships(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": "import broken, latin", "broken.py": "import x\ndef (", "latin.py": ""})
    (tmp_path / "latin.py").write_bytes(b"import app\nx = '\xe9'\0")
    assert paths(bundle_for(tmp_path / "app.py", "app")) == ["app.py", "broken.py", "latin.py"]


@pytest.mark.filterwarnings("error")
def test_the_scan_warns_of_nothing(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": "import other\nx = '\\d'", "other.py": ""})
    assert len(bundle_for(tmp_path / "app.py", "app").files) == 2


def test_installed_packages_bring_no_neighbours(tmp_path: Path) -> None:
    root = make(tmp_path / "site-packages", {"lib/__init__.py": "import numpy", "numpy/__init__.py": "", "six.py": ""})
    assert paths(bundle_for(root / "lib/__init__.py", "lib")) == ["lib/__init__.py"]


def test_extra_modules(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": "", "plugin.py": "import more", "more.py": ""})
    assert paths(bundle_for(tmp_path / "app.py", "app", ["plugin"])) == ["app.py", "more.py", "plugin.py"]
    with pytest.raises(NotFoundError, match="nothing"):
        bundle_for(tmp_path / "app.py", "app", ["nothing"])


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    make(tmp_path, {"app.py": ""})
    with pytest.raises(InvalidError, match="does not fit"):
        bundle_for(tmp_path / "app.py", "pkg.app")
    with pytest.raises(NotFoundError):
        bundle_for(tmp_path / "none.py", "none")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {"pkg/__init__.py": "", "pkg/big.bin": "x" * 900, "pkg/small.bin": "x" * 300})
    monkeypatch.setattr(source, "MAX_FILE", 800)
    with pytest.raises(RequestSizeError, match=r"big\.bin") as caught:
        bundle_for(tmp_path / "pkg/__init__.py", "pkg")
    assert ".gitignore" in caught.value.hint
    monkeypatch.setattr(source, "MAX_FILE", 1000)
    monkeypatch.setattr(source, "MAX_BUNDLE", 1000)
    with pytest.raises(RequestSizeError, match=r"biggest: pkg/big\.bin"):
        bundle_for(tmp_path / "pkg/__init__.py", "pkg")


# ---- digests and writing ----


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text(max_size=5), min_size=1), st.randoms())
@settings(deadline=None, max_examples=20)
def test_the_digest_is_that_of_names_and_contents(
    tmp_path_factory: pytest.TempPathFactory, tree: Tree, random: Any
) -> None:
    digests = set()
    for mtime in (1, 2):
        items = [("pkg/__init__.py", ""), *((f"pkg/{name}", content) for name, content in tree.items())]
        random.shuffle(items)
        root = make(tmp_path_factory.mktemp("any"), dict(items))
        for name, _ in items:
            os.utime(root / name, (mtime, mtime))
        bundle = bundle_for(root / "pkg/__init__.py", "pkg")
        digests.add(bundle.digest)
    assert len(digests) == 1
    (root / items[0][0]).write_text(items[0][1] + "#")
    assert bundle_for(root / "pkg/__init__.py", "pkg").digest not in digests


def test_the_executable_bit_counts(tmp_path: Path) -> None:
    make(tmp_path, {"pkg/__init__.py": "", "pkg/run.sh": ""})
    before = bundle_for(tmp_path / "pkg/__init__.py", "pkg")
    (tmp_path / "pkg/run.sh").chmod(0o700)
    after = bundle_for(tmp_path / "pkg/__init__.py", "pkg")
    assert before.digest != after.digest
    assert (after.write_to(tmp_path / "out") / "pkg/run.sh").stat().st_mode & 0o777 == 0o755


def test_writers_at_the_same_time(tmp_path: Path) -> None:
    bundle = bundle_for(make(tmp_path / "in", APP) / "app.py", "app")
    barrier = threading.Barrier(8)
    folders: list[Path] = []

    def write() -> None:
        barrier.wait()
        folders.append(bundle.write_to(tmp_path / "out"))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [tmp_path / "out" / bundle.digest] * 8
    assert [path.name for path in (tmp_path / "out").iterdir()] == [bundle.digest]
    verify(folders[0], bundle.digest)


def edit(folder: Path) -> None:
    (folder / "app.py").write_text("evil")


def add(folder: Path) -> None:
    (folder / "more.py").write_text("evil")


def remove(folder: Path) -> None:
    (folder / "app.py").unlink()


def link(folder: Path) -> None:
    (folder / "numpy").symlink_to("/")


@pytest.mark.parametrize("harm", [edit, add, remove, link])
def test_a_changed_bundle_is_noticed_and_made_anew(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    bundle = bundle_for(make(tmp_path / "in", APP) / "app.py", "app")
    folder = bundle.write_to(tmp_path / "out")
    verify(folder, bundle.digest)
    harm(folder)
    with pytest.raises(ExecutionError, match="digest"):
        verify(folder, bundle.digest)
    assert bundle.write_to(tmp_path / "out") == folder
    verify(folder, bundle.digest)
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ExecutionError):
        verify(tmp_path / "none", "")


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    bundle = bundle_for(make(tmp_path / "in", APP) / "app.py", "app")
    (tmp_path / "in/app.py").write_text("other")
    with pytest.raises(InvalidError, match=r"app\.py changed"):
        bundle.write_to(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_other_users_may_read_a_bundle(tmp_path: Path) -> None:
    folder = bundle_for(make(tmp_path / "in", APP) / "app.py", "app").write_to(tmp_path / "out")
    assert folder.stat().st_mode & 0o005 == 0o005


# ---- by name or by value ----


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import importlib

    code = """
        import sqlite3
        limit = 3
        connection = sqlite3.connect(":memory:")
        def helper(): return limit
        def plain(): return helper()
        def linked(): return connection
        class Outer:
            class Inner: pass
        def outer():
            def nested(): pass
            class Local: pass
            return nested, Local
        twice = lambda: 1
        class Wrapped:
            __cloudfn_definition__ = None
        def decorated(): pass
        raw, decorated = decorated, Wrapped()
        def shadowed(): pass
        first = shadowed
        def shadowed(): pass
    """
    import textwrap

    (tmp_path / "user_module_of_test_source.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("user_module_of_test_source")
    del sys.modules["user_module_of_test_source"]


def test_what_goes_by_name(user_module: Any) -> None:
    for obj, qualname in [
        (user_module.plain, "plain"),
        (user_module.Outer.Inner, "Outer.Inner"),
        (user_module.raw, "decorated"),
    ]:
        home = describe_home(obj)
        assert (home.module, home.qualname) == (user_module.__name__, qualname)
        assert home.file == Path(user_module.__file__)
        assert not home.by_value


def test_what_goes_by_value(user_module: Any) -> None:
    def in_main() -> None: ...

    in_main.__module__, in_main.__qualname__ = "__main__", "in_main"
    nested, _ = user_module.outer()
    for obj, serialized in [
        (user_module.twice, False),
        (user_module.first, False),
        (in_main, False),
        (user_module.plain, True),
        (nested, True),
    ]:
        assert describe_home(obj, serialized=serialized).by_value


def test_a_nested_definition_is_refused(user_module: Any) -> None:
    nested, local = user_module.outer()
    with pytest.raises(InvalidError, match=r"function nested is defined inside of outer\(\)") as caught:
        describe_home(nested)
    assert "serialized=True" in caught.value.hint
    with pytest.raises(InvalidError, match="class Local"):
        describe_home(local)


def test_at_decoration_time_the_name_is_still_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    (tmp_path / "half_imported.py").write_text(
        "from cloudfn.source import describe_home\n"
        "homes = []\n"
        "def deco(f):\n    homes.append(describe_home(f).by_value)\n    return f\n"
        "@deco\ndef f(): pass\n"
        "g = deco(lambda: 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("half_imported").homes == [False, True]


def test_a_definition_by_value_needs_no_source(user_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle_definition(Definition(user_module.plain, {"": user_module.plain}))
    assert user_module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    monkeypatch.setitem(sys.modules, user_module.__name__, None)
    definition = loads(data)
    assert definition.target() == 3
    assert definition.methods[""] is definition.target


def test_a_definition_that_cannot_go_names_why(user_module: Any) -> None:
    with pytest.raises(SerializationError, match=r"function linked\(\) refers to 'connection' \(sqlite3.Connection\)"):
        pickle_definition(Definition(user_module.linked))
    assert user_module.__name__ not in cloudpickle.list_registry_pickle_by_value()
