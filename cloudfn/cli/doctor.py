"""`cloudfn doctor`: looks at this machine only; nothing is changed and nothing goes over the network."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Callable, Sequence

import click

from cloudfn.exception import UnimplementedError

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LOW_DISK = 5 << 30
"""Bytes; an image with a deep learning framework takes about as much."""
FAST_ENOUGH = 10.0
"""Seconds that a program may take to tell its version."""


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked for.
        state: "ok", "note" (something works less well without it) or "missing" (needed to run anything here).
        detail: what was found.
        todo: what to do, or "".
    """

    name: str
    state: str
    detail: str
    todo: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list on stdout.")
@click.option("--live", is_flag=True, help="Also try a real cloud account (not there yet).")
def doctor(as_json: bool, live: bool) -> None:
    """Say what this machine has and lacks, and what to do. Exit code 1 when apps cannot run here."""
    if live:
        raise UnimplementedError("`cloudfn doctor --live` is not there yet.")
    checks = examine()
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks]))
    else:
        _print(checks)
    if any(check.state == "missing" for check in checks):
        raise click.exceptions.Exit(1)


def examine() -> list[Check]:
    """All checks, in the order in which they are shown."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda check: check(), CHECKS))


def _print(checks: list[Check]) -> None:
    width = max(len(check.name) for check in checks)
    marks = {"ok": ("ok", "green"), "note": ("--", "yellow"), "missing": ("!!", "red")}
    for check in checks:
        mark, colour = marks[check.state]
        click.echo(f"{click.style(mark, fg=colour)}  {check.name.ljust(width)}  {check.detail}")
        if check.todo:
            click.echo(f"    {' ' * width}  -> {check.todo}")


def _system() -> Check:
    found = f"{platform.system()} {platform.release()}, {os.cpu_count()} cores"
    if sys.platform in ("linux", "darwin"):
        return Check("system", "ok", found)
    return Check("system", "missing", found, "cloudfn runs on Linux and macOS; on Windows, inside WSL.")


def _python() -> Check:
    with ThreadPoolExecutor(len(PYTHONS)) as pool:
        works = list(pool.map(_python_works, PYTHONS))
    found = [version for version, good in zip(PYTHONS, works, strict=True) if good]
    detail = f"{platform.python_version()} runs this; on PATH: {', '.join(found) or 'no other'}"
    todo = "" if len(found) == len(PYTHONS) else "Images of other versions: uv downloads them, or install them."
    return Check("python", "ok", detail, todo)


def _python_works(version: str) -> bool:
    if version == ".".join(platform.python_version_tuple()[:2]):
        return True
    # A name on PATH is not enough: version managers put one there for Pythons that are not active.
    return _said([f"python{version}", "-c", "print('yes')"]) == "yes"


def _uv() -> Check:
    try:
        from uv import find_uv_bin

        return Check("uv", "ok", _said([find_uv_bin(), "--version"]) or "found, but does not run")
    except (ImportError, FileNotFoundError):
        return Check("uv", "missing", "not found", "It builds images: pip install uv")


def _bubblewrap() -> Check:
    if sys.platform != "linux":
        return Check("bubblewrap", "note", "Linux only", "Image.add_local_dir to an absolute path needs it.")
    version = _said(["bwrap", "--version"])
    if version and not _said(["bwrap", "--ro-bind", "/", "/", "echo", "works"]):
        return Check("bubblewrap", "note", f"{version}, but it may not make namespaces", "Allow user namespaces.")
    return _program("bubblewrap", version, "apt-get install bubblewrap (for Image.add_local_dir and the like)")


def _podman() -> Check:
    return _program("podman", _said(["podman", "--version"]), "apt-get install podman (for container images)")


def _ssh() -> Check:
    return _program("ssh", _said(["ssh", "-V"]), "apt-get install openssh-client (for machines of a cloud)")


def _pulumi() -> Check:
    return _program("pulumi", _said(["pulumi", "version"]), "https://www.pulumi.com/docs/install (for a cloud account)")


def _gpu() -> Check:
    found = _said(["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"])
    if found:
        driver = _said(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]).split("\n")[0]
        return Check("gpu", "ok", f"{'; '.join(found.splitlines())} (driver {driver})")
    return Check("gpu", "note", "none", "Functions that ask for a GPU run on CPU here.")


def _cgroup() -> Check:
    todo = "Hard memory and CPU limits need a cgroup that this user may write to; without one they are not enforced."
    root = Path("/sys/fs/cgroup")
    if not root.is_dir():
        return Check("cgroup", "note", "none", todo)
    version = "v2" if (root / "cgroup.controllers").exists() else "v1"
    folder = root / _own_cgroup(version).lstrip("/") if version == "v2" else root / "memory" / _own_cgroup("v1")
    writable = os.access(folder, os.W_OK)
    return Check(
        "cgroup",
        "ok" if writable else "note",
        f"{version}, {'' if writable else 'not '}writable",
        "" if writable else todo,
    )


def _own_cgroup(version: str) -> str:
    """Path of this process's group in the unified hierarchy, or in that of the memory controller."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if (version == "v2" and not controllers) or "memory" in controllers.split(","):
            return path.lstrip("/")
    return ""


