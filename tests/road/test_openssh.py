"""What the user's own OpenSSH client brings with it: processes, and a configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from cloudfn.exception import AuthError, InvalidError
from cloudfn.road import tunnel as roads
from cloudfn.road.openssh import OpenSSHTunnel
from cloudfn.road.paramiko_client import ParamikoRoad
from road.conftest import Place

PATIENCE = 60  # seconds for an event that must come


def test_kill_9_of_ssh(openssh: Place) -> None:
    cut = threading.Event()
    tunnel = openssh.road.open(openssh.destination(), lambda reason: cut.set())
    assert isinstance(tunnel, OpenSSHTunnel)
    family = psutil.Process(tunnel._process.pid)
    everybody = [family, *family.children(recursive=True)]
    assert tunnel.pid in [process.pid for process in everybody]
    os.kill(tunnel.pid, signal.SIGKILL)
    assert cut.wait(PATIENCE)
    assert psutil.wait_procs(everybody, PATIENCE)[1] == []
    tunnel.close()


_CALLER = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from cloudfn.road.destination import Destination
from cloudfn.road.identity import identity
from cloudfn.road.openssh import OpenSSHRoad
key, port, user, door = sys.argv[3:]
where = Destination("i-0123", key, "127.0.0.1", int(port), user, door=("127.0.0.1", int(door)))
tunnel = OpenSSHRoad(identity(Path(sys.argv[2]))).open(where)
print(tunnel.pid, flush=True)
sys.stdin.read()
"""


def test_kill_9_of_the_caller_ends_ssh(openssh: Place, state_dir: Path) -> None:
    words = [str(Path(__file__).parents[2]), str(state_dir), openssh.server.host_key, str(openssh.server.port)]
    words += [openssh.server.user, str(openssh.door.port)]
    with subprocess.Popen([sys.executable, "-c", _CALLER, *words], stdin=-1, stdout=-1) as caller:
        assert caller.stdout is not None
        ssh = psutil.Process(int(caller.stdout.readline()))
        caller.kill()
        assert psutil.wait_procs([ssh], PATIENCE)[1] == []


_HOSTILE = """
Host *
    StrictHostKeyChecking no
    UserKnownHostsFile /dev/null
    NoHostAuthenticationForLocalhost yes
    UpdateHostKeys yes
    ForwardAgent yes
    ForwardX11 yes
    User somebody
    Port 1
    IdentityFile /nowhere
    ControlMaster auto
    ControlPath {folder}/control
    PermitLocalCommand yes
    LocalCommand touch {folder}/ran
    LogLevel DEBUG3
"""


def test_the_users_configuration_cannot_weaken_the_road(
    openssh: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text(_HOSTILE.format(folder=tmp_path))
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", str(config))
    openssh.road.open(openssh.destination()).close()
    with pytest.raises(AuthError, match="does not have the key|not have the key"):
        openssh.road.open(openssh.destination(host_key=openssh.server.new_key("another")))
    assert not (tmp_path / "ran").exists() and not (tmp_path / "control").exists()


def test_the_users_configuration_may_lead_the_way(
    openssh: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A jump host, say. The pinned key makes it no matter who passes the bytes on."""
    config = tmp_path / "config"
    passing_on = (
        "import os, socket, sys, threading; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
        "up = lambda: [s.sendall(d) for d in iter(lambda: os.read(0, 65536), b'')]; "
        "threading.Thread(target=up, daemon=True).start(); "
        "[os.write(1, d) for d in iter(lambda: s.recv(65536), b'')]"
    )
    config.write_text(f'Host i-*\n    ProxyCommand {sys.executable} -c "{passing_on}" {openssh.server.port}\n')
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", str(config))
    openssh.road.open(openssh.destination(address="198.51.100.7", port=22)).close()


def test_a_configuration_that_ssh_does_not_take_is_said(
    openssh: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("Nonsense yes\n")
    monkeypatch.setenv("CLOUDFN_SSH_CONFIG", str(config))
    with pytest.raises(InvalidError, match="ssh does not work here.*nonsense"):
        openssh.road.open(openssh.destination(), patience=PATIENCE)


def test_paramiko_is_taken_where_there_is_no_ssh(openssh: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(roads.choose(openssh.identity)) is type(openssh.road)
    monkeypatch.setenv("PATH", "/nowhere")
    assert isinstance(roads.choose(openssh.identity), ParamikoRoad)
