"""Start of the agent on a machine: what `cloudfn_boot.bootstrap` becomes. All it must know comes over stdin."""

from __future__ import annotations

import asyncio
import base64
import gc
import grp
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cloudfn_boot import login
from cloudfn_boot.bootstrap import METADATA, RUN, Boot, Cloud, Metadata, give_up, uptime

from cloudfn import __version__
from cloudfn_agent import confine, gpus, system, users
from cloudfn_agent.agent import Agent
from cloudfn_agent.config import Config
from cloudfn_agent.machine import MachineLife, Terms, open_keys_socket
from cloudfn_agent.warden import Warden

PORT = 7060
STATE = Path("/var/lib/cloudfn")
RESUME_WINDOW = 120.0  # seconds that a session waits for its client: longer than a network is usually cut
STOP_PATIENCE = 120.0  # seconds for what runs, when somebody switches the machine off


def main() -> None:
    """Serve until the machine goes off."""
    given: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    system.name_process("cloudfn-agent")
    boot = Boot(given["config"])
    boot.stages, boot.stage = given["stages"], "agent"
    try:
        listener, config, warden = prepare(given)
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for this machine
        give_up(boot, f"{type(error).__name__}: {error}")
        sys.exit(1)
    asyncio.run(serve(given, config, listener, warden))
    warden.close()


def prepare(given: dict[str, Any]) -> tuple[socket.socket, Config, Warden]:
    """Everything but serving; the slow parts side by side. Raises whatever is wrong with this machine."""
    own = Path(tempfile.mkdtemp(prefix="agent-", dir=RUN))
    warden = Warden(str(own))  # forks, so it comes before any thread
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", PORT))
    listener.listen(512)
    for folder in ("", "images", "store", "homes", "python"):
        (STATE / folder).mkdir(exist_ok=True)
        (STATE / folder).chmod(0o711)
    with ThreadPoolExecutor(2) as side:
        logins = side.submit(login.set_up, RUN, bool(given["config"].get("shell")))
        inventory = side.submit(gpus.look)
        users.close_metadata()
        build = _build_command()
        logins.result()
        found = inventory.result()
    runtime = next(path for path in sys.path if Path(path, "cloudfn_agent").is_dir())
    config = Config(
        address=f"tcp:127.0.0.1:{PORT}",
        key=bytes.fromhex(given["hello"]["key"]),
        app=str(given["hello"].get("app", "")),
        folder=own,
        runtime=runtime,
        shared="",
        cores=float(os.cpu_count() or 1),
        memory=system.memory_mb(),
        resume_window=RESUME_WINDOW,
        idle_exit=0.0,
        machine=True,
        store=str(STATE / "store"),
        homes=str(STATE / "homes"),
        gpus=found,
        build=build,
    )
    return listener, config, warden


def _build_command() -> tuple[str, ...]:
    """Builds images, as a user who can reach nothing else."""
    settings = {
        "CLOUDFN_CACHE_DIR": str(STATE / "images"),
        "UV_CACHE_DIR": str(STATE / "images" / "uv"),
        "UV_PYTHON_INSTALL_DIR": str(STATE / "python"),
        "CLOUDFN_TOOLS_DIR": str(STATE / "images" / "tools"),
    }
    for folder in ("images", "python"):
        os.chown(STATE / folder, confine.BUILDER, confine.BUILDER)
        (STATE / folder).chmod(0o755)
    code = "import sys; sys.path[:0] = {!r}; from cloudfn_local.build_command import main; main()"
    command = [sys.executable, "-I", "-S", "-c", code.format([path for path in sys.path if "/cloudfn/agent/" in path])]
    variables = [f"{name}={value}" for name, value in settings.items()]
    wrapped = users.wrapped(confine.BUILDER, 1, STATE / "homes" / "builder", ["/usr/bin/env", *variables, *command])
    return tuple(wrapped)


async def serve(given: dict[str, Any], config: Config, listener: socket.socket, warden: Warden) -> None:
    """The agent, and the machine's life around it."""
    metadata = Metadata(given["config"].get("endpoints", {}).get("metadata", METADATA))
    cloud = Cloud(given["config"], metadata)
    agent = Agent(config, listener, None, warden, [])
    hello = given["hello"]
    stages = {**given["stages"], "agent": round(uptime() - given["since"], 3)}
    terms = Terms(
        heartbeat=float(hello.get("heartbeat", Terms.heartbeat)),
        idle_timeout=float(hello.get("idle_timeout", Terms.idle_timeout)),
        deadman=float(given["config"].get("deadman", Terms.deadman)),
        drain_limit=float(hello.get("drain_limit", Terms.drain_limit)),
        boot=stages,
        host_key=fingerprint((RUN / "ssh_host_ed25519_key.pub").read_text()),
        version=__version__,
    )
    known: list[str] = []

    def note_keys(keys: Any) -> None:
        if list(keys) != known:
            known[:] = list(keys)
            login.write_keys(RUN, known)

    note_keys([str(key) for key in hello.get("ssh_keys", ())])
    life = MachineLife(agent, cloud, metadata, terms, on_keys=note_keys, alive=RUN / "alive", power_off=_power_off)
    server = await open_keys_socket(RUN / login.SOCKET, grp.getgrnam(login.USER).gr_gid, life.beat)
    loop = asyncio.get_running_loop()
    stopping: list[asyncio.Task[None]] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: stopping.append(loop.create_task(life.stop(STOP_PATIENCE))))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    agent.open()
    print(f"ready after {uptime():.1f} s: {json.dumps(stages)}", file=sys.stderr, flush=True)
    await life.run()
    server.close()
    agent.shutdown(0.0)
    await agent.ended.wait()
    await agent.close()


def fingerprint(public: str) -> str:
    """As OpenSSH writes it ("SHA256:...")."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def _power_off() -> None:
    subprocess.run(["systemctl", "poweroff", "--no-block"], check=False)
