"""Images in process mode: a uv venv for each different list of installs, found again by its digest.

An image that installs nothing and names no Python runs in the caller's own interpreter. Files that an image adds are
no part of the venv; they are laid over it when a worker starts.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Iterator, Mapping, NoReturn, TypeVar

from cloudfn_agent import mounts

from cloudfn.exception import (
    FunctionTimeoutError,
    ImageBuildError,
    InternalFailure,
    InvalidError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ResourceUnavailableError,
    VersionError,
)
from cloudfn.provider import NO_MATERIALS, Materials, Mount, Report, Runtime
from cloudfn.spec import ImageSpec, ImageStep, digest
from cloudfn_local import build_process, interpreters, paths, uv
from cloudfn_local.runtime_path import runtime_path
from cloudfn_local.snapshots import snapshot

_T = TypeVar("_T")

_MARKER = "done.json"
_ADDS = ("add_local_file", "add_local_dir", "add_local_python_source")
_SETS = ("env", "workdir", "cmd", "debian_slim")  # `cmd` is for containers that run no function


def build(image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
    """Make the image ready on this machine.

    Args:
        report: gets a line for each step.
        materials: local files, pickled functions and secrets of the image's steps.

    Raises:
        InvalidError: a step that only a container can do, or files at a path where none can be.
        ImageBuildError: a step failed, with the last lines that it wrote; or there is no such Python.
        VersionError: a function of `run_function` comes from another Python than the image's.
        FunctionTimeoutError: a function of `run_function` ran too long.
        ResourceExhaustedError: the disk is full.
        ResourceUnavailableError: files are added at absolute paths, and bubblewrap does not work here.
        PermissionDeniedError: the cache cannot be written.
    """
    _refuse_impossible_steps(image)
    try:
        view = _View(materials)
        built = _find_or_make(image, report, materials)
        for index, step in enumerate(image.steps):
            view.apply(index, step)
    except OSError as error:
        _explain(error)
    if view.mounts and (reason := mounts.check()):
        raise ResourceUnavailableError(
            f"The image adds files at absolute paths, for which process mode needs bubblewrap: {reason}",
            hint="Install it (Debian, Ubuntu: apt-get install bubblewrap) and allow user namespaces.",
        )
    mounts.command(view.mounts, ())  # refuses paths where nothing can be added, before any worker starts
    return Runtime(
        python=str(built.python) if built else sys.executable,
        version=interpreters.minor(built.version) if built else _own_minor(),
        env=built.activate(view.env) if built else view.env,
        workdir=view.workdir,
        sys_path=tuple(view.sys_path),
        mounts=tuple(view.mounts),
    )


@dataclass(frozen=True)
class _Venv:
    folder: Path
    version: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def activate(self, env: Mapping[str, str]) -> dict[str, str]:
        path = env.get("PATH") or os.environ.get("PATH", os.defpath)
        return {**env, "PATH": f"{self.folder / 'bin'}{os.pathsep}{path}"}


@dataclass
class _View:
    """What the steps so far let a process see."""

    materials: Materials
    env: dict[str, str] = field(default_factory=dict)
    workdir: str = ""
    sys_path: list[str] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)

    def apply(self, index: int, step: ImageStep) -> None:
        if step.kind == "env":
            self.env.update(step.args["vars"])
        elif step.kind == "workdir":
            self.workdir = str(PurePosixPath(self.workdir or "/root") / step.args["path"])
            if not self._is_folder(self.workdir):
                self.mounts.append(Mount("", self.workdir))
        elif step.kind in _ADDS:
            name = step.content[0]
            tree = _material(self.materials.trees, name, step)
            folder = snapshot(name, tree)
            if step.kind == "add_local_python_source":
                self.sys_path.append(str(folder))
            else:
                source = folder / next(iter(tree)) if step.kind == "add_local_file" else folder
                self._add(Mount(str(source), step.args["remote_path"]))

    def _add(self, mount: Mount) -> None:
        # A folder that `workdir` made only because nothing was there gives way to real content.
        self.mounts = [other for other in self.mounts if other.source or other.target != mount.target]
        self.mounts.append(mount)

    def _is_folder(self, path: str) -> bool:
        for mount in self.mounts:
            if PurePosixPath(path).is_relative_to(mount.target) and mount.source:
                return (Path(mount.source) / PurePosixPath(path).relative_to(mount.target)).is_dir()
        return Path(path).is_dir()


def _refuse_impossible_steps(image: ImageSpec) -> None:
    minor = interpreters.minor(image.python_version or _own_minor())
    for step in image.steps:
        if step.kind == "run_function" and minor != _own_minor():
            raise VersionError(
                f"Image.run_function sends {step.args['name']} by value, which binds it to Python {_own_minor()}, "
                f"but the image has Python {minor}.",
                hint=f'Start from Image.debian_slim(python_version="{_own_minor()}"), or run the app with that Python.',
            )
        if step.kind not in (*_ADDS, *_SETS, *uv.INSTALLS, "run_function"):
            raise InvalidError(
                f"Image.{step.kind} needs a container, and this machine builds images in process mode (a Python venv).",
                hint="Container mode needs podman and is not part of this version. Until then: install Python packages "
                "with uv_pip_install, and programs on this machine itself (apt-get, brew), without the step.",
            )


def needs_venv(image: ImageSpec) -> bool:
    """False where the caller's own interpreter will do."""
    return image.python_version is not None or any(_is_built(step) for step in image.steps)


