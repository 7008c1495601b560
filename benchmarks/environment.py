"""The environment in which everything is measured: made once, pinned, the same Python for all systems."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import tunnel

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-bench"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "benchmarks" / "requirements.txt"
PACKAGES = ("celery", "cloudfn", "distributed", "joblib", "lithops", "loky", "numpy", "parsl", "ray")


def ensure() -> None:
    """Make `.venv-bench` from the pinned requirements if it is missing or older than they are."""
    done = VENV / "requirements.done"
    wanted = REQUIREMENTS.read_text()
    if done.exists() and done.read_text() == wanted:
        return
    print("benchmarks: making .venv-bench (once)", flush=True)
    uv = find_uv()
    run(uv, "venv", "--quiet", "--clear", "--python", "3.11", str(VENV))
    run(uv, "pip", "install", "--quiet", "--python", str(PYTHON), "--require-hashes", "-r", str(REQUIREMENTS))
    own = ("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    run(uv, "pip", "install", "--quiet", "--python", str(PYTHON), *own)
    done.write_text(wanted)


def ensure_ssh() -> None:
    """Install OpenSSH's server and client where they are missing and we may; else say what is missing."""
    if tunnel.missing():
        install("openssh-server", "openssh-client")
    if missing := tunnel.missing():
        print(f"benchmarks: no figures through SSH: {', '.join(missing)} missing", flush=True)


def ensure_redis() -> None:
    """The same for Redis, which Celery needs."""
    if not shutil.which("redis-server"):
        install("redis-server")
    if not shutil.which("redis-server"):
        print("benchmarks: no figures of Celery: redis-server is missing", flush=True)


def install(*packages: str) -> None:
    """By apt-get, where there is one and we may."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print(f"benchmarks: installing {', '.join(packages)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (("update", "-qq"), ("install", "-qq", "-y", "--no-install-recommends", *packages)):
        subprocess.run(["apt-get", *command], env=quiet, stdout=subprocess.DEVNULL)


def find_uv() -> str:
    try:
        from uv import find_uv_bin
    except ImportError:
        return "uv"
    return str(find_uv_bin())


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"benchmarks: {' '.join(command[1:3])} failed:\n{done.stdout.strip()}")


def variables() -> dict[str, str]:
    """The environment of every process under test; its workers find this package by it, nobody calls home, and
    no start compiles what an earlier one has compiled."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # Some systems start their workers as "python" or by a script of their own.
    path = os.pathsep.join((str(VENV / "bin"), os.environ.get("PATH", os.defpath)))
    return {**kept, "PATH": path, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}


def describe() -> dict[str, Any]:
    """The machine and the versions, without names and paths."""
    code = (
        "import importlib.metadata as m, json, platform, sys;"
        f"print(json.dumps([platform.python_version(), {{p: m.version(p) for p in {PACKAGES!r}}}]))"
    )
    python, versions = json.loads(subprocess.check_output([PYTHON, "-c", code], text=True))
    return {
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "processor": processor(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release().split('-')[0]}",
            "python": python,
        },
        "versions": versions,
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
