"""The keeping side: a service that answers the conversations of `cloudfn.storage.link` out of a provider's stores.

It runs on one event loop. Whoever connects has been let in already: by the permissions of the socket's folder, or by an
agent that handed the connection over after its peer had proved itself.
"""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Awaitable, Callable, Iterator, Mapping, Sequence

from cloudfn.exception import Error, InvalidError, ProtocolError
from cloudfn.storage.messages import CHUNK, SMALL, Reader, Reply, Request, encode_reply, pack_error
from cloudfn.storage.stores import DictStore, Entry, ObjectStore, QueueStore, Stored, VolumeStore, Workspaces

Answer = Reply | Awaitable[Reply | None]
Handler = Callable[["Connection", Request], Answer]

_PAGE_BYTES = 4 << 20
_PAGE_ITEMS = 1_000
_THREADS = 8
_AHEAD = 8  # chunks of an upload that may wait for the disk
_UNREAD = 4 << 20  # bytes that may wait for an answer to end; what is more stays with the peer


class Service:
    """Everything that is asked, by operation.

    Args:
        idle: seconds without any connection after which `ended` is set; None for never.
    """

    def __init__(
        self,
        dicts: DictStore,
        queues: QueueStore,
        volumes: VolumeStore,
        workspaces: Workspaces | None = None,
        idle: float | None = None,
    ) -> None:
        self.ended = asyncio.Event()
        self.volumes = volumes
        self.workspaces = workspaces
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_THREADS, "storage")
        self._idle = idle
        self._idle_timer: asyncio.TimerHandle | None = None
        self._connections: set[Connection] = set()
        self._stores: dict[str, ObjectStore] = {"dict": dicts, "queue": queues, "volume": volumes}
        self._handlers: dict[str, Handler] = {
            "ping": lambda _c, _r: Reply(),
            "shutdown": self._shutdown,
            **_dict_handlers(dicts),
            **_volume_handlers(volumes),
            "queue.put": lambda _c, r: self._put(queues, r),
            "queue.get": lambda c, r: self._get(queues, c, r),
            "queue.peek": lambda _c, r: self._peek(queues, r),
            "queue.sizes": lambda _c, r: _sizes(queues, r),
            "queue.clear": lambda _c, r: _cleared(queues, r),
        }
        self._threaded: dict[str, ObjectStore | Workspaces] = dict.fromkeys(_volume_handlers(volumes), volumes)
        for noun, store in self._stores.items():
            self._handlers.update(_object_handlers(noun, store))
        if workspaces:
            made = _workspace_handlers(workspaces)
            self._handlers.update(made)
            self._threaded.update(dict.fromkeys(made, workspaces))
        self._check_idle()

    def protocol(self) -> Connection:
        """For one more connection."""
        return Connection(self)

    async def adopt(self, sock: Any) -> None:
        """Serve a connected socket."""
        try:
            await self._loop.create_connection(self.protocol, sock=sock)
        except OSError:  # its peer has gone already
            sock.close()

    def handle(self, connection: Connection, request: Request) -> Answer:
        """The answer, at once or later. Raises what the stores raise, and `ProtocolError`."""
        noun, _, verb = request.op.partition(".")
        handler = self._handlers.get(request.op)
        if handler is None:
            raise ProtocolError(f"the storage service does not know {request.op[:50]!r}")
        store = self._stores.get(noun)
        waits = noun == "queue" and verb in ("put", "get", "peek")
        blocks = request.op in self._threaded or (store is not None and store.blocks and not waits)
        if blocks:
            return self.in_thread(handler, connection, request)
        return handler(connection, request)

    def in_thread(self, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return self._loop.run_in_executor(self._threads, function, *args)

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._check_idle()

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        for release in connection.held:
            self._loop.run_in_executor(self._threads, _quietly, release)
        self._check_idle()

    def close(self) -> None:
        """Wait for what runs on threads."""
        self._threads.shutdown()

    def _check_idle(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None
        if self._idle is not None and not self._connections:
            self._idle_timer = self._loop.call_later(self._idle, self.ended.set)

    def _shutdown(self, _connection: Connection, _request: Request) -> Reply:
        self._loop.call_soon(self.ended.set)
        return Reply()

    # -- queues, which wait

    def _put(self, queues: QueueStore, request: Request) -> Answer:
        fields = request.fields
        partition, ttl = bytes.fromhex(fields["partition"]), float(fields["ttl"])

        def put() -> Reply:
            queues.put(fields["id"], partition, list(map(bytes, request.parts)), ttl, str(fields.get("once", "")))
            return Reply()

        try:
            return put()
        except queue.Full:
            if fields["timeout"] == 0:
                raise
        return self._wait(queues, fields, partition, put, queue.Full)

    def _get(self, queues: QueueStore, connection: Connection, request: Request) -> Answer:
        fields = request.fields
        partition, limit = bytes.fromhex(fields["partition"]), int(fields["limit"])

        def get() -> Reply:
            if connection.is_closed:
                raise asyncio.CancelledError
            values = queues.get(fields["id"], partition, limit)
            if not values:
                raise queue.Empty
            return Reply(parts=values)

        try:
            return get()
        except queue.Empty:
            if fields["timeout"] == 0:
                return Reply()
        return self._wait(queues, fields, partition, get, queue.Empty)

    def _peek(self, queues: QueueStore, request: Request) -> Answer:
        fields = request.fields
        partition = bytes.fromhex(fields["partition"])

        def peek() -> Reply:
            rows = queues.peek(fields["id"], partition, int(fields["after"]), _PAGE_ITEMS)
            if not rows:
                raise queue.Empty
            return Reply({"last": rows[-1][0]}, [value for _, value in rows])

        try:
            return peek()
        except queue.Empty:
            if fields["timeout"] == 0:
                return Reply()
        return self._wait_or_nothing(queues, fields, partition, peek)

    async def _wait_or_nothing(
        self, queues: QueueStore, fields: Mapping[str, Any], partition: bytes, attempt: Callable[[], Reply]
    ) -> Reply:
        try:
            return await self._wait(queues, fields, partition, attempt, queue.Empty)
        except queue.Empty:
            return Reply()

    async def _wait(
        self,
        queues: QueueStore,
        fields: Mapping[str, Any],
        partition: bytes,
        attempt: Callable[[], Reply],
        not_yet: type[Exception],
    ) -> Reply:
        """Try whenever the partition has changed, until the timeout (seconds; None for ever)."""
        timeout = fields["timeout"]
        deadline = None if timeout is None else self._loop.time() + float(timeout)
        while True:
            changed = asyncio.ensure_future(queues.changed(fields["id"], partition))
            try:
                return attempt()
            except not_yet:
                left = None if deadline is None else deadline - self._loop.time()
                if left is not None and left <= 0:
                    raise
                await asyncio.wait([changed], timeout=left)
            finally:
                changed.cancel()


def _quietly(release: Callable[[], object]) -> None:
    try:
        release()
    except Error:  # it was deleted meanwhile
        pass


class Connection(asyncio.Protocol):
    """One peer: its requests are answered in their order.

    Attributes:
        held: called when it ends: what it asked for lasts no longer.
    """

    def __init__(self, service: Service) -> None:
        self.held: list[Callable[[], object]] = []
        self._service = service
        self._reader = Reader()
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._upload: _Upload | None = None

    @property
    def is_closed(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._service.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        if self._task:
            self._task.cancel()
        if self._upload:
            self._upload.abandon()
        self._service.closed(self)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        self._serve()
        self._pace()

    def _pace(self) -> None:
        """Read no further while an answer takes its time and enough waits for its end."""
        if self._transport is None:
            return
        if self._task is not None and self._reader.size > _UNREAD:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _serve(self) -> None:
        """Answer what is here, until an answer takes its time."""
        while self._task is None:
            try:
                message = self._reader.next()
            except ProtocolError:
                self._close()
                return
            if message is None:
                return
            head, parts = message
            request = Request(str(head.pop("op", "")), head, parts)
            try:
                answer = self._begin(request)
            except asyncio.CancelledError:
                return
            except Exception as error:  # noqa: BLE001 - goes to whoever asked, see `pack_error`
                self._refuse(error)
                continue
            if isinstance(answer, Reply):
                self.send(answer)
            elif answer is not None:
                self._task = asyncio.ensure_future(self._finish(answer))

    def _begin(self, request: Request) -> Answer | None:
        try:
            if request.op == "volume.store":
                self._upload = _Upload(self._service)
                return None
            if request.op == "volume.chunk":
                return self._take_chunk(request)
            if request.op == "volume.stored":
                upload, self._upload = self._upload, None
                if upload is None:
                    raise ProtocolError("no upload was begun")
                return upload.finish()
            if request.op == "volume.read":
                return self._read(request)
            return self._service.handle(self, request)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"{request.op}: {type(error).__name__}: {error}") from error

    def _take_chunk(self, request: Request) -> Answer | None:
        if self._upload is None:
            raise ProtocolError("no upload was begun")
        return self._upload.put(bytes(request.parts[0]))

    async def _finish(self, answer: Awaitable[Reply | None]) -> None:
        try:
            reply = await answer
            if reply is not None:
                self.send(reply)
                await self._writable.wait()
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001 - as above
            self._refuse(error)
        finally:
            self._task = None
        self._serve()
        self._pace()

    async def _read(self, request: Request) -> Reply:
        in_thread, fields = self._service.in_thread, request.fields
        file = await in_thread(self._service.volumes.open, fields["id"], fields["path"])
        try:
            while chunk := await in_thread(file.read, CHUNK):
                self.send(Reply({}, [chunk], more=True))
                await self._writable.wait()
                if self.is_closed:
                    raise asyncio.CancelledError
        finally:
            file.close()
        return Reply()

    def _refuse(self, error: Exception) -> None:
        self.send(Reply(pack_error(error)))

    def send(self, reply: Reply) -> None:
        if self._transport is not None:
            self._transport.write(encode_reply(reply))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Upload:
    """Chunks on their way from a connection to the disk, so many of them at most."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._abandoned = False
        self._result = asyncio.ensure_future(service.in_thread(service.volumes.store, self._iterate()))

    def _iterate(self) -> Iterator[bytes]:
        while (chunk := self._chunks.get()) is not None:
            yield chunk
        if self._abandoned:
            raise InvalidError("the upload was broken off")

    def put(self, chunk: bytes) -> Awaitable[Reply | None] | None:
        """None where there is room; else to be awaited before the next one. The type is that of an answer."""
        if self._result.done():  # it has failed, as `finish` will say
            return None
        try:
            self._chunks.put_nowait(chunk)
        except queue.Full:
            return self._wait(chunk)
        return None

    async def _wait(self, chunk: bytes | None) -> Reply | None:
        while not self._result.done():
            try:
                self._chunks.put_nowait(chunk)
                break
            except queue.Full:
                await asyncio.wait([self._result], timeout=0.002)  # the disk is slower than the peer
        return None

    async def finish(self) -> Reply:
        await self._wait(None)
        blob, size = await self._result
        return Reply({"blob": blob, "size": size})

    def abandon(self) -> None:
        self._abandoned = True
        self._result.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._end = asyncio.ensure_future(self._wait(None))


def _stored(stored: Stored) -> Reply:
    return Reply({"id": stored.id, "name": stored.name, "created_at": stored.created_at})


def _object_handlers(noun: str, store: ObjectStore) -> dict[str, Handler]:
    """What dicts, queues and volumes have in common."""

    def resolve(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        if fields.get("id"):
            return _stored(store.find_id(fields["id"]))
        if fields.get("create"):
            return _stored(store.create(fields["name"], allow_existing=True))
        return _stored(store.find(fields["name"]))

    def ephemeral(connection: Connection, _request: Request) -> Reply:
        made = store.create("")
        connection.held.append(lambda: store.delete(made.id))
        return _stored(made)

    def create(_c: Connection, request: Request) -> Reply:
        return _stored(store.create(request.fields["name"], allow_existing=bool(request.fields["allow_existing"])))

    def list_(_c: Connection, _request: Request) -> Reply:
        return Reply({"objects": [[s.id, s.name, s.created_at] for s in store.list()]})

    def delete(_c: Connection, request: Request) -> Reply:
        store.delete(request.fields["id"])
        return Reply()

    return {
        f"{noun}.resolve": resolve,
        f"{noun}.ephemeral": ephemeral,
        f"{noun}.create": create,
        f"{noun}.list": list_,
        f"{noun}.delete": delete,
    }


def _dict_handlers(dicts: DictStore) -> dict[str, Handler]:
    def get(_c: Connection, request: Request) -> Reply:
        value = dicts.get(request.fields["id"], bytes(request.parts[0]))
        return Reply(parts=[] if value is None else [value])

    def contains(_c: Connection, request: Request) -> Reply:
        return Reply({"found": dicts.contains(request.fields["id"], bytes(request.parts[0]))})

    def update(_c: Connection, request: Request) -> Reply:
        flat = list(map(bytes, request.parts))
        entries = list(zip(flat[::2], flat[1::2], strict=True))
        done = dicts.update(request.fields["id"], entries, if_absent=bool(request.fields.get("if_absent")))
        return Reply({"created": done})

    def pop(_c: Connection, request: Request) -> Reply:
        value = dicts.pop(request.fields["id"], bytes(request.parts[0]))
        return Reply(parts=[] if value is None else [value])

    def length(_c: Connection, request: Request) -> Reply:
        return Reply({"len": dicts.len(request.fields["id"])})

    def page(_c: Connection, request: Request) -> Reply:
        after = bytes(request.parts[0]) if request.parts else None
        rows = dicts.page(request.fields["id"], after, _PAGE_ITEMS)
        return Reply(parts=[part for row in rows for part in row])

    def clear(_c: Connection, request: Request) -> Reply:
        dicts.clear(request.fields["id"])
        return Reply()

    return {
        "dict.get": get,
        "dict.contains": contains,
        "dict.update": update,
        "dict.pop": pop,
        "dict.len": length,
        "dict.page": page,
        "dict.clear": clear,
    }


def _sizes(queues: QueueStore, request: Request) -> Reply:
    sizes = queues.sizes(request.fields["id"])
    return Reply({"sizes": {partition.hex(): size for partition, size in sizes.items()}})


def _cleared(queues: QueueStore, request: Request) -> Reply:
    partition = request.fields["partition"]
    queues.clear(request.fields["id"], None if partition is None else bytes.fromhex(partition))
    return Reply()


def to_json(entry: Entry) -> list[Any]:
    return [entry.path, entry.kind, entry.size, entry.mtime, entry.mode, entry.blob]


def _entries(rows: Sequence[Sequence[Any]]) -> list[Entry]:
    return [Entry(*row) for row in rows]


def _volume_handlers(volumes: VolumeStore) -> dict[str, Handler]:
    def entries(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        found = volumes.entries(fields["id"], fields["path"], recursive=bool(fields["recursive"]))
        return Reply({"entries": [to_json(entry) for entry in found]})

    def fetch(_c: Connection, request: Request) -> Reply:
        """Whole files, from the first on as many as have room; `left_out`: which of them are not there, or large."""
        contents: list[bytes] = []
        left_out: list[int] = []
        total = 0
        for number, path in enumerate(request.fields["paths"]):
            try:
                with volumes.open(request.fields["id"], path) as file:
                    content = file.read(SMALL + 1)
            except (FileNotFoundError, IsADirectoryError):
                left_out.append(number)
                content = b""
            if len(content) > SMALL:
                left_out.append(number)
                content = b""
            contents.append(content)
            total += len(content)
            if total > _PAGE_BYTES:
                break
        return Reply({"left_out": left_out}, contents)

    def link(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        volumes.link(fields["id"], _entries(fields["entries"]), force=bool(fields["force"]))
        return Reply()

    def remove(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        volumes.remove(fields["id"], fields["path"], recursive=bool(fields["recursive"]))
        return Reply()

    def copy(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        volumes.copy(fields["id"], fields["sources"], fields["target"], recursive=bool(fields["recursive"]))
        return Reply()

    def rename(_c: Connection, request: Request) -> Reply:
        volumes.rename(request.fields["id"], request.fields["name"])
        return Reply()

    return {
        "volume.entries": entries,
        "volume.fetch": fetch,
        "volume.link": link,
        "volume.remove": remove,
        "volume.copy": copy,
        "volume.rename": rename,
    }


def _workspace_handlers(workspaces: Workspaces) -> dict[str, Handler]:
    def open_(connection: Connection, request: Request) -> Reply:
        fields = request.fields
        view = workspaces.open(fields["volume"], read_only=bool(fields["read_only"]), sub_path=fields["sub_path"])
        connection.held.append(lambda: workspaces.close(view["token"]))
        return Reply(dict(view))

    def commit(_c: Connection, request: Request) -> Reply:
        for token in request.fields["tokens"]:
            workspaces.commit(token)
        return Reply()

    def changes(_c: Connection, request: Request) -> Reply:
        version, entries, gone = workspaces.changes(request.fields["token"])
        return Reply({"version": version, "entries": [to_json(entry) for entry in entries], "gone": list(gone)})

    def reloaded(_c: Connection, request: Request) -> Reply:
        fields = request.fields
        applied = [(path, size, mtime, ctime) for path, size, mtime, ctime in fields["applied"]]
        workspaces.reloaded(fields["token"], int(fields["version"]), applied)
        return Reply()

    return {
        "workspace.open": open_,
        "workspace.commit": commit,
        "workspace.changes": changes,
        "workspace.reloaded": reloaded,
    }
