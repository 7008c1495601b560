"""Start of the agent's process. Its configuration, which holds the key, comes over stdin, never as an argument."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloudfn_agent import system
from cloudfn_agent.early import EarlyZygote, fork_zygote

if TYPE_CHECKING:
    from cloudfn_agent.config import Config
    from cloudfn_agent.warden import Warden


def main() -> None:
    """Fork the first zygote, read the configuration, serve, clean up.

    The configuration is one JSON object: `listener` and `owner` (descriptors; `owner` -1 for none), and the fields of
    `cloudfn_agent.agent.Config` with the key in hex.
    """
    # First of all: what is imported here is shared by both, and from here on they get ready side by side.
    early = fork_zygote(sys.path[0])
    asyncio = _import_asyncio()
    from cloudfn_agent.config import Config
    from cloudfn_agent.gpus import inventory
    from cloudfn_agent.warden import Warden

    system.name_process("cloudfn-agent")
    given: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    listener = socket.socket(fileno=given.pop("listener"))
    owner = given.pop("owner")
    config = Config(
        **{
            **given,
            "key": bytes.fromhex(given["key"]),
            "folder": Path(given["folder"]),
            "build": tuple(given.get("build", ())),
            "gpus": inventory(given["gpus"]) if given.get("gpus") else None,
            "storage": tuple(given.get("storage", ())),
            "cores": given.get("cores") or float(os.cpu_count() or 1),
            "memory": given.get("memory") or system.memory_mb(),
        }
    )
    gc.freeze()
    warden = Warden(*filter(None, (str(config.folder), config.shared)))
    side = socket.socket(fileno=owner) if owner >= 0 else None
    asyncio.run(serve(config, listener, side, warden, [early] if early else []))
    warden.close()


def _import_asyncio() -> Any:
    """asyncio without ssl, as in a Python that is built without: the agent speaks no TLS, and OpenSSL costs memory."""
    sys.modules["ssl"] = None  # type: ignore[assignment]  # the way to say that an import must fail
    import asyncio

    del sys.modules["ssl"]
    return asyncio


async def serve(
    config: Config, listener: socket.socket, owner: socket.socket | None, warden: Warden, early: list[EarlyZygote]
) -> None:
    import asyncio

    from cloudfn_agent.agent import Agent

    agent = Agent(config, listener, owner, warden, early)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, agent.shutdown, 10.0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the client's to handle
    agent.open()
    await agent.ended.wait()
    await agent.close()
    for process in early:
        process.dismiss()
