"""Images in process mode, built for real: uv, small packages, real processes."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest
from cloudfn_agent import mounts
from cloudfn_local import build_process, interpreters, paths, runtime_path, venv

from cloudfn.exception import (
    FunctionTimeoutError,
    ImageBuildError,
    InternalFailure,
    InvalidError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ResourceUnavailableError,
    VersionError,
)
from cloudfn.image import Image
from cloudfn.provider import Runtime
from cloudfn.secret import Secret

OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


@functools.cache
def other_python() -> interpreters.Interpreter:
    """An interpreter of another minor version; images of real programs need one too."""
    return next(found for found in interpreters.everything() if interpreters.minor(found.version) != OWN)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def build(image: Image, report: Callable[[str], None] = lambda line: None) -> Runtime:
    return venv.build(image.spec, report, image.materials())


def lines_of(image: Image) -> list[str]:
    lines: list[str] = []
    build(image, lines.append)
    return lines


def python(runtime: Runtime, code: str) -> str:
    """Run code as a worker of this runtime would."""
    argv = mounts.command(runtime.mounts, [runtime.python, "-c", code])
    env = {**os.environ, **runtime.env, "PYTHONPATH": os.pathsep.join(runtime.sys_path)}
    done = subprocess.run(argv, env=env, cwd="/", capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()


def images(cache: Path) -> list[str]:
    return [path.name for path in (cache / "images").iterdir() if path.is_dir()] if (cache / "images").exists() else []


# Which interpreter


def test_image_without_installs_is_the_callers_interpreter(cache: Path) -> None:
    image = Image.debian_slim().env({"A": "1"}).env({"A": "2", "B": "3"}).workdir("/tmp")
    lines: list[str] = []
    runtime = build(image, lines.append)
    assert runtime == Runtime(sys.executable, OWN, env={"A": "2", "B": "3"}, workdir="/tmp")
    assert not lines and not images(cache)


def test_installed_packages_and_nothing_of_the_callers() -> None:
    runtime = build(Image.debian_slim().uv_pip_install("six==1.16.0"))
    assert runtime.version == OWN
    code = "import six, importlib.util as u; print(six.__version__, u.find_spec('pytest'), u.find_spec('cloudfn'))"
    assert python(runtime, code) == "1.16.0 None None"
    assert runtime.env["PATH"].startswith(str(Path(runtime.python).parent) + os.pathsep)


def test_built_once_and_marked_as_used(cache: Path) -> None:
    image = Image.debian_slim().pip_install("six")
    first = build(image)
    (name,) = images(cache)
    marker = cache / "images" / name / "done.json"
    os.utime(marker, (0, 0))
    lines: list[str] = []
    assert build(Image.debian_slim().pip_install("six"), lines.append) == first
    assert not lines
    assert marker.stat().st_mtime > 0


def test_another_python_version() -> None:
    minor = interpreters.minor(other_python().version)
    runtime = build(Image.debian_slim(minor).uv_pip_install("six"))
    assert runtime.version == minor
    assert python(runtime, "import six, sys; print('%d.%d' % sys.version_info[:2])") == minor


def test_python_alone_gives_an_empty_environment() -> None:
    runtime = build(Image.debian_slim(OWN))
    assert runtime.python != sys.executable
    assert python(runtime, "import importlib.util as u; print(u.find_spec('pytest'))") == "None"


def test_unknown_python_lists_what_there_is() -> None:
    with pytest.raises(ImageBuildError, match=r"Python 3\.99") as caught:
        build(Image.debian_slim("3.99"))
    assert sys.executable in caught.value.message
    assert "uv python install 3.99" in caught.value.hint


def test_interpreter_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv puts a `python3.x` on PATH for versions that are not switched on."""
    real, minor = other_python(), interpreters.minor(other_python().version)
    for name, text in (("a", "exit 127"), ("b", f'exec {real.path} "$@"')):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"python{minor}").write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name / f"python{minor}").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'a'}:{tmp_path / 'b'}:{tmp_path / 'missing'}:/usr/bin:/bin")
    assert interpreters.find(minor).path == str(tmp_path / "b" / f"python{minor}")


def test_uninstalled_interpreter_is_built_anew(cache: Path) -> None:
    image = Image.debian_slim().uv_pip_install("six")
    runtime = build(image)
    Path(runtime.python).unlink()
    Path(runtime.python).symlink_to("/nowhere/python")
    assert build(image) == runtime
    assert python(runtime, "import six; print(1)") == "1"


