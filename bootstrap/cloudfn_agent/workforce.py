"""Starts workers, watches over them, and ends them; which of them there should be is the agent's to decide."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from typing import Any, Protocol

from cloudfn_agent import system
from cloudfn_agent.channel import Channel, Message
from cloudfn_agent.logs import Logs
from cloudfn_agent.nursery import House, Process, Zygote, send_worker
from cloudfn_agent.pool import Function, Pool, State, Worker
from cloudfn_agent.slots import Slots

MAX_WORKERS = 1024
EXIT_PATIENCE = 30.0  # seconds that `@exit` hooks may take, as in Modal


class Overseer(Protocol):
    """Who hears what becomes of workers."""

    def on_ready(self, worker: Worker) -> None:
        """A worker has run its `@enter` hooks."""

    def on_free(self, token: str) -> None:
        """A worker has let go of a lease."""

    def on_death(self, worker: Worker, death: dict[str, Any]) -> None:
        """A worker's process has ended; `death` says how, and which input it ran."""

    def on_log(self, number: int, stream: int, data: bytes) -> None:
        """A worker (0: a zygote) has printed."""

    def show(self, message: Message) -> None:
        """Something for whoever watches."""


class Workforce:
    """Every worker process of this machine, by number."""

    def __init__(self, house: House, overseer: Overseer) -> None:
        self.by_number: dict[int, Worker] = {}
        self.slots = Slots.create(house.slots, MAX_WORKERS)
        self.closing = False
        self._house = house
        self._overseer = overseer
        self._loop = asyncio.get_running_loop()
        self._zygotes: dict[str, Zygote] = {}
        self._processes: dict[int, Process] = {}  # of workers that are no forks
        self._free_numbers = list(range(MAX_WORKERS - 1, 0, -1))

    @property
    def spare_numbers(self) -> int:
        return len(self._free_numbers)

    def runs(self, worker: Worker, call: int, index: int | None) -> bool:
        slot = self.slots.read(worker.number)
        return bool(slot.running) and slot.call == call and index in (None, slot.input)

    def kill_if_running(self, worker: Worker, call: int, index: int | None, reason: dict[str, Any]) -> None:
        if worker.number in self.by_number and self.runs(worker, call, index):
            self.kill(worker, reason)

    def tell(self, worker: Worker, message: Message, fds: list[int] | None = None, urgent: bool = False) -> None:
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

    def start(self, pool: Pool) -> None:
        number = self._free_numbers.pop()
        self.slots.clear(number)
        ours, theirs = socket.socketpair()
        logs = Logs(self._loop, number, self._overseer.on_log)
        worker = Worker(number, pool, Channel(ours), logs)
        worker.idle_since = time.monotonic()
        self.by_number[number] = worker
        pool.workers.append(worker)
        self._loop.add_reader(worker.channel, self._on_worker_message, worker)
        self._overseer.show({"op": "started", "worker": number, "function": pool.spec.tag})
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
        process = Process(self._house, function, Logs(self._loop, 0, self._overseer.on_log), self._loop)
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
        process = Process(self._house, function, Logs(self._loop, worker.number, self._overseer.on_log), self._loop)
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
        worker = self.by_number.get(number)
        if worker is None:
            return
        # The ends that were meant for the fork are closed by now: make new ones.
        self._loop.remove_reader(worker.channel)
        worker.channel.close()
        worker.logs.close()
        ours, theirs = socket.socketpair()
        worker.channel = Channel(ours)
        worker.logs = Logs(self._loop, number, self._overseer.on_log)
        self._loop.add_reader(worker.channel, self._on_worker_message, worker)
        self._start_process(worker, theirs)

    def _on_forked(self, number: int, pid: int) -> None:
        worker = self.by_number.get(number)
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
            self.kill(worker, worker.death)

    def _on_worker_message(self, worker: Worker) -> None:
        for message, _ in worker.channel.receive_available():
            op = message["op"]
            if op == "ready":
                self._on_ready(worker)
            elif op == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
            elif op == "free":
                self._overseer.on_free(message["lease"])
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
        self._overseer.on_ready(worker)

    def _watch_timeout(self, worker: Worker) -> None:
        """Look again at the first moment at which an input could be over its time; exact without polling."""
        if worker.number not in self.by_number:
            return
        limit = worker.pool.spec.timeout
        slot = self.slots.read(worker.number)
        now = time.monotonic()
        due = slot.started + limit if slot.running else now + limit
        if slot.running and due <= now and self.slots.read(worker.number)[:3] == slot[:3]:
            self.kill(worker, {"kind": "timeout", "text": f"it ran longer than timeout={limit:g} s"})
            return
        worker.timers = [self._loop.call_later(max(due - now, 0.0005), self._watch_timeout, worker)]

    def _kill_if_starting(self, worker: Worker, reason: dict[str, Any]) -> None:
        if worker.state is State.STARTING and worker.number in self.by_number:
            self.kill(worker, reason)

    def kill(self, worker: Worker, reason: dict[str, Any]) -> None:
        if self.by_number.get(worker.number) is not worker:
            return  # it has ended meanwhile, and its pid may be somebody else's
        worker.death = worker.death or reason
        if worker.pid:
            signal_group(worker.pid)

    def stop(self, worker: Worker) -> None:
        """Let a worker run its `@exit` hooks and leave."""
        worker.state = State.STOPPING
        self.tell(worker, {"op": "stop"})
        reason = {"kind": "stopped", "text": f"its @exit hooks took longer than {EXIT_PATIENCE:g} s"}
        worker.timers.append(self._loop.call_later(EXIT_PATIENCE, self.kill, worker, reason))

    def _on_exit(self, number: int, end: dict[str, Any]) -> None:
        """A worker's process has ended."""
        worker = self.by_number.pop(number, None)
        if worker is None:
            return
        if worker.pid:
            signal_group(worker.pid)  # children that it left behind
        worker.logs.close()
        for timer in worker.timers:
            timer.cancel()
        # What it said last may still be unread.
        for message, _ in worker.channel.receive_available():
            if message["op"] == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
        self._loop.remove_reader(worker.channel)
        worker.channel.close()
        slot = self.slots.read(number)
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
        self._free_numbers.append(number)
        self._overseer.show({"op": "ended", "worker": number, "function": pool.spec.tag})
        self._overseer.on_death(worker, death)

    def _on_load_failed(self, key: str, error: str) -> None:
        for worker in list(self.by_number.values()):
            if worker.pool.function.key == key and worker.state is State.STARTING:
                worker.death = {"kind": "startup", "error": error}
                if not worker.pid:
                    self._on_exit(worker.number, {})

    def _on_zygote_end(self, key: str, end: dict[str, Any]) -> None:
        zygote = self._zygotes.pop(key, None)
        if zygote is None or self.closing:
            return
        zygote.process.logs.close()
        for worker in list(self.by_number.values()):
            if worker.pool.function.zygote == key and worker.number not in self._processes:
                text = "the process that imports its code ended"
                self._on_exit(worker.number, {**end, "kind": "startup", "text": text})

    def _notice(self, text: str) -> None:
        self._overseer.show({"op": "notice", "text": text})

    # -- the end

    def kill_all(self) -> None:
        """Grace is over: end everything that is left by force."""
        for worker in list(self.by_number.values()):
            if worker.pid:
                self.kill(worker, {"kind": "stopped", "text": "the app was stopped"})
            else:
                self._on_exit(worker.number, {})
        for zygote in self._zygotes.values():
            zygote.process.popen.kill()

    def close(self) -> None:
        """End the zygotes, when no worker is left."""
        for zygote in self._zygotes.values():
            zygote.process.close()
        for zygote in self._zygotes.values():
            zygote.process.reap(1.0)


def signal_group(pid: int) -> None:
    """Kill a worker and every process in its group."""
    for send in (os.killpg, os.kill):  # the group exists only once the worker has made it
        try:
            send(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
