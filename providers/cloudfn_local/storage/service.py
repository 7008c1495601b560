"""The storage service of this user: one process that keeps `<state>/storage`, and ends when nobody needs it.

It has two sockets in a private folder: `door` takes connections of this user's own processes, `handed` takes those
that an agent hands over after its peer has proved itself.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

from cloudfn.storage.server import Service
from cloudfn_local.storage import dicts, objects, queues, road, tree, views, volumes
from cloudfn_local.storage.blobs import Blobs
from cloudfn_local.storage.database import Database

IDLE_VARIABLE = "CLOUDFN_STORAGE_IDLE"
_IDLE_SECONDS = 60.0
_SYNC_SECONDS = 1.0
_TIDY_SECONDS = 60.0


def main() -> None:
    """Argument: the state folder. Prints the record of the service, which is started if it does not run."""
    place = road.folder(Path(sys.argv[1]))
    with (place / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that come at once start one
        record = road.read_record(place)
        if record and (sock := road.try_connect(record["address"])):
            sock.close()
        else:
            record = _start(place)
    print(json.dumps(record))


def _start(place: Path) -> dict[str, object]:
    """Fork the service, and wait until it answers. Exits with its last words if it does not."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(read)
        _serve_forever(place, write)
    os.close(write)
    os.wait()
    with os.fdopen(read) as answer:
        said = answer.read()
    if not said.startswith("{"):
        sys.exit(said or "the storage service has ended at its start")
    record: dict[str, object] = json.loads(said)
    return record


def _serve_forever(place: Path, answer: int) -> None:
    status = 1
    try:
        log = os.open(place / "service.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.closerange(3, answer)
        os.closerange(answer + 1, 1 << 12)
        os.chdir("/")
        os.umask(0o077)
        asyncio.run(serve(place, answer))
        status = 0
    except BaseException as error:  # noqa: BLE001 - who waits for the start must hear of whatever it is
        import traceback

        traceback.print_exc()
        try:
            os.write(answer, f"{type(error).__name__}: {error}".encode())
        except OSError:  # it had started
            pass
    sys.stderr.flush()
    os._exit(status)


async def serve(place: Path, answer: int) -> None:
    """Serve until nobody needs it, or a signal ends it; `answer` takes the record once it is up."""
    owner = os.open(place / "service.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)  # the one before may still be about to end
    _remove_sockets(place)
    database = Database(place / "objects.db", objects.SCHEMA + dicts.SCHEMA + queues.SCHEMA, durable=False)
    idle = float(os.environ.get(IDLE_VARIABLE) or _IDLE_SECONDS)
    files = Database(place / "volumes.db", objects.SCHEMA + tree.SCHEMA + views.SCHEMA, durable=True)
    kept = volumes.LocalVolumes(files, Blobs(place / "blobs"))
    shown = views.LocalViews(files, kept, place)
    service = Service(dicts.LocalDicts(database), queues.LocalQueues(database), kept, shown, idle=idle)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, service.ended.set)
    sockets = Path(tempfile.mkdtemp(prefix="cloudfn-storage-"))
    server = await loop.create_unix_server(service.protocol, str(sockets / "door"), backlog=128)
    handed = _listen_for_handed(service, sockets / "handed")
    record = {"address": str(sockets / "door"), "handed": str(sockets / "handed"), "pid": os.getpid()}
    text = json.dumps(record)
    fresh = place / f".{road.RECORD}"
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.replace(place / road.RECORD)
    os.write(answer, text.encode())
    os.close(answer)
    syncing = loop.create_task(_keep_synced(place / "objects.db-wal"))
    tidying = loop.create_task(_keep_tidy(shown))
    await service.ended.wait()
    (place / road.RECORD).unlink(missing_ok=True)
    syncing.cancel()
    tidying.cancel()
    handed.close()
    server.close()
    service.close()
    database.close()
    files.close()
    shutil.rmtree(sockets, ignore_errors=True)


def _remove_sockets(place: Path) -> None:
    """Of a service that was killed."""
    record = road.read_record(place)
    if record:
        sockets = Path(record["address"]).parent
        if sockets.name.startswith("cloudfn-storage-"):
            shutil.rmtree(sockets, ignore_errors=True)


async def _keep_synced(log: Path) -> None:
    """What a power cut may take is a second's worth."""
    loop = asyncio.get_running_loop()
    synced = 0.0
    while True:
        await asyncio.sleep(_SYNC_SECONDS)
        try:
            changed = log.stat().st_mtime
            if changed != synced:
                synced = changed
                await loop.run_in_executor(None, _sync, log)
        except OSError:  # there is none yet
            continue


async def _keep_tidy(shown: views.LocalViews) -> None:
    """Views that a killed service has left, once their workers have ended."""
    while True:
        await asyncio.sleep(_TIDY_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, shown.drop_unused)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)


def _listen_for_handed(service: Service, path: Path) -> socket.socket:
    """Agents send one byte with each descriptor."""
    loop = asyncio.get_running_loop()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(64)
    listener.setblocking(False)

    def accept() -> None:
        agent, _ = listener.accept()
        agent.setblocking(False)
        loop.add_reader(agent, take, agent)

    def take(agent: socket.socket) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(agent, 64, 64)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            peer = socket.socket(fileno=descriptor)
            peer.setblocking(False)
            adopted = loop.create_task(service.adopt(peer))
            adopting.add(adopted)
            adopted.add_done_callback(adopting.discard)
        if not data:
            loop.remove_reader(agent)
            agent.close()

    adopting: set[asyncio.Task[None]] = set()
    loop.add_reader(listener, accept)
    return listener