# Steps


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.debian_slim().apt_install("git"),
        lambda: Image.debian_slim().run_commands("true"),
        lambda: Image.debian_slim().dockerfile_commands("RUN true"),
        lambda: Image.debian_slim().entrypoint(["/e"]),
        lambda: Image.debian_slim().shell(["/s"]),
        lambda: Image.from_registry("debian:12"),
        lambda: Image.from_scratch(),
        lambda: Image.micromamba(),
        lambda: Image.debian_slim().micromamba_install("x"),
    ],
)
def test_container_step_is_refused_by_name(make: Callable[[], Image], cache: Path) -> None:
    image = make()
    with pytest.raises(InvalidError, match="process mode") as caught:
        build(image.uv_pip_install("six"))
    assert image.spec.steps[-1].kind in caught.value.message
    assert "podman" in caught.value.hint
    assert not images(cache)


def test_requirement_that_does_not_resolve_shows_uvs_words(cache: Path) -> None:
    with pytest.raises(ImageBuildError, match=r"no version of six==99") as caught:
        build(Image.debian_slim().uv_pip_install("six==99"))
    assert "uv_pip_install of six==99" in caught.value.message
    assert not images(cache)


def test_requirements_file_and_pyproject(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("six==1.16.0\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname="p"\nversion="1"\ndependencies=["idna==3.7"]\n[project.optional-dependencies]\nx=["iniconfig"]\n'
    )
    image = Image.debian_slim().pip_install_from_requirements(str(tmp_path / "r.txt"))
    runtime = build(image.pip_install_from_pyproject(str(tmp_path / "pyproject.toml"), ["x"]))
    assert python(runtime, "import six, idna, iniconfig; print(six.__version__, idna.__version__)") == "1.16.0 3.7"


@pytest.mark.parametrize("locked", [True, False])
def test_uv_sync_keeps_what_was_installed(tmp_path: Path, locked: bool) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        f'[project]\nname="p"\nversion="1"\nrequires-python=">={OWN}"\ndependencies=["idna==3.7"]\n'
        '[dependency-groups]\ng=["iniconfig"]\n'
    )
    if locked:
        from cloudfn_local import uv

        subprocess.run([uv.program(), "lock", "--project", project], check=True, capture_output=True)
    runtime = build(Image.debian_slim().uv_pip_install("six").uv_sync(str(project), groups=["g"]))
    assert python(runtime, "import six, idna, iniconfig; print(idna.__version__)") == "3.7"
    assert sorted(path.name for path in project.iterdir()) == ["pyproject.toml", *(["uv.lock"] if locked else [])]


def test_env_before_an_install_is_seen_by_it_and_after_is_not(cache: Path) -> None:
    bad = {"UV_INDEX_URL": "http://127.0.0.1:9/simple", "UV_NO_CACHE": "1", "UV_HTTP_RETRIES": "0"}
    with pytest.raises(ImageBuildError, match=r"127\.0\.0\.1"):
        build(Image.debian_slim().env(bad).uv_pip_install("six"))
    with pytest.raises(ImageBuildError, match=r"127\.0\.0\.1"):
        build(Image.debian_slim().uv_pip_install("six", secrets=[Secret.from_dict(bad)]))
    runtime = build(Image.debian_slim().uv_pip_install("six").env(bad))
    assert runtime.env["UV_NO_CACHE"] == "1"
    assert len(images(cache)) == 1


def test_force_build_builds_beside_the_old_one(cache: Path) -> None:
    image = Image.debian_slim().uv_pip_install("six", force_build=True)
    assert build(image).python != build(image).python
    assert len(images(cache)) == 2


def test_secret_is_written_nowhere(cache: Path) -> None:
    def show() -> None:
        print("the token has", len(os.environ["TOKEN"]))

    secret = Secret.from_dict({"TOKEN": "hush-hush-hush"})
    image = Image.debian_slim().run_function(show, secrets=[secret]).uv_pip_install("six", secrets=[secret])
    lines: list[str] = []
    runtime = build(image, lines.append)
    assert any("the token has 14" in line for line in lines)
    assert "hush" not in repr(runtime) + "".join(lines)
    for path in cache.rglob("*"):
        assert not path.is_file() or b"hush-hush" not in path.read_bytes()


# Functions


def greet(name: str, *, mark: str) -> None:
    import six

    from cloudfn.execution import is_local

    print("hello", name + mark, six.__name__, is_local())


def fail() -> None:
    raise KeyError("who raised this")


