"""An attacker in a worker of a machine: user code that does its worst, against everything that is not its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Iterator

import pytest

from agent.confined import METADATA, Place, load, register
from agent.machine_agent import MachineAgent, lease
from agent.processes import wait_until

# One at a time: two agents of one machine would give out the same users.
pytestmark = [pytest.mark.machine, pytest.mark.xdist_group("confinement")]

VICTIM = """
import os
import cloudfn

app = cloudfn.App("victim")


@app.function(max_containers=2)
def serve(word):
    with open(os.path.join(os.environ["TMPDIR"], "note"), "w") as file:
        file.write("private")
    return os.getpid(), os.environ["HOME"]
"""

ATTACKER = '''
import ctypes
import errno
import os
import signal
import socket
import subprocess
import urllib.request

import cloudfn

app = cloudfn.App("attacker")
IMPORTED_AS = open("/proc/self/status").read()


@app.function(max_containers=2)
def attempt(what, target=""):
    """What an attempt gave, or the error that stopped it."""
    try:
        return "got", ATTEMPTS[what](target)
    except Exception as error:
        return "stopped", f"{type(error).__name__}: {error}"


def ptrace(pid):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, int(pid), 0, 0):
        raise OSError(ctypes.get_errno(), "ptrace")


def leave_a_daemon(_):
    if not os.fork():
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.execvp("sleep", ["sleep", "600"])
    return os.getpid()


def connect(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)


def mount(_):
    if ctypes.CDLL(None, use_errno=True).mount(b"none", b"/mnt", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def own_device(_):
    with open("/dev/stdout", "w") as out:
        print("through /dev/stdout", file=out)


ATTEMPTS = {
    "identity": lambda _: (os.getresuid(), os.getresgid(), os.getgroups(), open("/proc/self/status").read()),
    "outer uid": lambda _: os.stat(f"/proc/{os.getpid()}").st_uid,
    "zygote": lambda _: IMPORTED_AS,
    "pid": lambda _: os.getpid(),
    "fetch": lambda url: urllib.request.urlopen(url, timeout=10).read(),
    "environ": lambda _: dict(os.environ),
    "read": lambda path: open(path, "rb").read(100),
    "write": lambda path: open(path, "ab").close(),
    "list": os.listdir,
    "remove": os.unlink,
    "kill": lambda pid: os.kill(int(pid), 0),
    "ptrace": ptrace,
    "become root": lambda _: os.setuid(0),
    "become another": lambda _: os.setuid(4000),
    "sudo": lambda _: subprocess.run(["su", "-c", "true"], check=True, capture_output=True),
    "connect": connect,
    "mount": mount,
    "daemon": leave_a_daemon,
    "stdout": own_device,
}
'''


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


@pytest.fixture(scope="module")
def agent(place: Place) -> Iterator[MachineAgent]:
    closed = place.run(
        f"import sys; sys.path.insert(0, {str(place.runtime / 'runtime')!r}); "
        "from cloudfn_agent.users import close_metadata; close_metadata(); close_metadata()"
    )
    assert closed.returncode == 0, closed.stderr
    made = place.start()
    yield made
    made.close()
    assert made.process.returncode == 0, made.log()


class Attack:
    """A worker that tries things, and what it must not reach."""

    def __init__(self, agent: MachineAgent, folder: Path) -> None:
        self.agent = agent
        self.control = agent.control("bad", "attacker")
        register(agent, self.control, load(folder / "attacking.py", ATTACKER), "attempt")
        self.held = lease(agent, self.control, "attempt")
        victim = agent.control("good", "victim")
        self.victim_code = register(agent, victim, load(folder / "victims.py", VICTIM), "serve", PASSWORD="hunter2")
        self.victim_held = lease(agent, victim, "serve")
        self.victim_pid, home = self.victim_held.call("x")
        self.victim_home = Path(home)
        self.victim_control = victim

    def gets(self, what: str, target: object = "") -> object:
        how, result = self.held.call(what, str(target))
        assert how == "got", result
        return result

    def is_stopped(self, what: str, target: object = "") -> str:
        how, result = self.held.call(what, str(target))
        assert how == "stopped", f"{what} {target} gave {result!r}"
        return str(result)


@pytest.fixture(scope="module")
def attack(agent: MachineAgent, place: Place) -> Attack:
    return Attack(agent, place.folder)


def test_it_is_nobody_with_no_rights(attack: Attack) -> None:
    uids, _, groups, status = attack.gets("identity")  # type: ignore[misc]
    assert uids[0] == uids[1] == uids[2] != 0 and groups == []
    rights = dict(line.split(":\t") for line in status.splitlines() if line.startswith(("Cap", "NoNewPrivs")))
    assert int(rights["CapEff"], 16) == int(rights["CapPrm"], 16) == int(rights["CapInh"], 16) == 0
    assert rights["NoNewPrivs"] == "1"
    for what in ("become root", "become another", "sudo", "mount"):
        attack.is_stopped(what)


def test_not_even_its_imports_ran_with_rights_that_matter(attack: Attack) -> None:
    status = str(attack.gets("zygote"))
    rights = next(line for line in status.splitlines() if line.startswith("CapBnd"))
    assert int(rights.split()[1], 16) == 1 << 5 | 1 << 6 | 1 << 7  # kill, setgid, setuid; in its own namespace alone


def test_each_worker_has_a_user_of_its_own(attack: Attack) -> None:
    other = lease(attack.agent, attack.control, "attempt")
    mine, its = attack.gets("pid"), other.call("pid")[1]
    users = {Path(f"/proc/{pid}").stat().st_uid for pid in (mine, its, attack.victim_pid)}
    assert len(users) == 3 and min(users) >= 1_900_000_000
    for what in ("kill", "ptrace"):
        attack.is_stopped(what, its)
    attack.is_stopped("read", f"/proc/{its}/environ")
    other.release()


def test_the_metadata_service_is_closed_to_it_and_open_to_root(attack: Attack, place: Place) -> None:
    fetch = f"import urllib.request; print(urllib.request.urlopen('http://{METADATA}/').read())"
    assert "credentials" in place.run(fetch).stdout
    assert "Permission denied" in attack.is_stopped("fetch", f"http://{METADATA}/latest/meta-data/")


def test_other_functions_are_out_of_reach(attack: Attack) -> None:
    pid, home = attack.victim_pid, attack.victim_home
    for target in (f"/proc/{pid}/environ", f"/proc/{pid}/mem", f"/proc/{pid}/fd/1", home / "tmp" / "note"):
        attack.is_stopped("read", target)
    for target in (home, home / "tmp", home.parent, attack.victim_code.parent, attack.agent.folder / "store" / "files"):
        attack.is_stopped("list", target)
    attack.is_stopped("kill", pid)
    attack.is_stopped("ptrace", pid)
    attack.is_stopped("write", attack.victim_code / "victims.py")
    attack.is_stopped("remove", attack.victim_code / "victims.py")
    assert attack.victim_held.call("still well")[0] == pid


def test_the_agent_and_its_keys_are_out_of_reach(attack: Attack) -> None:
    pid = attack.agent.process.pid
    (own,) = attack.agent.folder.glob("agent-*")
    for what, target in (
        ("list", own),
        ("kill", pid),
        ("ptrace", pid),
        ("read", f"/proc/{pid}/environ"),
        ("read", f"/proc/{pid}/mem"),
        ("list", f"/proc/{pid}/fd"),
        ("read", "/etc/shadow"),
        ("write", attack.agent.folder / "agent" / "runtime" / "cloudfn" / "__init__.py"),
    ):
        attack.is_stopped(what, target)
    environ = attack.gets("environ")
    text = repr(environ)
    assert attack.agent.key.hex() not in text and "hunter2" not in text


def test_a_socket_of_roots_is_out_of_reach(attack: Attack, place: Place) -> None:
    """As podman's and docker's are: whoever may connect is root."""
    path = place.folder / "podman.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()
        assert "Permission" in attack.is_stopped("connect", path)


def test_what_it_leaves_behind_ends_with_it(attack: Attack) -> None:
    other = lease(attack.agent, attack.control, "attempt")
    worker = other.call("daemon")[1]
    user = Path(f"/proc/{worker}").stat().st_uid

    def left() -> list[str]:
        return [p.name for p in Path("/proc").iterdir() if p.name.isdigit() and _user(p) == user]

    print(Path(f"/proc/{worker}/cgroup").read_text())
    assert len(left()) == 2
    os.kill(worker, 9)
    wait_until(lambda: not left(), "the end of everything that ran as that user")


def _user(process: Path) -> int:
    """-1 for what is gone, and for what runs in a container of this machine, where users are counted anew."""
    try:
        if (process / "ns" / "pid").readlink() != Path("/proc/self/ns/pid").readlink():
            return -1
        return process.stat().st_uid
    except OSError:
        return -1


def test_it_can_do_what_any_program_can(attack: Attack) -> None:
    attack.gets("stdout")
    attack.control.read_log(b"through /dev/stdout\n")
    environ = attack.gets("environ")
    assert isinstance(environ, dict)
    attack.gets("write", Path(environ["TMPDIR"]) / "file")
    attack.gets("write", Path(environ["HOME"]) / ".cache-of-something")
    assert "USER" not in environ
