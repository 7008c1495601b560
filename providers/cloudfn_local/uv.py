"""How uv is called: which arguments a step means, and what of the caller's environment it sees."""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Sequence

from cloudfn.exception import ImageBuildError
from cloudfn.spec import ImageStep

INSTALLS = (
    "pip_install",
    "uv_pip_install",
    "pip_install_from_requirements",
    "pip_install_from_pyproject",
    "uv_sync",
)

INPUT_NAMES = {"pip_install_from_pyproject": "pyproject.toml", "run_function": "call.pickle"}
"""What the file that a step reads has to be called; requirements.txt where nothing is said."""

# What a build sees of the calling environment: how to reach the network, where the user's own things are. Nothing
# that would change what is installed, and no credentials meant for something else.
_KEPT = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "NETRC"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "HF_HOME", "HF_HUB_CACHE", "TORCH_HOME"),
}

# Where uv's caches and indexes are is the user's to say; which Python and which environment is ours.
_UV_DROPPED = (
    *("UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_BREAK_SYSTEM_PACKAGES", "UV_PROJECT", "UV_PROJECT_ENVIRONMENT"),
    *("UV_WORKING_DIRECTORY", "UV_WORKING_DIR", "UV_ENV_FILE", "UV_NO_SYNC", "UV_FROZEN", "UV_LOCKED"),
)


def program() -> str:
    """Path of uv. Raises `ImageBuildError` where its package came without it."""
    try:
        import uv
    except ModuleNotFoundError:  # on a machine cloudfn is no installed package, and uv a program of the image
        found = shutil.which("uv")
        if found is None:
            raise ImageBuildError("uv, which builds images, is not on this machine.") from None
        return found
    try:
        return str(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise ImageBuildError(f"uv, which builds images, is not there: {error}.", hint="pip install uv") from error


def is_here() -> bool:
    """Whether `program` finds it."""
    try:
        program()
    except ImageBuildError:
        return False
    return True


@functools.cache
def version() -> str:
    """uv's own version, "0.5.1"."""
    return _ask("--version").split()[1]


@functools.cache
def cache_dir() -> Path:
    """Where uv keeps what it has downloaded."""
    return Path(_ask("cache", "dir"))


def _ask(*arguments: str) -> str:
    argv = [program(), *arguments]
    return subprocess.run(
        argv, env=environment(), capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()


def plain_environment() -> dict[str, str]:
    """Variables for user code in a build step."""
    return {name: value for name, value in os.environ.items() if name in _KEPT}


def environment() -> dict[str, str]:
    """Variables for uv itself."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("UV_") and name not in _UV_DROPPED}
    # For git+ssh requirements.
    agent = {"SSH_AUTH_SOCK": os.environ["SSH_AUTH_SOCK"]} if "SSH_AUTH_SOCK" in os.environ else {}
    return {**plain_environment(), **agent, **kept, "UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}


def target(venv: Path) -> dict[str, str]:
    """Variables that make uv install into `venv` and nowhere else."""
    return {"VIRTUAL_ENV": str(venv), "UV_PROJECT_ENVIRONMENT": str(venv)}


def arguments(step: ImageStep, python: Path, inputs: Sequence[Path]) -> list[str]:
    """The command of an install step.

    Args:
        python: the venv's interpreter.
        inputs: files with what the step reads, in the order of `step.content`.
    """
    if step.kind == "uv_sync":
        return _sync(step, python, inputs)
    args = step.args
    argv = [program(), "pip", "install", "--color", "never", "--python", str(python)]
    for option in ("find_links", "index_url", "extra_index_url"):
        if option in args:
            argv += [f"--{option.replace('_', '-')}", args[option]]
    if "extra_index_url" in args and step.kind != "uv_pip_install":
        argv += ["--index-strategy", "unsafe-best-match"]  # pip's way: the best version of all indexes
    if args.get("pre"):
        argv += ["--prerelease", "allow"]
    argv += shlex.split(args.get("extra_options", ""))
    for path in inputs:
        argv += ["--requirements", str(path)]
    for extra in args.get("extras", ()):
        argv += ["--extra", extra]
    return [*argv, *(["--", *args["packages"]] if "packages" in args else [])]


def _sync(step: ImageStep, python: Path, inputs: Sequence[Path]) -> list[str]:
    project, lock = inputs
    folder = project.parent
    project.rename(folder / "pyproject.toml")
    locked = lock.stat().st_size > 0  # an empty one stands for none
    if locked:
        lock.rename(folder / "uv.lock")
    argv = [program(), "sync", "--color", "never", "--project", str(folder), "--python", str(python)]
    # Inexact: what earlier steps have installed stays.
    argv += [
        "--no-install-workspace",
        "--inexact",
        *(["--frozen"] if locked and not step.args.get("not_frozen") else []),
    ]
    for option in ("groups", "extras"):
        for name in step.args.get(option, ()):
            argv += [f"--{option[:-1]}", name]
    return argv + shlex.split(step.args.get("extra_options", ""))