def test_function_runs_in_the_image() -> None:
    image = Image.debian_slim().uv_pip_install("six").run_function(greet, args=("you",), kwargs={"mark": "!"})
    lines = lines_of(image)
    assert "image: running greet" in lines
    assert "image:   hello you! six False" in lines
    assert lines_of(image) == []


def test_function_that_fails_shows_its_traceback(cache: Path) -> None:
    with pytest.raises(
        ImageBuildError, match=r"run_function of fail failed[\s\S]*Traceback[\s\S]*in fail[\s\S]*KeyError"
    ):
        build(Image.debian_slim().run_function(fail))
    assert not images(cache)


def test_async_function_is_awaited() -> None:
    async def later() -> None:
        print("awaited")

    assert "image:   awaited" in lines_of(Image.debian_slim().run_function(later))


def test_function_for_another_python_is_refused_before_anything_is_built(cache: Path) -> None:
    other = "3.10" if OWN != "3.10" else "3.11"
    with pytest.raises(VersionError, match=rf"(?s)greet.*Python {OWN}.*Python {other}"):
        build(Image.debian_slim(other).run_function(greet))
    assert not images(cache)


def test_function_over_its_timeout() -> None:
    def hang() -> None:
        threading.Event().wait()

    with pytest.raises(FunctionTimeoutError, match="timeout of 1 s"):
        build(Image.debian_slim().run_function(hang, timeout=1))


def test_function_that_leaves_a_process_behind_does_not_hang_the_build() -> None:
    def leave() -> None:
        print("left", subprocess.Popen(["sleep", "600"]).pid)

    (line,) = [line for line in lines_of(Image.debian_slim().run_function(leave)) if "left" in line]
    pid = int(line.split()[-1])
    with pytest.raises(ProcessLookupError):
        for _ in range(1000):  # killed; init or a subreaper collects it
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                raise ProcessLookupError


# Local files


def test_files_are_copies_and_build_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "x.txt"
    file.write_text("one")

    def image() -> Image:
        base = Image.debian_slim().uv_pip_install("six")
        return base.add_local_dir(tmp_path / "data", "/cloudfn-test/data").add_local_file(file, "/cloudfn-test/y.txt")

    show = "print(open('/cloudfn-test/data/x.txt').read(), open('/cloudfn-test/y.txt').read())"
    first = build(image())
    file.write_text("two")
    assert python(first, show) == "one one"
    second = build(image())
    assert python(second, show) == "two two"
    assert second.python == first.python
    assert len(images(cache)) == 1


def test_file_changed_or_deleted_between_description_and_copy(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x").write_text("one")
    image = Image.debian_slim().add_local_file(tmp_path / "x", "/x")
    _ = image.spec
    (tmp_path / "x").write_text("two")
    with pytest.raises(InvalidError, match="changed"):
        build(image)
    (tmp_path / "x").unlink()
    with pytest.raises(NotFoundError, match="deleted"):
        build(image)
    assert not list((cache / "files").iterdir())


def test_copied_files_are_seen_by_later_steps_and_rebuild_them(tmp_path: Path) -> None:
    def show() -> None:
        print("saw", Path("/cloudfn-test/x").read_text(), Path.cwd())

    def image() -> Image:
        base = Image.debian_slim().add_local_file(tmp_path / "x", "/cloudfn-test/x", copy=True)
        return base.workdir("/cloudfn-test/work").run_function(show)

    (tmp_path / "x").write_text("one")
    assert "image:   saw one /cloudfn-test/work" in lines_of(image())
    (tmp_path / "x").write_text("two")
    assert "image:   saw two /cloudfn-test/work" in lines_of(image())
    assert python(build(image()), "print(open('/cloudfn-test/x').read())") == "two"
    assert not Path("/cloudfn-test").exists()


def test_python_source_is_importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lib" / "cloudfn_probe").mkdir(parents=True)
    (tmp_path / "lib" / "cloudfn_probe" / "__init__.py").write_text("VALUE = 41\n")
    monkeypatch.syspath_prepend(tmp_path / "lib")

    def show() -> None:
        import cloudfn_probe  # type: ignore[import-not-found]

        print("value", cloudfn_probe.VALUE)

    image = Image.debian_slim(OWN).add_local_python_source("cloudfn_probe", copy=True).run_function(show)
    assert "image:   value 41" in lines_of(image)
    runtime = build(image)
    assert not runtime.mounts
    assert python(runtime, "import cloudfn_probe; print(cloudfn_probe.VALUE)") == "41"


def test_workdir_that_is_not_there_is_made_for_the_worker_only() -> None:
    runtime = build(Image.debian_slim().workdir("/cloudfn-test").workdir("sub"))
    assert runtime.workdir == "/cloudfn-test/sub"
    assert python(runtime, f"import os; os.chdir({runtime.workdir!r}); print(os.listdir())") == "[]"
    assert build(Image.debian_slim().workdir("x")).workdir == "/root/x"
    assert not Path("/cloudfn-test").exists()


def test_workdir_gives_way_to_files_added_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    runtime = build(
        Image.debian_slim().workdir("/cloudfn-test").add_local_dir(tmp_path, "/cloudfn-test", ignore=["cache"])
    )
    assert python(runtime, "import os; print(os.listdir('/cloudfn-test'))") == "['x']"


def test_files_where_bubblewrap_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("x")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceUnavailableError, match="bubblewrap"):
        build(Image.debian_slim().add_local_file(tmp_path / "x", "/x"))


