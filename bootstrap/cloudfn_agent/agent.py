"""The agent: one process on a machine, which starts workers, leases them to clients, and ends them.

It decides nothing twice: `pump` looks at one pool and does what its state asks for, after every event.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping

from cloudfn.spec import digest
from cloudfn.spec_json import function_from_json, function_to_json

from cloudfn_agent import mounts, pool as pools, system
from cloudfn_agent.channel import Channel, Message
from cloudfn_agent.clients import Client
from cloudfn_agent.deadlock import Holders, stuck
from cloudfn_agent.door import Door, answer, upgraded
from cloudfn_agent.logs import Logs
from cloudfn_agent.metrics import render_metrics
from cloudfn_agent.nursery import House, Process, Zygote, send_worker
from cloudfn_agent.pool import Function, Lease, Pool, Request, Resumption, State, Worker
from cloudfn_agent.slots import Slots

MAX_WORKERS = 1024
CANCEL_PATIENCE = 10.0  # seconds that user code may take to heed a cancellation before its worker is killed
EXIT_PATIENCE = 30.0  # seconds that `@exit` hooks may take, as in Modal


@dataclass(frozen=True)
class Config:
    """What the agent is started with.

    Attributes:
        address: of the door, for workers that are clients.
        key: the environment's key.
        app: name of the app, for messages.
        folder: the agent's own folder, removed at its end.
        runtime: see `House`.
        cores, memory: what the reservations of workers are counted against (cores, MiB).
        resume_window: seconds that a lease waits for a client whose control stream was cut.
        idle_exit: seconds without any client after which the agent leaves.
    """

    address: str
    key: bytes
    app: str
    folder: Path
    runtime: str
    cores: float
    memory: int
    resume_window: float = 10.0
    idle_exit: float = 600.0


class Agent:
    """Everything that happens on this machine, on one event loop."""

    def __init__(self, config: Config, listener: socket.socket, owner: socket.socket | None) -> None:
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._slots = Slots.create(config.folder / "slots", MAX_WORKERS)
        self._house = House(
            config.address, config.key, config.app, config.folder / "slots", config.runtime, mounts.wrap
        )
        self._functions: dict[str, Function] = {}
        self._pools: dict[tuple[str, bytes], Pool] = {}
        self._zygotes: dict[str, Zygote] = {}
        self._processes: dict[int, Process] = {}  # of workers that are no forks, by number
        self._workers: dict[int, Worker] = {}
        self._free_numbers = list(range(MAX_WORKERS - 1, 0, -1))
        self._leases: dict[str, Lease] = {}
        self._deaths: dict[str, dict[str, Any]] = {}  # leases that ended with their worker -> why
        self._clients: set[Client] = set()
        self._stop_timers: dict[Pool, asyncio.TimerHandle] = {}
        self._closing = False
        self._idle_timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        self._door = Door(
            listener,
            config.key,
            pages={"/healthz": lambda: "ok\n"},
            private_pages={"/metrics": lambda: render_metrics(self.status())},
            handlers={"/control": self._on_control, "/lease": self._on_lease},
        )

    def open(self) -> None:
        """Serve, until `ended` is set."""
        self._door.open()
        if self._owner is not None:
            self._loop.add_reader(self._owner, self._on_owner_gone)
        self._check_idle()

    # -- clients

    async def _on_control(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        await self._loop.sock_sendall(sock, upgraded())
        self._clients.add(Client(self, sock, parameters))
        self._check_idle()

    def on_client_gone(self, client: Client) -> None:
        self._clients.discard(client)
        for pool in self._pools.values():
            pool.requests = type(pool.requests)(r for r in pool.requests if r.client is not client)
        worker = self._worker_of(client)
        if worker:
            worker.waits.clear()
        leases = [lease for lease in self._leases.values() if lease.client is client]
        if leases and not self._closing:
            # A worker that is gone does not come back; a process over a network may.
            window = self.config.resume_window if not client.worker else 0.0
            self._loop.call_later(window, self._drop_leases, leases)
        self._check_idle()

    def _drop_leases(self, leases: list[Lease]) -> None:
        for lease in leases:
            if lease.token in self._leases:
                self._tell(lease.worker, {"op": "drop", "lease": lease.token}, urgent=True)

    def _on_owner_gone(self) -> None:
        """The process that started us has ended; it never writes, so a readable socket is the end of the stream."""
        assert self._owner is not None
        self._loop.remove_reader(self._owner)
        self.shutdown(5.0)

    def _check_idle(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._clients and not self._closing:
            self._idle_timer = self._loop.call_later(self.config.idle_exit, self.shutdown, 5.0)

    def _worker_of(self, client: Client) -> Worker | None:
        return next((worker for worker in self._workers.values() if worker.name == client.worker), None)

    # -- functions

    def register(self, message: Message) -> None:
        """Take a function; registering the same again changes nothing."""
        spec = function_from_json(message["spec"])
        runtime, code, environment = message["runtime"], message["code"], message["environment"]
        zygote = digest([runtime, code["bundle"], environment])
        function = Function(message["key"], spec, runtime, code, environment, zygote)
        self._functions[function.key] = function
        self.pump(self._pool(function.key, b""))

    def derive(self, base: str, key: str, spec: dict[str, Any], environment: dict[str, str] | None) -> None:
        """A variant of a registered function with another spec, for `with_options` in a worker."""
        function = self._functions[base]
        environment = function.environment if environment is None else environment
        zygote = digest([function.runtime, function.code["bundle"], environment])
        self._functions[key] = replace(
            function, key=key, spec=function_from_json(spec), environment=environment, zygote=zygote
        )

    def function_list(self) -> list[dict[str, Any]]:
        return [
            {"key": function.key, "spec": function_to_json(function.spec), "environment": function.environment}
            for function in self._functions.values()
        ]

    def _pool(self, key: str, parameters: bytes) -> Pool:
        if (key, parameters) not in self._pools:
            self._pools[key, parameters] = Pool(self._functions[key], parameters)
        return self._pools[key, parameters]

    # -- requests

    def want(self, client: Client, id: int, key: str, parameters: bytes) -> None:
        """A client asks for a lease on a worker of a function."""
        if key not in self._functions:
            client.send({"op": "refused", "id": id, "kind": "unknown", "text": f"no function {key!r} is registered"})
            return
        pool = self._pool(key, parameters)
        pool.requests.append(Request(client, id))
        self.pump(pool)

    def unwant(self, client: Client, id: int) -> None:
        for pool in self._pools.values():
            for request in list(pool.requests):
                if request.client is client and request.id == id:
                    pool.requests.remove(request)

    def wait(self, client: Client, id: int, keys: tuple[str, ...]) -> None:
        """A worker waits for an inner call, and lends its slot meanwhile."""
        worker = self._worker_of(client)
        if worker:
            worker.waits[id] = keys
            self._pump_waiting()

    def resume(self, client: Client, id: int) -> None:
        """The inner call has ended; answered once the slot is free again."""
        worker = self._worker_of(client)
        if worker is None or id not in worker.waits:
            client.send({"op": "resumed", "id": id})
            return
        worker.pool.resumptions.append(Resumption(worker, client, id))
        self.pump(worker.pool)

    def pump(self, pool: Pool) -> None:
        """Do whatever the state of a pool asks for."""
        if self._closing:
            return
        self._grant_resumptions(pool)
        while pool.requests and (idle := pool.in_state(State.IDLE)):
            self._grant(pool.requests.popleft(), max(idle, key=lambda worker: worker.idle_since))
        self._grant_shared(pool)
        missing = pools.starts(pool, pool.occupied(self._running(pool)), self._room(pool))
        for _ in range(missing):
            self._start(pool)
        if pool.requests and not pool.in_state(State.STARTING):
            self._make_room(pool)
        self._schedule_stops(pool)

    def _pump_waiting(self) -> None:
        for pool in list(self._pools.values()):
            if pool.requests or pool.resumptions:
                self.pump(pool)

    def _running(self, pool: Pool) -> dict[int, int]:
        return {worker.number: self._slots.read(worker.number).running for worker in pool.workers}

    def _room(self, pool: Pool) -> int:
        """How many more workers of a pool the machine's reservations allow; one more always, if nothing else runs."""
        cores, memory = self.config.cores, float(self.config.memory)
        busy = False
        for worker in self._workers.values():
            running = self._slots.read(worker.number).running
            if worker.pool.lends and pools.is_waiting(worker, running):
                continue
            busy = True
            cores -= worker.pool.spec.resources.cpu
            memory -= worker.pool.spec.resources.memory
        resources = pool.spec.resources
        room = min(int(cores / resources.cpu + 1e-9), int(memory / resources.memory), len(self._free_numbers))
        return max(room, 0 if busy else 1)

    def _grant(self, request: Request, worker: Worker) -> None:
        lease = Lease(secrets.token_hex(16), worker, request.client, time.monotonic())
        self._leases[lease.token] = lease
        worker.leases[lease.token] = lease
        worker.state = State.LEASED
        request.client.send({"op": "grant", "id": request.id, "lease": lease.token, "worker": worker.name})

    def _grant_shared(self, pool: Pool) -> None:
        """Workers that take several inputs at a time may serve several clients, one lease for each."""
        if pool.spec.scaling.max_inputs <= 1:
            return
        for request in list(pool.requests):
            free = [w for w in pool.in_state(State.LEASED) if all(x.client is not request.client for x in w.leases.values())]
            if free:
                pool.requests.remove(request)
                self._grant(request, min(free, key=lambda worker: len(worker.leases)))

    def _grant_resumptions(self, pool: Pool) -> None:
        limit = pool.spec.scaling.max_containers
        while pool.resumptions:
            resumption = pool.resumptions[0]
            worker = resumption.worker
            others = pool.occupied(self._running(pool)) - (0 if self._lent(worker) else 1)
            if limit is not None and others >= limit and worker.number in self._workers:
                self._recall_idle(pool, keep=resumption.worker)
                return
            pool.resumptions.popleft()
            worker.waits.pop(resumption.wait, None)
            resumption.client.send({"op": "resumed", "id": resumption.wait})

    def _lent(self, worker: Worker) -> bool:
        return worker.pool.lends and pools.is_waiting(worker, self._slots.read(worker.number).running)

    def _recall_idle(self, pool: Pool, keep: Worker) -> None:
        """A slot is wanted back: end an idle worker, or recall the lease of one that runs nothing."""
        idle = [worker for worker in pool.in_state(State.IDLE) if worker is not keep]
        if idle:
            self._stop(idle[0])
            self._loop.call_soon(self.pump, pool)
            return
        for worker in pool.in_state(State.LEASED):
            if worker is not keep and not self._lent(worker):
                self._recall(worker)

    def _recall(self, worker: Worker) -> None:
        for lease in worker.leases.values():
            if not lease.recalled:
                lease.recalled = True
                lease.client.send({"op": "recall", "lease": lease.token})

    def _make_room(self, pool: Pool) -> None:
        """Requests remain and nothing starts: ask other holders to share, end idle workers of other functions, look for
        a deadlock."""
        first = pool.requests[0]
        holders = [w for w in pool.in_state(State.LEASED) if any(x.client is not first.client for x in w.leases.values())]
        for worker in sorted(holders, key=lambda w: min(x.granted for x in w.leases.values()))[: len(pool.requests)]:
            self._recall(worker)
        if not pool.workers:
            for other in self._pools.values():
                if other is not pool and not other.requests:
                    for worker in other.in_state(State.IDLE):
                        self._stop(worker)
                        return
                    for worker in other.in_state(State.LEASED):
                        if not self._slots.read(worker.number).running:
                            self._recall(worker)
        self._refuse_deadlocked()

    def _refuse_deadlocked(self) -> None:
        views = {}
        for (key, parameters), pool in self._pools.items():
            running = self._running(pool)
            limit = pool.spec.scaling.max_containers
            waits = [
                frozenset(k for keys in worker.waits.values() for k in keys)
                if pools.is_waiting(worker, running.get(worker.number, 0))
                else frozenset()
                for worker in pool.workers
            ]
            has_room = pool.lends or limit is None or len(pool.workers) < limit
            views[_view_name(key, parameters)] = Holders(has_room, waits)
        hopeless = stuck(views)
        for (key, parameters), pool in self._pools.items():
            if _view_name(key, parameters) not in hopeless:
                continue
            for request in [r for r in pool.requests if r.client.worker]:
                pool.requests.remove(request)
                request.client.send(
                    {
                        "op": "refused",
                        "id": request.id,
                        "kind": "deadlock",
                        "text": f"every worker of {pool.function.spec.tag} waits, directly or in turn, for another "
                        f"worker of {pool.function.spec.tag}",
                    }
                )

    # -- leases

    async def _on_lease(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        """A client attaches to a lease, for the first time or after a cut: its socket goes to the worker."""
        token = parameters.get("lease", "")
        lease = self._leases.get(token)
        if lease is None or lease.worker.state is not State.LEASED:
            import json

            death = self._deaths.get(token, {"kind": "unknown"})
            await answer(sock, "410 Gone", json.dumps(death))
            sock.close()
            return
        lease.attached = True
        await self._loop.sock_sendall(sock, upgraded())
        with sock:
            self._tell(lease.worker, {"op": "lease", "lease": token}, fds=[sock.fileno()], urgent=True)

    def _free(self, token: str) -> None:
        """A worker has let go of a lease."""
        lease = self._leases.pop(token, None)
        if lease is None:
            return
        worker = lease.worker
        worker.leases.pop(token, None)
        if worker.leases or worker.state is not State.LEASED:
            return
        worker.state = State.IDLE
        worker.idle_since = self._slots.read(worker.number).finished or time.monotonic()
        pool = worker.pool
        if pool.spec.scaling.single_use and self._slots.read(worker.number).done:
            self._stop(worker)
        self.pump(pool)
        self._pump_waiting()

    def cancel(self, client: Client, call: int, index: int | None, kill: bool) -> None:
        """Cancel a call's inputs, or one of them, in every worker that this client has leased."""
        for lease in [lease for lease in self._leases.values() if lease.client is client]:
            worker = lease.worker
            self._tell(worker, {"op": "cancel", "call": call, "input": index}, urgent=True)
            if self._runs(worker, call, index):
                reason = {"kind": "cancelled", "text": "its call was cancelled"}
                if kill:
                    self._kill(worker, reason)
                else:
                    self._loop.call_later(CANCEL_PATIENCE, self._kill_if_running, worker, call, index, reason)

    def _runs(self, worker: Worker, call: int, index: int | None) -> bool:
        slot = self._slots.read(worker.number)
        return bool(slot.running) and slot.call == call and index in (None, slot.input)

    def _kill_if_running(self, worker: Worker, call: int, index: int | None, reason: dict[str, Any]) -> None:
        if worker.number in self._workers and self._runs(worker, call, index):
            self._kill(worker, reason)

    def recall_inputs(self, client: Client, token: str) -> None:
        """A client wants back what waits behind a long input."""
        lease = self._leases.get(token)
        if lease and lease.client is client:
            self._tell(lease.worker, {"op": "recall"}, urgent=True)

    def _tell(self, worker: Worker, message: Message, fds: list[int] | None = None, urgent: bool = False) -> None:
        """Send a message to a worker; `urgent`: it must hear it even in the midst of user code."""
        try:
            worker.channel.send(message, fds or [])
        except OSError:  # it has ended, or hangs: its exit is, or will be, reported
            return
        if urgent and worker.pid:
            try:
                os.kill(worker.pid, signal.SIGUSR1)
            except ProcessLookupError:
                pass

    # -- workers

    def _start(self, pool: Pool) -> None:
        number = self._free_numbers.pop()
        self._slots.clear(number)
        ours, theirs = socket.socketpair()
        logs = Logs(self._loop, number, self._on_log)
        worker = Worker(number, pool, Channel(ours), logs)
        worker.idle_since = time.monotonic()
        self._workers[number] = worker
        pool.workers.append(worker)
        self._loop.add_reader(worker.channel, self._on_worker_message, worker)
        self._show({"op": "started", "worker": number, "function": pool.spec.tag})
        seconds = pool.spec.startup_timeout
        reason = {"kind": "startup_timeout", "text": f"it was not ready within startup_timeout={seconds:g} s"}
        worker.timers.append(self._loop.call_later(seconds, self._kill_if_starting, worker, reason))
        zygote = self._zygotes.get(pool.function.zygote)
        try:
            if zygote is None:
                zygote = self._start_zygote(pool.function)
            if zygote.unforkable:
                self._start_process(worker, theirs)
            else:
                zygote.fork(worker, theirs)
        except OSError as error:
            theirs.close()
            self._on_exit(number, {"kind": "startup", "text": f"it could not be started: {error}"})

    def _start_zygote(self, function: Function) -> Zygote:
        key = function.zygote
        process = Process(self._house, function, Logs(self._loop, 0, self._on_log), self._loop)
        zygote = Zygote(
            process,
            self._on_forked,
            self._on_exit,
            lambda function_key, error: self._on_load_failed(function_key, error),
            self._on_unforkable,
            lambda end: self._on_zygote_end(key, end),
        )
        self._zygotes[key] = zygote
        return zygote

    def _start_process(self, worker: Worker, control: socket.socket) -> None:
        """Start a worker whose code must not be forked as a process of its own."""
        function = worker.pool.function
        process = Process(self._house, function, Logs(self._loop, worker.number, self._on_log), self._loop)
        self._processes[worker.number] = process

        def on_message(message: Message) -> None:
            if message["op"] == "load_failed":
                self._on_load_failed(message["key"], message["error"])

        def on_end(end: dict[str, Any]) -> None:
            self._processes.pop(worker.number, None)
            process.logs.close()
            self._on_exit(worker.number, end)

        process.listen(on_message, on_end)
        process.channel.send({"op": "load", "key": function.key, "code": function.code})
        send_worker(process, "become", worker, control)
        self._on_forked(worker.number, process.popen.pid)

    def _on_unforkable(self, number: int, _reason: str) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return
        # The ends that were meant for the fork are closed by now: make new ones.
        self._loop.remove_reader(worker.channel)
        worker.channel.close()
        worker.logs.close()
        ours, theirs = socket.socketpair()
        worker.channel = Channel(ours)
        worker.logs = Logs(self._loop, number, self._on_log)
        self._loop.add_reader(worker.channel, self._on_worker_message, worker)
        self._start_process(worker, theirs)

    def _on_forked(self, number: int, pid: int) -> None:
        worker = self._workers.get(number)
        if worker is None:
            return
        worker.pid = pid
        limit = worker.pool.spec.resources.memory_limit
        if limit is not None:
            try:
                worker.limit = system.MemoryLimit(f"{os.getpid()}-{number}", limit)
                worker.limit.add(pid)
            except OSError as error:
                self._notice(f"{worker.pool.spec.tag}: no hard memory limit on this machine ({error})")
        if worker.state is State.STOPPING or worker.death:
            self._kill(worker, worker.death)

    def _on_worker_message(self, worker: Worker) -> None:
        for message, _ in worker.channel.receive_available():
            op = message["op"]
            if op == "ready":
                self._on_ready(worker)
            elif op == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
            elif op == "free":
                self._free(message["lease"])
            elif op == "protocol_error":
                self._notice(f"{worker.name}: a client sent bytes that are no frame: {message['text']}")
        if worker.channel.ended:
            self._loop.remove_reader(worker.channel)

    def _on_ready(self, worker: Worker) -> None:
        for timer in worker.timers:
            timer.cancel()
        worker.timers.clear()
        if worker.state is State.STARTING:
            worker.state = State.IDLE
            worker.idle_since = time.monotonic()
        self._watch_timeout(worker)
        self.pump(worker.pool)

    def _watch_timeout(self, worker: Worker) -> None:
        """Look again at the first moment at which an input could be over its time; exact without polling."""
        if worker.number not in self._workers:
            return
        limit = worker.pool.spec.timeout
        slot = self._slots.read(worker.number)
        now = time.monotonic()
        due = slot.started + limit if slot.running else now + limit
        if slot.running and due <= now and self._slots.read(worker.number)[:3] == slot[:3]:
            self._kill(worker, {"kind": "timeout", "text": f"it ran longer than timeout={limit:g} s"})
            return
        worker.timers[:] = [self._loop.call_at(self._loop.time() + max(due - now, 0.0005), self._watch_timeout, worker)]

    def _kill_if_starting(self, worker: Worker, reason: dict[str, Any]) -> None:
        if worker.state is State.STARTING and worker.number in self._workers:
            self._kill(worker, reason)

    def _kill(self, worker: Worker, reason: dict[str, Any]) -> None:
        worker.death = worker.death or reason
        if worker.pid:
            _signal_group(worker.pid)

    def _stop(self, worker: Worker) -> None:
        """Let a worker run its `@exit` hooks and leave."""
        worker.state = State.STOPPING
        self._tell(worker, {"op": "stop"})
        reason = {"kind": "stopped", "text": f"its @exit hooks took longer than {EXIT_PATIENCE:g} s"}
        worker.timers.append(self._loop.call_later(EXIT_PATIENCE, self._kill, worker, reason))

    def _schedule_stops(self, pool: Pool) -> None:
        over, again = pools.stops(pool, time.monotonic())
        for worker in over:
            self._stop(worker)
        timer = self._stop_timers.pop(pool, None)
        if timer:
            timer.cancel()
        if again is not None:
            delay = max(again - time.monotonic(), 0.001)
            self._stop_timers[pool] = self._loop.call_later(delay, self.pump, pool)

    def _on_exit(self, number: int, end: dict[str, Any]) -> None:
        """A worker's process has ended."""
        worker = self._workers.pop(number, None)
        if worker is None:
            return
        if worker.pid:
            _signal_group(worker.pid)  # children that it left behind
        worker.logs.close()
        for timer in worker.timers:
            timer.cancel()
        # What it said last may still be unread.
        for message, _ in worker.channel.receive_available():
            if message["op"] == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
        self._loop.remove_reader(worker.channel)
        worker.channel.close()
        slot = self._slots.read(number)
        death = {"kind": "exit", **end, **worker.death, "worker": worker.name}
        if slot.running:
            death.update(call=slot.call, input=slot.input, ran=time.monotonic() - slot.started)
        if worker.limit:
            if worker.limit.was_hit():
                death.update(kind="oom", limit_mb=worker.pool.spec.resources.memory_limit)
            worker.limit.remove()
        pool = worker.pool
        pool.workers.remove(worker)
        pool.done += slot.done
        pool.busy += slot.busy
        for token, lease in worker.leases.items():
            self._leases.pop(token, None)
            self._deaths[token] = death
            lease.client.send({"op": "lost", "lease": token, "death": death})
        if worker.state is State.STARTING:
            self._refuse_all(pool, death)
        self._free_numbers.append(number)
        self._show({"op": "ended", "worker": number, "function": pool.spec.tag})
        self.pump(pool)
        self._pump_waiting()
        self._check_ended()

    def _refuse_all(self, pool: Pool, death: dict[str, Any]) -> None:
        """A worker could not start: whoever waits for one hears why, instead of waiting for the next failure."""
        requests = list(pool.requests)
        pool.requests.clear()
        for request in requests:
            request.client.send({"op": "refused", "id": request.id, "kind": "startup", "death": death})

    def _on_load_failed(self, key: str, error: str) -> None:
        for pool in list(self._pools.values()):
            if pool.function.key == key:
                for worker in list(pool.workers):
                    worker.death = {"kind": "startup", "error": error}
                    if worker.state is State.STARTING and not worker.pid:
                        self._on_exit(worker.number, {})

    def _on_zygote_end(self, key: str, end: dict[str, Any]) -> None:
        zygote = self._zygotes.pop(key, None)
        if zygote is None or self._closing:
            return
        zygote.process.logs.close()
        for worker in list(self._workers.values()):
            if worker.pool.function.zygote == key and worker.number not in self._processes:
                text = "the process that imports its code ended"
                self._on_exit(worker.number, {**end, "kind": "startup", "text": text})

    # -- what is seen from outside

    def _on_log(self, number: int, stream: int, data: bytes) -> None:
        for client in self._clients:
            if client.wants_logs:
                client.send_log(number, stream, data)

    def _notice(self, text: str) -> None:
        self._show({"op": "notice", "text": text})

    def _show(self, message: Message) -> None:
        for client in self._clients:
            if client.wants_logs:
                client.send(message)

    def status(self) -> dict[str, Any]:
        """Counts of every function, for `cloudfn ps` and `/metrics`."""
        functions: dict[str, dict[str, Any]] = {}
        for pool in self._pools.values():
            entry = functions.setdefault(
                pool.function.key,
                {"tag": pool.spec.tag, "queued": 0, "running": 0, "workers": 0, "done": 0, "busy_seconds": 0.0},
            )
            slots = [self._slots.read(worker.number) for worker in pool.workers]
            entry["queued"] += len(pool.requests)
            entry["running"] += sum(slot.running for slot in slots)
            entry["workers"] += len(pool.workers)
            entry["done"] += pool.done + sum(slot.done for slot in slots)
            entry["busy_seconds"] += pool.busy + sum(slot.busy for slot in slots)
        workers = [
            {"name": w.name, "pid": w.pid, "function": w.pool.spec.tag, "state": w.state.value}
            for w in self._workers.values()
        ]
        return {"app": self.config.app, "pid": os.getpid(), "functions": list(functions.values()), "workers": workers}

    # -- the end

    def shutdown(self, grace: float) -> None:
        """Cancel what runs, let workers leave, then end; after `grace` seconds kill what is left."""
        if self._closing:
            return
        self._closing = True
        if self._idle_timer:
            self._idle_timer.cancel()
        for worker in list(self._workers.values()):
            slot = self._slots.read(worker.number)
            worker.state = State.STOPPING
            if slot.running:
                self._tell(worker, {"op": "cancel", "call": slot.call, "input": None})
            self._tell(worker, {"op": "stop"}, urgent=True)
        self._loop.call_later(grace, self._kill_all)
        self._check_ended()

    def _kill_all(self) -> None:
        for worker in list(self._workers.values()):
            if worker.pid:
                self._kill(worker, {"kind": "stopped", "text": "the app was stopped"})
            else:
                self._on_exit(worker.number, {})
        for zygote in self._zygotes.values():
            zygote.process.popen.kill()

    def _check_ended(self) -> None:
        if self._closing and not self._workers and not self.ended.is_set():
            self.ended.set()

    async def close(self) -> None:
        """The last steps, when no worker is left: zygotes, the last words to clients, the folder."""
        self._door.close()
        for zygote in self._zygotes.values():
            zygote.process.close()
        for zygote in self._zygotes.values():
            zygote.process.reap(1.0)
        for client in self._clients:
            client.send({"op": "bye"})
        for _ in range(500):
            if not any(client.unsent for client in self._clients):
                break
            await asyncio.sleep(0.01)
        for client in self._clients:
            client.close()
        shutil.rmtree(self.config.folder, ignore_errors=True)


def _view_name(key: str, parameters: bytes) -> str:
    return key if not parameters else f"{key}({parameters.hex()})"


def _signal_group(pid: int) -> None:
    for send in (os.killpg, os.kill):  # the group exists only once the worker has made it
        try:
            send(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
