"""`cloudfn host install` on a machine with systemd: the host starts at boot, before anybody has logged in, and again
whenever it ends."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest
from cloudfn_local import uv

from machine_room import janitor
from machine_room.machine import Machine
from machine_room.network import Network
from machine_room.room import root

pytestmark = [pytest.mark.machine, pytest.mark.slow, pytest.mark.xdist_group("machine-room")]

ROOT = Path(__file__).resolve().parents[2]
APP = """
import time
from pathlib import Path

import cloudfn

app = cloudfn.App("desk")


@app.function(schedule=cloudfn.Period(seconds=1))
def tick():
    with open("/home/ann/ticks", "a") as file:
        file.write("x")


@app.function()
def wait(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.05)
    return Path(path).read_text()
"""
SPAWN = "import cloudfn; print(cloudfn.Function.from_name('desk', 'wait').spawn('/home/ann/go').object_id)"
RESULT = "import sys, cloudfn; print(cloudfn.FunctionCall.from_id(sys.argv[1]).get(timeout=60))"
# The room's machines lack the PAM module that sets this for the units of users.
_DROP_IN = "/etc/systemd/system/user@.service.d/runtime-dir.conf"
_RUNTIME_DIR = "[Service]\nEnvironment=XDG_RUNTIME_DIR=/run/user/%i\n"


class Desk(Machine):
    """A machine that somebody called ann works at, with cloudfn installed. Its disk outlives a boot."""

    def _mount(self, disk_mib: int) -> None:
        if not self.disk.exists():
            super()._mount(disk_mib)

    def reboot(self) -> None:
        self.power_off()
        self.ended.clear()
        self.boot({})

    def ann(self, *command: str) -> str:
        """What a command of hers prints."""
        environment = (
            "HOME=/home/ann",
            "PATH=/usr/bin:/bin",
            "XDG_RUNTIME_DIR=/run/user/1000",
            "PYTHONPATH=/opt/cloudfn",
        )
        return self.run(
            "runuser", "-u", "ann", "--", "env", "-i", "-C", "/home/ann", *environment, *command, seconds=120
        )

    def cloudfn(self, *command: str) -> str:
        return self.ann("python3", "-m", "cloudfn", *command)

    def ticks(self) -> int:
        path = self.disk / "home/ann/ticks"
        return path.stat().st_size if path.exists() else 0

    def host(self) -> str:
        """The process that systemd has started."""
        return self.ann("systemctl", "--user", "show", "--property=MainPID", "--value", "cloudfn-host").strip()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    janitor.sweep()
    folder, network = janitor.claim(), Network()
    made = Desk("desk", root(), folder / "desk", network.attach(), lambda: None)
    try:
        made.boot({"/etc/cloud/cloud-init.disabled": "", _DROP_IN: _RUNTIME_DIR, "/home/app.py": APP})
        packages = tmp_path / "packages"
        install = [uv.program(), "pip", "install", "--quiet", "--python-version", "3.11", "--target", str(packages)]
        subprocess.run([*install, str(ROOT)], check=True)
        shutil.copytree(packages, made.disk / "opt/cloudfn")
        made.run("useradd", "--create-home", "--uid", "1000", "ann")
        made.run("cp", "/home/app.py", "/home/ann/")
        with contextlib.suppress(subprocess.CalledProcessError):  # "degraded", for want of a host key of sshd's
            made.run("systemctl", "is-system-running", "--wait")
        made.run("loginctl", "enable-linger", "ann")
        yield made
    finally:
        made.close()
        network.close()
        janitor.give_back(folder)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_the_host_goes_on_after_a_reboot_and_after_a_kill(desk: Desk) -> None:
    until(lambda: "1000" in desk.run("ls", "/run/user"), "ann has no manager of units")
    assert "2 functions" in desk.cloudfn("deploy", "app.py")
    said = desk.cloudfn("host", "install")
    assert "ran systemctl --user enable --now cloudfn-host.service" in said
    first = desk.host()
    assert first != "0" and "desk version 1" in desk.cloudfn("host", "status")
    call = desk.ann("python3", "-c", SPAWN).strip()
    desk.reboot()
    ticks = desk.ticks()
    until(lambda: desk.ticks() > ticks + 1, "the schedule does not go on by itself")
    desk.run("sh", "-c", "echo gone and back > /home/ann/go")
    assert desk.ann("python3", "-c", RESULT, call).strip() == "gone and back"
    second = desk.host()
    desk.run("kill", "-9", second)
    ticks = desk.ticks()
    until(lambda: desk.ticks() > ticks + 1, "systemd does not start it again")
    assert desk.host() not in ("0", second)