def test_impossible_target_is_refused_before_a_worker_starts(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(InvalidError, match="kernel"):
        build(Image.debian_slim().add_local_file(tmp_path / "x", "/proc/x"))


def test_spec_without_its_materials(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("x")
    with pytest.raises(InternalFailure, match="add_local_file"):
        venv.build(Image.debian_slim().add_local_file(tmp_path / "x", "/x").spec, print)


# What goes wrong with machines

BUILDER = """
import os, sys
sys.path.insert(0, {tests!r})
from test_venv import stuck
from cloudfn.image import Image
from cloudfn_local import venv
image = Image.debian_slim().run_function(stuck, args=({fifo!r}, {go!r}))
venv.build(image.spec, lambda line: print(line, flush=True), image.materials())
print("BUILT", flush=True)
"""


def stuck(fifo: str, go: str) -> None:
    """Tells that it runs, then waits, unless `go` exists."""
    if not os.path.exists(go):  # noqa: PTH110 - runs in the image
        os.write(os.open(fifo, os.O_WRONLY), b"up\n")  # stays open: who reads it sees when this process ends
        threading.Event().wait()


class Stuck:
    """A process that builds an image whose function waits."""

    def __init__(self, tmp_path: Path) -> None:
        self.fifo, self.go = tmp_path / "fifo", tmp_path / "go"
        os.mkfifo(self.fifo)
        code = BUILDER.format(tests=str(Path(__file__).parent), fifo=str(self.fifo), go=str(self.go))
        self.argv = [sys.executable, "-c", code]
        self.builder = self.start()
        self.reader = self.fifo.open("rb")
        assert self.reader.readline() == b"up\n"

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_for_function_to_end(self) -> None:
        assert self.reader.read() == b""

    def close(self) -> None:
        self.builder.kill()
        self.builder.wait()
        assert self.builder.stdout is not None
        self.builder.stdout.close()
        self.reader.close()


@pytest.fixture
def stuck_build(tmp_path: Path) -> Any:
    made = Stuck(tmp_path)
    yield made
    made.close()


def test_killed_build_is_built_cleanly_the_next_time(stuck_build: Stuck, cache: Path) -> None:
    stuck_build.builder.send_signal(signal.SIGKILL)
    stuck_build.wait_for_function_to_end()
    (name,) = images(cache)
    assert not (cache / "images" / name / "done.json").exists()
    (cache / "images" / name / "venv" / "garbage").write_text("of the killed build")
    stuck_build.go.touch()
    done = subprocess.run(stuck_build.argv, capture_output=True, text=True, timeout=60, check=True)
    assert "BUILT" in done.stdout
    assert images(cache) == [name]
    assert not (cache / "images" / name / "venv" / "garbage").exists()


def test_second_build_waits_and_says_so(stuck_build: Stuck, cache: Path) -> None:
    second = stuck_build.start()
    assert second.stdout is not None
    with second.stdout:
        assert "waiting for another process" in second.stdout.readline()
        stuck_build.go.touch()
        stuck_build.builder.kill()  # so that the second one has work of its own to do
        assert "BUILT" in second.stdout.read()
    assert second.wait() == 0
    assert len(images(cache)) == 1


def test_two_builds_at_once_are_one() -> None:
    reports: list[list[str]] = [[], []]
    image = Image.debian_slim().uv_pip_install("six")
    threads = [threading.Thread(target=build, args=(image, lines.append)) for lines in reports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("installing" in line for lines in reports for line in lines) == 1


def test_ctrl_c_ends_what_the_build_started(stuck_build: Stuck) -> None:
    stuck_build.builder.send_signal(signal.SIGINT)
    stuck_build.wait_for_function_to_end()
    assert "KeyboardInterrupt" in stuck_build.builder.communicate()[0]
    assert stuck_build.builder.returncode != 0


def test_disk_full_names_the_folder(cache: Path) -> None:
    """A real full disk: the cache is a file system of 2 MB, and uv has to copy into it."""
    cache.mkdir()
    code = (
        "import sys; from cloudfn.image import Image; from cloudfn_local import venv\n"
        "try: venv.build(Image.debian_slim().uv_pip_install('setuptools').spec, print)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "from pathlib import Path\n"
        "print('left:', [p.name for p in Path(sys.argv[1], 'images').iterdir() if p.is_dir()])"
    )
    argv = [mounts.find_bubblewrap(), "--dev-bind", "/", "/", "--size", "2000000", "--tmpfs", str(cache)]
    done = subprocess.run([*argv, sys.executable, "-c", code, cache], capture_output=True, text=True, timeout=120)
    assert f"{ResourceExhaustedError.__name__} The disk is full" in done.stdout, done.stdout + done.stderr
    assert f"below {cache}" in done.stdout
    assert paths.CACHE_VARIABLE in done.stdout
    assert "left: []" in done.stdout


def test_full_disk_under_our_own_copies(tmp_path: Path, cache: Path) -> None:
    cache.mkdir()
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    code = (
        "import sys; from cloudfn.image import Image; from cloudfn_local import venv\n"
        "image = Image.debian_slim().add_local_file(sys.argv[1], '/cloudfn-test')\n"
        "try: venv.build(image.spec, print, image.materials())\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    argv = [mounts.find_bubblewrap(), "--dev-bind", "/", "/", "--size", "2000000", "--tmpfs", str(cache)]
    argv += [sys.executable, "-c", code, str(tmp_path / "big")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert f"{ResourceExhaustedError.__name__} The disk is full" in done.stdout, done.stdout + done.stderr


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(paths.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(PermissionDeniedError, match=paths.CACHE_VARIABLE):
        build(Image.debian_slim().uv_pip_install("six"))


def test_damaged_marker_means_not_built(cache: Path) -> None:
    image = Image.debian_slim(OWN)
    build(image)
    (name,) = images(cache)
    (cache / "images" / name / "done.json").write_text("{")
    assert "image: making" in lines_of(image)[0]


# The parts


def test_output_is_shown_as_it_comes_and_noise_is_not(tmp_path: Path) -> None:
    shown: list[str] = []
    with open(os.devnull) as lock:
        code = "print('a\\rb'); print(' + six'); print(); print('\\udcff'.encode('utf8','surrogateescape'))"
        outcome = build_process.run(
            [sys.executable, "-c", code], os.environ, shown.append, cwd="/", lock=lock.fileno(), keep=3
        )
    assert outcome.status == 0
    assert shown[:2] == ["image:   a", "image:   b"]
    assert not any("six" in line for line in shown)
    assert len(outcome.tail) == 3


def test_report_that_raises_ends_the_process() -> None:
    seen: list[int] = []

    def report(line: str) -> None:
        seen.append(int(line.split()[-1]))
        raise ZeroDivisionError

    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with open(os.devnull) as lock, pytest.raises(ZeroDivisionError):
        build_process.run([sys.executable, "-c", code], os.environ, report, cwd="/", lock=lock.fileno())
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0], 0)


def test_runtime_path_holds_our_packages_and_nothing_else() -> None:
    place = Path(runtime_path.runtime_path())
    assert sorted(path.name for path in place.iterdir()) == sorted(runtime_path.PACKAGES)
    assert runtime_path.runtime_path() == str(place)
    (place / "cloudfn").unlink()
    runtime_path.runtime_path()
    code = "import sys; sys.path.insert(0, sys.argv[1]); import cloudfn, cloudfn_agent, cloudpickle; print('ok')"
    argv = [other_python().path, "-I", "-S", "-c", code, str(place)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "ok\n"


def test_folders_follow_their_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.STATE_VARIABLE, str(tmp_path / "s" / "t"))
    assert paths.state_dir() == tmp_path / "s" / "t"
    assert paths.state_dir().stat().st_mode & 0o777 == 0o700
    assert {paths.images_dir().parent, paths.code_dir().parent, paths.files_dir().parent} == {tmp_path / "cache"}
    monkeypatch.delenv(paths.STATE_VARIABLE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "x"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in paths.state_dir().parents
