"""`Image`: Modal's shape, what its steps say, and what makes an image another one."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Callable

import cloudpickle
import modal
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudfn import execution, files
from cloudfn.exception import InvalidError, NotFoundError, SerializationError, UnimplementedError
from cloudfn.image import Image
from cloudfn.secret import Secret
from cloudfn.spec import ImageSpec, canonical

# Objects of a server that cloudfn does not have.
NOT_OURS = {"client", "logs", "object_id", "hydrate", "get_dashboard_url"}
MODAL = sorted(name for name in vars(modal.Image) if not name.startswith("_") and name not in NOT_OURS)


@pytest.mark.parametrize("name", MODAL)
def test_signature_is_modals(name: str) -> None:
    theirs = dict(inspect.signature(getattr(modal.Image, name)).parameters)
    theirs.pop("cls", None)  # their wrapper of a classmethod shows it
    ours = inspect.signature(getattr(Image, name)).parameters
    assert [(p.name, p.kind) for p in ours.values()] == [(p.name, p.kind) for p in theirs.values()]
    for parameter in theirs.values():
        default = parameter.default
        if callable(default) and default is not inspect.Parameter.empty:  # an ignore rule: an object of their own
            assert callable(ours[parameter.name].default)
        else:
            assert ours[parameter.name].default == default


def test_comparison_looks_at_something() -> None:
    assert {"debian_slim", "uv_pip_install", "run_function", "add_local_dir", "pipe"} <= set(MODAL)


def test_steps_in_order_and_the_image_before_stays_as_it_was() -> None:
    base = Image.debian_slim("3.12")
    image = base.uv_pip_install("six", ["idna"]).env({"B": "2", "A": "1"}).workdir("/app")
    assert base.spec == ImageSpec("3.12")
    assert [(step.kind, dict(step.args)) for step in image.spec.steps] == [
        ("uv_pip_install", {"packages": ["idna", "six"]}),
        ("env", {"vars": {"A": "1", "B": "2"}}),
        ("workdir", {"path": "/app"}),
    ]


def test_spec_is_json_and_stable() -> None:
    def make() -> Image:
        return Image.debian_slim().pip_install("six", pre=True, env={"X": "1", "GONE": None}, gpu="T4")

    canonical(make().spec.digest())
    assert make().spec.digest() == make().spec.digest()
    assert dict(make().spec.steps[0].args) == {"packages": ["six"], "pre": True, "env": {"X": "1"}, "gpu": "T4"}


def test_no_packages_is_no_step() -> None:
    image = Image.debian_slim()
    assert image.pip_install() is image
    assert image.uv_pip_install([]) is image
    assert image.apt_install() is image
    assert image.run_commands() is image
    assert image.add_local_python_source() is image


@pytest.mark.parametrize("version", ["3.10", "3.11.7", "3.13.0rc1"])
def test_versions_that_are_fine(version: str) -> None:
    assert Image.debian_slim(version).spec.python_version == version


@pytest.mark.parametrize("version", ["3.9", "2.7", "abc", "", "3", "3.13t", "3.12 ", 3.12, "3.1"])
def test_versions_that_are_not(version: Any) -> None:
    with pytest.raises(InvalidError, match="python_version"):
        Image.debian_slim(version)


@given(st.text(max_size=8))
def test_any_text_is_a_version_or_a_clear_error(text: str) -> None:
    try:
        Image.debian_slim(text)
    except InvalidError as error:
        assert "python_version" in str(error)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda i: i.pip_install("--pre"), "extra_options"),
        (lambda i: i.uv_pip_install(" "), "empty name"),
        (lambda i: i.uv_pip_install(3), "list of strings"),
        (lambda i: i.uv_pip_install("six", requirements="r.txt"), "list of strings"),
        (lambda i: i.pip_install("six", extra_options="'open"), "extra_options"),
        (lambda i: i.env({"A": 1}), "must be a string"),
        (lambda i: i.env({"A": None}), "names and strings"),
        (lambda i: i.env({"A=B": "1"}), "no name"),
        (lambda i: i.env({"A": "\0"}), "zero byte"),
        (lambda i: i.workdir(""), "empty"),
        (lambda i: i.add_local_file("x", "relative"), "must be absolute"),
        (lambda i: i.add_local_dir("x", "relative"), "must be absolute"),
        (lambda i: i.add_local_dir("x", "/"), "itself"),
        (lambda i: i.add_local_dir("x", "/a/../b"), r"\.\."),
        (lambda i: i.add_local_python_source(os), "list of strings"),
        (lambda i: i.run_function(3), "takes a function"),
        (lambda i: i.run_function(lambda: 1), "no lambda"),
        (lambda i: i.run_function(len, timeout=0), "timeout"),
        (lambda i: i.cmd("python"), "list of strings"),
        (lambda i: Image.from_registry(""), "tag"),
        (lambda i: Image.from_registry("x", add_python="3"), "python_version"),
        (lambda i: Image.from_registry("x", foo=1), "no argument foo"),
    ],
)
def test_bad_arguments(make: Callable[[Any], object], said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        make(Image.debian_slim())


@pytest.mark.parametrize(
    "make",
    [
        lambda i: i.poetry_install_from_file("pyproject.toml"),
        lambda i: i.pip_install_private_repos("github.com/a/b", git_user="u"),
        lambda i: i.publish("x"),
        lambda i: i.run_function(len, volumes={"/v": object()}),
        lambda i: Image.from_id("im-1"),
        lambda i: Image.from_name("x"),
    ],
)
def test_what_is_not_there_says_what_to_use(make: Callable[[Image], object]) -> None:
    with pytest.raises(UnimplementedError) as caught:
        make(Image.debian_slim())
    assert caught.value.hint


def test_container_steps_are_recorded() -> None:
    image = Image.from_registry("debian:12", add_python="3.12").apt_install("git").run_commands("true", ["a", "b"])
    image = image.dockerfile_commands("RUN x").entrypoint(["/e"]).shell(["/bin/sh"]).cmd(["c"]).micromamba_install("x")
    assert [step.kind for step in image.spec.steps] == [
        *("from_registry", "apt_install", "run_commands", "dockerfile_commands"),
        *("entrypoint", "shell", "cmd", "micromamba_install"),
    ]
    assert image.spec.steps[2].args["commands"] == ["true", "a", "b"]


def test_build_step_after_layered_files_is_refused() -> None:
    image = Image.debian_slim().add_local_file("x", "/x")
    with pytest.raises(InvalidError, match="copy=True"):
        image.uv_pip_install("six")
    assert image.add_local_dir("y", "/y")
    assert Image.debian_slim().add_local_file("x", "/x", copy=True).uv_pip_install("six")


# Local files


def test_content_of_files_makes_the_digest(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"

    def spec() -> ImageSpec:
        return Image.debian_slim().pip_install_from_requirements(str(file)).spec

    file.write_text("six")
    first = spec()
    file.write_text("idn")  # as long, and within the clock's grain
    second = spec()
    file.write_text("six")
    assert first != second
    assert spec() == first


def test_materials_hold_what_the_spec_names(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six\n")
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "x").write_text("x")
    image = Image.debian_slim().uv_pip_install(requirements=[str(tmp_path / "r.txt")])
    image = image.add_local_dir(tmp_path / "d", "/d").add_local_file(tmp_path / "r.txt", "/e/")
    materials = image.materials()
    install, folder, single = image.spec.steps
    assert materials.payloads[install.content[0]] == b"six\n"
    assert materials.trees[folder.content[0]]["sub/x"].path == str(tmp_path / "d" / "sub" / "x")
    assert list(materials.trees[single.content[0]]) == ["r.txt"]
    assert single.args["remote_path"] == "/e/r.txt"
    assert str(tmp_path) not in canonical([step.args for step in image.spec.steps]).decode()


def test_relative_paths_are_those_of_the_definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("x")
    monkeypatch.chdir(tmp_path)
    image = Image.debian_slim().add_local_file("x", "/x")
    monkeypatch.chdir("/")
    assert image.spec.steps[0].content


@pytest.mark.parametrize(
    "make",
    [
        lambda i, gone: i.add_local_file(gone, "/x"),
        lambda i, gone: i.add_local_dir(gone, "/x"),
        lambda i, gone: i.pip_install_from_requirements(gone),
        lambda i, gone: i.pip_install_from_pyproject(gone),
        lambda i, gone: i.uv_sync(gone),
        lambda i, gone: i.add_local_python_source("cloudfn_no_such_module"),
    ],
)
def test_missing_local_path_names_step_and_path(make: Callable[[Image, str], Image], tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    image = make(Image.debian_slim(), gone)  # in a worker, which defines the image again, nothing is read
    with pytest.raises(NotFoundError) as caught:
        _ = image.spec
    assert image._steps[0].kind in str(caught.value)
    assert gone in str(caught.value) or "cloudfn_no_such_module" in str(caught.value)


def test_file_for_folder_and_folder_for_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(InvalidError, match="add_local_file"):
        _ = Image.debian_slim().add_local_dir(tmp_path / "x", "/x").spec
    with pytest.raises(InvalidError, match="add_local_dir"):
        _ = Image.debian_slim().add_local_file(tmp_path, "/x").spec


def test_ignore_as_in_a_dockerignore(tmp_path: Path) -> None:
    for name in ("a.py", "b.txt", "sub/c.txt", "sub/a.py", "venv/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert list(files.tree(tmp_path, ["*.txt", "venv"])) == ["a.py", "sub/a.py", "sub/c.txt"]
    assert list(files.tree(tmp_path, ["**/*.txt", "!sub/c.txt", "venv"])) == ["a.py", "sub/a.py", "sub/c.txt"]
    assert list(files.tree(tmp_path, lambda p: p.is_relative_to("sub") or p.suffix == "")) == ["a.py", "b.txt"]
    with pytest.raises(InvalidError, match="ignore"):
        files.tree(tmp_path, "*.txt")


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x").write_text("x")
    (tmp_path / "alias").symlink_to("real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    assert list(files.tree(tmp_path)) == ["alias/x", "real/x"]


def test_things_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidError, match="regular file"):
        files.tree(tmp_path)
    (tmp_path / "pipe").unlink()
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(NotFoundError, match="leads nowhere"):
        files.tree(tmp_path)


def test_execute_bit_and_names_count(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    plain = files.tree_digest(files.tree(tmp_path))
    (tmp_path / "x").chmod(0o755)
    assert files.tree_digest(files.tree(tmp_path)) != plain
    (tmp_path / "x").rename(tmp_path / "y")
    (tmp_path / "y").chmod(0o644)
    assert files.tree_digest(files.tree(tmp_path)) != plain


def test_python_source_is_found_without_importing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "cloudfn_probe"
    (package / "sub" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "sub" / "m.py").write_text("")
    (package / "sub" / "data.json").write_text("")
    (package / "sub" / "__pycache__" / "m.py").write_text("")
    (tmp_path / "cloudfn_single.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    image = Image.debian_slim().add_local_python_source("cloudfn_probe", "cloudfn_single")
    tree = image.materials().trees[image.spec.steps[0].content[0]]
    assert list(tree) == ["cloudfn_probe/__init__.py", "cloudfn_probe/sub/m.py", "cloudfn_single.py"]
    dotted = Image.debian_slim().add_local_python_source("cloudfn_probe.sub", ignore=[])
    tree = dotted.materials().trees[dotted.spec.steps[0].content[0]]
    assert list(tree) == ["cloudfn_probe/sub/data.json", "cloudfn_probe/sub/m.py"]
    with pytest.raises(InvalidError, match="no Python source"):
        _ = Image.debian_slim().add_local_python_source("math").spec  # an extension, or built in


# Functions and secrets

FACTOR = 2


def helper(x: int) -> int:
    return x * FACTOR


def build_step(x: int) -> int:
    return helper(x)


def test_function_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.debian_slim().run_function(build_step, args=(3,), env={"A": "1"})
    payload = image.materials().payloads[image.spec.steps[0].content[0]]
    monkeypatch.delitem(sys.modules, __name__)  # as in the builder, which has no such module
    function, args, kwargs = pickle.loads(payload)
    assert function(*args, **kwargs) == 6
    assert not cloudpickle.list_registry_pickle_by_value()


def test_digest_of_a_function_follows_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def digest(*args: int) -> str:
        return Image.debian_slim().run_function(build_step, args=args).spec.digest()

    first = digest(1)
    assert digest(1) == first
    assert digest(2) != first
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert digest(1) != first
    monkeypatch.undo()
    monkeypatch.setattr(helper, "__code__", (lambda x: x).__code__)
    assert digest(1) != first


def test_digest_of_a_function_ignores_where_it_stands(tmp_path: Path) -> None:
    script = "def f(x={1, 2, 3}): return {'a', 'b'}\nfrom cloudfn.image import Image\n"
    script += "print(Image.debian_slim().run_function(f).spec.digest())\n"
    seen = set()
    for index, lines in enumerate(("", "\n\nimport os\n")):
        file = tmp_path / f"m{index}.py"
        file.write_text(lines + script)
        env = {**os.environ, "PYTHONHASHSEED": str(index)}
        seen.add(subprocess.run([sys.executable, file], capture_output=True, env=env, check=True).stdout)
    assert len(seen) == 1


def test_function_that_cannot_be_pickled() -> None:
    lock = __import__("threading").Lock()

    def fetch() -> None:
        print(lock)

    with pytest.raises(SerializationError, match=r"run_function.*lock"):
        _ = Image.debian_slim().run_function(fetch).spec


def test_secrets_stay_out_of_the_spec() -> None:
    image = Image.debian_slim().uv_pip_install("six").pip_install("x", secrets=[Secret.from_dict({"T": "hush"})])
    assert "hush" not in repr(image.spec) + repr(image) + repr(image.materials())
    assert image.materials().secrets == {1: {"T": "hush"}}
    with pytest.raises(NotFoundError, match="store"):
        Image.debian_slim().pip_install("x", secrets=[Secret.from_name("s")]).materials()


# In use


def test_imports_lets_pass_on_the_calling_machine() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.debian_slim().imports():
            import cloudfn_no_such_module  # noqa: F401
    with pytest.warns(UserWarning, match="boom"), Image.debian_slim().imports():
        raise ValueError("boom")


def test_imports_raises_in_a_worker_of_this_image_only(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = Image.debian_slim().uv_pip_install("six").add_local_file("gone", "/x")
    monkeypatch.setattr(execution, "in_worker", True)
    with pytest.raises(ImportError), ours.imports():  # the worker did not say which image it has
        import cloudfn_no_such_module
    monkeypatch.setattr(execution, "image_recipe", ours.recipe)
    with pytest.raises(ImportError), ours.imports():
        import cloudfn_no_such_module
    with Image.debian_slim().imports():
        import cloudfn_no_such_module  # noqa: F401


def test_recipe_is_the_specs(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    image = Image.debian_slim("3.12").env({"A": "1"}).add_local_file(tmp_path / "x", "/x")
    assert image.recipe == image.spec.recipe()


def test_pipe_keeps_the_chain() -> None:
    def more(image: Image, *names: str, pre: bool) -> Image:
        return image.uv_pip_install(*names, pre=pre)

    assert dict(Image.debian_slim().pipe(more, "six", pre=True).spec.steps[0].args) == {
        "packages": ["six"],
        "pre": True,
    }


def test_image_is_picklable() -> None:
    image = Image.debian_slim().run_function(build_step).add_local_file(__file__, "/x")
    assert pickle.loads(cloudpickle.dumps(image)).spec == image.spec


def test_import_needs_the_standard_library_only() -> None:
    code = "import sys, cloudfn.image; print(*sorted(m for m in sys.modules if '.' not in m))"
    env = {"PYTHONPATH": str(Path(files.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=env, check=True)
    heavy = {"asyncio", "subprocess", "pathspec", "platformdirs", "cloudpickle", "logging", "socket"}
    assert not heavy & set(done.stdout.split())