def _memfd() -> Check:
    try:
        os.close(os.memfd_create("cloudfn-doctor"))
    except (AttributeError, OSError):
        return Check("memfd", "note", "none", "Large arguments go through files instead.")
    return Check("memfd", "ok", "large arguments go through shared memory")


def _cache() -> Check:
    return _folder("cache", "CLOUDFN_CACHE_DIR", "user_cache_dir", private=False)


def _state() -> Check:
    return _folder("state", "CLOUDFN_STATE_DIR", "user_state_dir", private=True)


def _folder(name: str, variable: str, kind: str, private: bool) -> Check:
    """Of where runs, secrets and images are kept: may this user write there, may others read, is there room."""
    import platformdirs

    path = Path(os.environ.get(variable) or getattr(platformdirs, kind)("cloudfn")).expanduser().absolute()
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Check(name, "missing", f"{path}: not writable", f"Name another folder in {variable}.")
    if private and there == path and path.stat().st_mode & 0o077:
        return Check(name, "note", f"{path}: others may look into it", f"chmod 700 {path}")
    free = shutil.disk_usage(there).free
    todo = "" if free >= LOW_DISK else f"Images may not fit. Make room, or name another folder in {variable}."
    return Check(name, "note" if todo else "ok", f"{path}, {free / (1 << 30):.0f} GiB free", todo)


def _aws() -> Check:
    home = Path.home() / ".aws"
    places = [
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials",
        os.environ.get("AWS_CONFIG_FILE") or home / "config",
    ]
    return _credentials(
        "aws", ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"), places, "aws configure"
    )


def _gcp() -> Check:
    folder = Path(os.environ.get("CLOUDSDK_CONFIG") or Path.home() / ".config" / "gcloud")
    places = [folder / "application_default_credentials.json"]
    return _credentials("gcp", ("GOOGLE_APPLICATION_CREDENTIALS",), places, "gcloud auth application-default login")


def _credentials(name: str, variables: tuple[str, ...], places: Sequence[str | Path], todo: str) -> Check:
    """Whether there are credentials; not what they are, nor whether they are good."""
    found = [f"${variable}" for variable in variables if os.environ.get(variable)]
    found += [str(place) for place in places if Path(place).is_file()]
    name += " credentials"
    return Check(name, "ok", ", ".join(found)) if found else Check(name, "note", "none", f"{todo} (not needed here)")


def _program(name: str, version: str, todo: str) -> Check:
    return Check(name, "ok", version.splitlines()[0]) if version else Check(name, "note", "not found", todo)


def _said(command: list[str]) -> str:
    """What a program prints; "" when it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=FAST_ENOUGH, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout.strip() or done.stderr.strip()) if done.returncode == 0 else ""


CHECKS: tuple[Callable[[], Check], ...] = (
    _system,
    _python,
    _uv,
    _cache,
    _state,
    _memfd,
    _cgroup,
    _bubblewrap,
    _podman,
    _gpu,
    _ssh,
    _pulumi,
    _aws,
    _gcp,
)