def _find_or_make(image: ImageSpec, report: Report, materials: Materials) -> _Venv | None:
    """The image's venv, or None where it needs none."""
    last = max((index for index, step in enumerate(image.steps) if _is_built(step)), default=-1)
    if not needs_venv(image):
        return None
    steps = image.steps[: last + 1]
    place = paths.images_dir() / _key(image.python_version, steps)
    if any(step.args.get("force_build") for step in image.steps):
        place = place.with_name(f"{place.name}-{time.time_ns():x}")  # never in place: workers may use the old one
    found = _finished(place)
    if found is None:
        with _locked(place, report) as lock:
            found = _finished(place) or _Builder(place, lock, report, materials).make(image.python_version, steps)
    os.utime(place / _MARKER)  # tells a clean-up which images are still in use
    return found


def _is_built(step: ImageStep) -> bool:
    return step.kind in uv.INSTALLS or step.kind == "run_function"


def _key(python_version: str | None, steps: tuple[ImageStep, ...]) -> str:
    python = [sys.implementation.name, python_version or _own_minor()]
    return digest([1, python, [[step.kind, step.args, step.content] for step in steps]])[:32]


def _finished(place: Path) -> _Venv | None:
    try:
        found = _Venv(place / "venv", json.loads((place / _MARKER).read_text())["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if found.python.exists() else None  # its link leads nowhere once that Python is uninstalled


@contextmanager
def _locked(place: Path, report: Report) -> Iterator[int]:
    """Hold the lock of one image; gives its descriptor. The kernel lets go of it when the holders are gone."""
    import fcntl

    # Not filelock: the descriptor is handed to the processes of the build (see `build_process.run`).
    with open(place.with_name(f"{place.name}.lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("image: waiting for another process that builds the same image")
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield file.fileno()
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@dataclass
class _Builder:
    """Builds one venv in `place`, under its lock."""

    place: Path
    lock: int
    report: Report
    materials: Materials

    def make(self, python_version: str | None, steps: tuple[ImageStep, ...]) -> _Venv:
        started = time.monotonic()
        shutil.rmtree(self.place, ignore_errors=True)  # what an interrupted build left
        try:
            self.place.mkdir()
            venv = self._create(python_version)
            view = _View(self.materials)
            for index, step in enumerate(steps):
                if step.kind == "run_function":
                    self._call(venv, view, index, step)
                elif step.kind in uv.INSTALLS:
                    self._install(venv, view, index, step)
                else:
                    view.apply(index, step)
            shutil.rmtree(self.place / "inputs", ignore_errors=True)
            aside = self.place / f".{_MARKER}"
            aside.write_text(json.dumps({"version": venv.version}))
            aside.replace(self.place / _MARKER)  # last of all: without it the image does not exist
        except Exception:
            shutil.rmtree(self.place, ignore_errors=True)
            raise
        self.report(f"image: built in {time.monotonic() - started:.1f} s")
        return venv

    def _create(self, python_version: str | None) -> _Venv:
        interpreter = interpreters.find(python_version or _own_minor())
        self.report(f"image: making an environment for Python {interpreter.version}")
        venv = _Venv(self.place / "venv", interpreter.version)
        argv = [uv.program(), "venv", "--no-project", "--python", interpreter.path, str(venv.folder)]
        self._check(build_process.run(argv, uv.environment(), _quiet, cwd=str(self.place), lock=self.lock), "uv venv")
        return venv

    def _install(self, venv: _Venv, view: _View, index: int, step: ImageStep) -> None:
        inputs = [self._input(index, name, step) for name in step.content]
        wanted = ", ".join(step.args.get("packages", ())) or "the listed requirements"
        self.report(f"image: installing {wanted}")
        if (version := step.args.get("uv_version")) and version != (own := uv.version()):
            self.report(f"image: uv {version} is asked for; process mode uses its own, {own}")
        env = {**uv.environment(), **venv.activate(self._variables(view, index, step)), **uv.target(venv.folder)}
        argv = uv.arguments(step, venv.python, inputs)
        outcome = build_process.run(self._inside(view, argv), env, self.report, cwd=str(self.place), lock=self.lock)
        self._check(outcome, f"{step.kind} of {wanted}")

    def _call(self, venv: _Venv, view: _View, index: int, step: ImageStep) -> None:
        name = step.args["name"]
        self.report(f"image: running {name}")
        runner = Path(__file__).with_name("run_build_function.py")
        call = self._input(index, step.content[0], step)
        argv = [str(venv.python), str(runner), runtime_path(), str(call), *view.sys_path]
        env = {**uv.plain_environment(), "PYTHONUNBUFFERED": "1", **venv.activate(self._variables(view, index, step))}
        timeout = step.args.get("timeout")
        outcome = build_process.run(
            self._inside(view, argv), env, self.report, cwd=str(self.place), lock=self.lock, timeout=timeout, keep=60
        )
        if outcome.timed_out:
            raise FunctionTimeoutError(
                f"image: run_function of {name} ran longer than its timeout of {timeout} s.",
                hint="Give it more: run_function(..., timeout=seconds).",
            )
        self._check(outcome, f"run_function of {name}")

    def _variables(self, view: _View, index: int, step: ImageStep) -> dict[str, str]:
        return {**view.env, **step.args.get("env", {}), **self.materials.secrets.get(index, {})}

    def _inside(self, view: _View, argv: list[str]) -> list[str]:
        """`argv`, run where the steps so far are visible."""
        if view.workdir:
            argv = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', view.workdir, *argv]
        return mounts.command(view.mounts, argv)

    def _input(self, index: int, name: str, step: ImageStep) -> Path:
        """A file with what the step reads, for as long as the build goes on."""
        folder = self.place / "inputs" / f"{index}-{name[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uv.INPUT_NAMES.get(step.kind, "requirements.txt")
        path.write_bytes(_material(self.materials.payloads, name, step))
        return path

    def _check(self, outcome: build_process.Outcome, what: str) -> None:
        if outcome.status == 0:
            return
        if any(sign in outcome.text for sign in _FULL):
            _raise_full(outcome.text)
        how = f"ended by signal {-outcome.status}" if outcome.status < 0 else f"exit status {outcome.status}"
        raise ImageBuildError(f"image: {what} failed ({how}):\n{outcome.text}")


_FULL = ("No space left on device", "Disk quota exceeded")


def _explain(error: OSError) -> NoReturn:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        _raise_full(str(error), error)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        raise PermissionDeniedError(
            f"The image cannot be built: {error.filename} cannot be written ({error.strerror}).",
            hint=f"Name a folder that you can write to in the environment variable {paths.CACHE_VARIABLE}.",
        ) from error
    raise ImageBuildError(f"The image cannot be built: {error}.") from error


def _raise_full(text: str, cause: OSError | None = None) -> NoReturn:
    # Which of the two it was, uv's messages do not always say.
    folders = [paths.cache_dir(), uv.cache_dir()]
    full = min(folders, key=lambda folder: shutil.disk_usage(folder).free if folder.exists() else sys.maxsize)
    free = shutil.disk_usage(full).free / 2**20
    raise ResourceExhaustedError(
        f"The disk is full: the image cannot be written below {full} ({free:.0f} MiB free).\n{text}",
        hint=f"Make room there, or name another folder in the environment variable "
        f"{paths.CACHE_VARIABLE if full == folders[0] else 'UV_CACHE_DIR'}.",
    ) from cause


def _material(known: Mapping[str, _T], name: str, step: ImageStep) -> _T:
    try:
        return known[name]
    except KeyError:
        raise InternalFailure(f"Image.{step.kind} reads local content that did not come with the image.") from None


def _own_minor() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _quiet(_: str) -> None:
    """Takes lines that tell the user nothing."""
