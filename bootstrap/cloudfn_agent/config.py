"""What an agent is started with."""

from __future__ import annotations

from pathlib import Path

from cloudfn.record import dataclass
from cloudfn_agent.gpus import Inventory


@dataclass(frozen=True)
class Config:
    """What the agent is started with.

    Attributes:
        address: of the door, for workers that are clients.
        key: the environment's key.
        app: name of the app, for messages.
        folder: the agent's own folder, removed at its end.
        runtime: see `House`.
        shared: folder in shared memory (`cloudfn.shared`), removed at the end; "" for none.
        cores, memory: what the reservations of workers are counted against (cores, MiB).
        resume_window: seconds that a lease, or a session, waits for a client whose control stream was cut.
        idle_exit: seconds without any client after which the agent leaves; 0 for never.
        cancel_patience: seconds that user code may take to heed a cancellation before its worker is killed.
        exit_patience: seconds that `@exit` hooks may take, as in Modal.
        owner_grace: seconds for `@exit` hooks when the process that started us has died.
        machine: it serves a machine: many apps, each in a session of its own, and it outlives all of them.
        store: folder for what clients upload, "" where they share this machine's disk.
        homes: folder for homes of users, one for each zygote, which then runs as that user; "": all run as we do.
        gpus: what is given out to workers; None: GPUs are left to them.
        build: command that makes images, see `cloudfn_agent.builds`; () for none.
        storage: command of this machine's storage service, see `cloudfn_agent.storage`; () for none.
    """

    address: str
    key: bytes
    app: str
    folder: Path
    runtime: str
    shared: str
    cores: float
    memory: int
    resume_window: float = 10.0
    idle_exit: float = 600.0
    cancel_patience: float = 10.0
    exit_patience: float = 30.0
    owner_grace: float = 5.0
    machine: bool = False
    store: str = ""
    build: tuple[str, ...] = ()
    storage: tuple[str, ...] = ()
    homes: str = ""
    gpus: Inventory | None = None
