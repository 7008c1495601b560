"""Starts workers, watches over them, and ends them; which of them there should be is the agent's to decide."""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import signal
import sys
import time
from typing import Any, Protocol

from cloudfn.wire import Printed
from cloudfn_agent import system
from cloudfn_agent.channel import Message
from cloudfn_agent.logs import Logs, Sink
from cloudfn_agent.nursery import Child, House, Process, Zygote
from cloudfn_agent.pool import Function, Pool, State, Worker
from cloudfn_agent.warden import Warden

MAX_WORKERS = 1024
_REFILL = 0.05  # seconds after a worker was started in which its zygote has better things to do than to fork a spare
_WEB_PATIENCE = 2.0  # seconds that a web request may take to end after its timeout, before its worker is killed for it
STOPPED = {"kind": "stopped", "text": "the app was stopped"}
PREEMPTED = {"kind": "preempted", "text": "its machine is taken away"}
CANCELLED = {"kind": "cancelled", "text": "its call was cancelled"}


class Overseer(Protocol):
    """Who hears what becomes of workers."""

    def on_ready(self, worker: Worker) -> None:
        """A worker has run its `@enter` hooks."""

    def on_free(self, token: str) -> None:
        """A worker has let go of a lease."""

    def on_cut(self, token: str) -> None:
        """The connection of a lease was cut."""

    def on_death(self, worker: Worker, death: dict[str, Any]) -> None:
        """A worker's process has ended; `death` says how, and which input it ran."""

    def allot(self, pool: Pool) -> tuple[str, ...]:
        """The GPUs of a worker that starts now."""

    def gpu_notes(self, worker: Worker) -> dict[str, Any] | None:
        """What a worker is told of its GPUs."""

    def may_grow(self, pool: Pool) -> bool:
        """Whether one more worker of a pool could be started now."""

    def on_log(self, session: str, said: Printed) -> None:
        """A worker of a session has printed."""

    def show(self, session: str, message: Message) -> None:
        """Something for whoever watches a session."""


class Workforce:
    """Every worker process of this machine, by number.

    Args:
        exit_patience: seconds that `@exit` hooks may take.
    """

    def __init__(self, house: House, overseer: Overseer, warden: Warden, exit_patience: float) -> None:
        self.by_number: dict[int, Worker] = {}
        self._house = house
        self._overseer = overseer
        self._loop = asyncio.get_running_loop()
        self._warden = warden
        self._exit_patience = exit_patience
        self._zygotes: dict[str, Zygote] = {}
        self._unforkable: set[str] = set()  # keys of zygotes whose code must not be forked
        self._by_serial: dict[int, Worker] = {}
        self._processes: dict[int, Process] = {}  # of workers that are no forks, by serial
        self._free_numbers = list(range(MAX_WORKERS - 1, 0, -1))

    @property
    def spare_numbers(self) -> int:
        return len(self._free_numbers)

    def runs(self, worker: Worker, call: int, index: int | None) -> bool:
        slot = worker.slot()
        return bool(slot.running) and slot.call == call and index in (None, slot.input)

    def kill_if_running(self, worker: Worker, call: int, index: int | None) -> None:
        """Kill a worker that did not heed a cancellation."""
        if self.by_number.get(worker.number) is worker and self.runs(worker, call, index):
            self.kill(worker, CANCELLED)

    def tell(self, worker: Worker, message: Message, fds: list[int] | None = None, urgent: bool = False) -> None:
        """Send a message to a worker; `urgent`: it must hear it even in the midst of user code."""
        try:
            worker.child.channel.send(message, fds or [])
        except OSError:  # it has ended, or hangs: its exit is, or will be, reported
            return
        if urgent and worker.ready:
            self._signal(worker)

    def _signal(self, worker: Worker) -> None:
        """Make a worker look at its channel."""
        if not worker.pid:  # it is ready before its zygote has told its pid, and kill(0) would be for ourselves
            return
        try:
            os.kill(worker.pid, signal.SIGUSR1)
        except ProcessLookupError:
            pass

    def start(self, pool: Pool) -> None:
        """Start a worker; where nothing can keep it from being ready in a moment, it is taken for ready at once."""
        number = self._free_numbers.pop()
        zygote = self._zygotes.get(pool.function.zygote)
        spare = zygote.take_spare() if zygote and pool.function.key in zygote.loaded else None
        worker = Worker(number, pool, spare or self._new_child(pool.function))
        worker.idle_since = worker.started = time.monotonic()
        worker.devices = self._overseer.allot(pool)
        self.by_number[number] = worker
        pool.workers.append(worker)
        pool.started += 1
        message = {"op": "started", "worker": number, "function": pool.spec.tag}
        self._loop.call_soon(self._overseer.show, pool.function.session, message)  # not in its way
        if zygote and pool.function.key in zygote.served and not (pool.spec.is_class or pool.spec.is_web):
            worker.ready = True
            worker.state = State.IDLE
            if spare:
                pool.prepared.add(0.0)
            self._watch_timeout(worker)
        else:
            seconds = pool.spec.startup_timeout
            reason = {"kind": "startup_timeout", "text": f"it was not ready within startup_timeout={seconds:g} s"}
            worker.timers.append(self._loop.call_later(seconds, self._kill_if_starting, worker, reason))
        self._limit_memory(worker)  # of a spare, before it is told to begin
        self._listen(worker)
        if not spare:
            self._give_process(worker)
        self._refill_later(pool.function.zygote)

    def _listen(self, worker: Worker) -> None:
        """Hear a worker's process, and tell it what it is: it comes to read that when it is there."""
        child = worker.child
        child.logs.number = worker.number
        self._by_serial[child.serial] = worker
        self._loop.add_reader(child.channel, self._on_worker_message, worker)
        parameters = base64.b64encode(worker.pool.parameters).decode()
        key, prompt = worker.pool.function.key, worker.ready
        begin = {"op": "begin", "worker": worker.number, "key": key, "parameters": parameters, "prompt": prompt}
        begin.update(door_key=worker.door_key.hex(), gpu=self._overseer.gpu_notes(worker), asked=worker.started)
        child.channel.put(begin)
        if prompt:
            self._loop.call_soon(self._flush, child)  # if it does not go out with its first lease
        else:
            self._flush(child)

    def _flush(self, child: Child) -> None:
        try:
            child.channel.flush()
        except OSError:  # as in `tell`
            pass

    def _give_process(self, worker: Worker) -> None:
        """Have a worker forked or, where its code must not be, start a process that becomes it."""
        function = worker.pool.function
        try:
            if function.zygote in self._unforkable or function.volumes:  # each worker has a view of its own
                self._start_process(worker)
                return
            zygote = self._zygotes.get(function.zygote) or self._start_zygote(function)
        except OSError as error:
            # Not from within the caller, who may start others: one that fails at once would start the next.
            end = {"kind": "startup", "text": f"it could not be started: {error}"}
            self._loop.call_soon(self._on_exit, worker, end)
            return
        try:
            zygote.load(function)
            worker.child.ask(zygote.process, "fork", function.key)
        except OSError:  # it has ended; `_on_zygote_end` comes next
            pass

    def _give_another(self, worker: Worker) -> None:
        """Try again to get a process; the ends of pipes and channel that were meant for the first are closed by now."""
        if worker.state is State.STOPPING or worker.death:
            self._on_exit(worker, {})
            return
        self._forget_child(worker)
        worker.child = self._new_child(worker.pool.function)
        self._listen(worker)
        self._give_process(worker)

    def _sink(self, function: Function) -> Sink:
        return functools.partial(self._overseer.on_log, function.session)

    def _new_child(self, function: Function) -> Child:
        return Child(self._loop, self._sink(function))

    def _forget_child(self, worker: Worker) -> None:
        del self._by_serial[worker.child.serial]
        self._loop.remove_reader(worker.child.channel)
        worker.child.close()

    def _refill_later(self, key: str) -> None:
        zygote = self._zygotes.get(key)
        if zygote is None or key in self._unforkable:
            return
        if zygote.refill:
            zygote.refill.cancel()
        zygote.refill = self._loop.call_later(_REFILL, self._refill, key, zygote)

    def _refill(self, key: str, zygote: Zygote) -> None:
        """Have a process forked before somebody waits for it, if any worker of its kind may still be started."""
        zygote.refill = None
        pools = {worker.pool for worker in self.by_number.values() if worker.pool.function.zygote == key}
        wanted = any(not pool.spec.resources.gpus and self._overseer.may_grow(pool) for pool in pools)
        if zygote.spare or not zygote.proved or not wanted or self._zygotes.get(key) is not zygote:
            return
        spare = self._new_child(zygote.process.function)
        try:
            spare.ask(zygote.process, "fork", next(iter(zygote.served)), spare=True)
        except OSError:  # it has ended; `_on_zygote_end` comes next
            spare.close()
            return
        zygote.spare = spare

    def _start_zygote(self, function: Function) -> Zygote:
        logs = Logs(self._loop, 0, self._sink(function))
        try:
            process = Process(self._house, function, logs, self._loop)
        except OSError:
            logs.close()
            raise
        zygote = Zygote(process)
        self._zygotes[function.zygote] = zygote
        self._warden.note(process.popen.pid)
        process.listen(
            lambda message: self._on_zygote_message(function.zygote, zygote, message),
            lambda end: self._on_zygote_end(function.zygote, zygote, end),
        )
        return zygote

    def _start_process(self, worker: Worker) -> None:
        function = worker.pool.function
        logs = Logs(self._loop, worker.number, self._sink(function))
        try:
            process = Process(self._house, function, logs, self._loop)
        except OSError:
            logs.close()
            raise
        child = worker.child
        serial = child.serial
        self._processes[serial] = process
        child.pid = process.popen.pid
        self._warden.note(child.pid)

        def on_message(message: Message) -> None:
            if message["op"] == "forked":
                if child.pid != message["pid"]:  # what we started is a wrapper around it
                    child.pid = message["pid"]
                    self._warden.note(child.pid)
                self._on_forked(worker)
            elif message["op"] == "load_failed":
                worker.death = worker.death or {"kind": "startup", "error": message["error"]}

        def on_end(end: dict[str, Any]) -> None:
            del self._processes[serial]
            self._forget_users(process)
            self._warden.forget(process.popen.pid)
            process.logs.close()
            self._on_exit(worker, end)

        process.listen(on_message, on_end)
        process.load(function)
        worker.child.ask(process, "become", function.key)

    def _on_zygote_message(self, key: str, zygote: Zygote, message: Message) -> None:
        op = message["op"]
        if op == "load_failed":
            zygote.loaded.discard(message["key"])
            self._on_load_failed(message["key"], message["error"])
            return
        spare, worker = zygote.spare, self._by_serial.get(message["serial"])
        if spare and spare.serial == message["serial"]:
            self._on_spare(key, zygote, spare, message)
        elif worker is None:
            if op == "forked":  # we gave it up meanwhile
                system.kill_group(message["pid"])
            elif op == "exited":
                self._warden.forget(message["pid"])
        elif op == "forked":
            zygote.proved = True
            self._warden.note(message["pid"])
            worker.child.pid = message["pid"]
            self._on_forked(worker)
            self._refill_later(key)
        elif op == "exited":
            self._on_exit(worker, message)
        elif op == "unforkable":
            if key not in self._unforkable:
                print(f"workers of {worker.pool.spec.tag} are not forked: {message['reason']}", file=sys.stderr)
                self._unforkable.add(key)
            if not any(other.pid for other in self._forks(key)):
                zygote.leave()
            self._give_another(worker)

    def _on_spare(self, key: str, zygote: Zygote, spare: Child, message: Message) -> None:
        if message["op"] == "forked":
            spare.pid = message["pid"]
            self._warden.note(spare.pid)
            return
        zygote.drop_spare()
        if spare.pid:
            self._warden.forget(spare.pid)
        if message["op"] == "unforkable":
            self._unforkable.add(key)

    def _forks(self, key: str) -> list[Worker]:
        """The workers of a zygote, and those that it is asked for."""
        live = self.by_number.values()
        return [w for w in live if w.pool.function.zygote == key and w.child.serial not in self._processes]

    def _on_forked(self, worker: Worker) -> None:
        if worker.ready:  # what it was told meanwhile it may not have heard
            worker.pool.prepared.add(time.monotonic() - worker.started)
            self._signal(worker)
        self._limit_memory(worker)
        if worker.state is State.STOPPING or worker.death:
            self.kill(worker, worker.death)

    def _limit_memory(self, worker: Worker) -> None:
        limit = worker.pool.spec.resources.memory_limit
        if (limit is None and self._house.users is None) or not worker.pid:
            return
        try:
            worker.limit = system.MemoryLimit(f"{os.getpid()}-{worker.child.serial}", limit)
            self._warden.note(worker.limit.path)
            worker.limit.add(worker.pid)
        except OSError as error:
            if limit is not None:
                self._notice(worker, f"{worker.pool.spec.tag}: no hard memory limit on this machine ({error})")

    def _on_worker_message(self, worker: Worker) -> None:
        for message, _ in worker.child.channel.receive_available():
            op = message["op"]
            if op == "ready":
                self._on_ready(worker)
            elif op == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
            elif op == "free":
                self._overseer.on_free(message["lease"])
            elif op == "cut":
                self._overseer.on_cut(message["lease"])
            elif op == "unheeded":
                self.kill(worker, {**CANCELLED, "call": message["call"], "input": message["input"]})
            elif op == "protocol_error":
                self._notice(worker, f"{worker.name}: a client sent bytes that are no frame: {message['text']}")
        if worker.child.channel.ended:
            self._loop.remove_reader(worker.child.channel)

    def _on_ready(self, worker: Worker) -> None:
        zygote = self._zygotes.get(worker.pool.function.zygote)
        if zygote and worker.child.serial not in self._processes:
            zygote.served.add(worker.pool.function.key)
        if worker.ready:
            return
        for timer in worker.timers:
            timer.cancel()
        worker.timers.clear()
        worker.ready = True
        worker.pool.broken = False
        if worker.state is State.STARTING:
            worker.state = State.IDLE
            worker.idle_since = time.monotonic()
        worker.pool.prepared.add(time.monotonic() - worker.started)
        self._watch_timeout(worker)
        self._overseer.on_ready(worker)

    def _watch_timeout(self, worker: Worker) -> None:
        """Look again at the first moment at which an input could be over its time; exact without polling."""
        if worker.number not in self.by_number:
            return
        spec = worker.pool.spec
        limit = spec.timeout
        if all(method.web for method in spec.methods):  # it ends them itself, each for its own
            limit += _WEB_PATIENCE
        slot = worker.slot()
        now = time.monotonic()
        due = slot.started + limit if slot.running else now + limit
        if slot.running and due <= now and worker.slot()[:3] == slot[:3]:
            self.kill(worker, {"kind": "timeout", "text": f"it ran longer than timeout={spec.timeout:g} s"})
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
            system.kill_group(worker.pid)
            return
        # Its zygote does not get round to forking it: the code hangs while it is imported.
        key = worker.pool.function.zygote
        zygote = self._zygotes.get(key)
        if zygote and not any(other.pid for other in self._forks(key)):
            zygote.death = reason
            zygote.process.popen.kill()
        self._on_exit(worker, {})

    def stop(self, worker: Worker, interrupt: bool = False, preempt: bool = False) -> None:
        """Let a worker run its `@exit` hooks and leave.

        Args:
            interrupt: cancel what it runs.
            preempt: give back what was cancelled so, to be run elsewhere.
        """
        worker.state = State.STOPPING
        self.tell(worker, {"op": "stop", "interrupt": interrupt, "preempt": preempt}, urgent=interrupt)
        seconds = self._exit_patience
        reason = {"kind": "stopped", "text": f"its @exit hooks took longer than {seconds:g} s"}
        worker.timers.append(self._loop.call_later(seconds, self.kill, worker, reason))

    def send_away(self, worker: Worker) -> None:
        """End a worker soon, whatever it does."""
        if worker.ready:
            self.stop(worker, interrupt=True)
        else:
            self.kill(worker, STOPPED)

    def _on_exit(self, worker: Worker, end: dict[str, Any]) -> None:
        """A worker's process has ended, or will never be."""
        if self.by_number.get(worker.number) is not worker:
            return
        number = worker.number
        del self.by_number[number]
        if worker.pid:
            system.kill_group(worker.pid)  # children that it left behind
            self._warden.forget(worker.pid)
        for timer in worker.timers:
            timer.cancel()
        # What it said last may still be unread.
        for message, _ in worker.child.channel.receive_available():
            if message["op"] == "failed":
                worker.death = {"kind": "startup", "error": message["error"]}
        slot = worker.slot()
        self._forget_child(worker)
        death = {"kind": "exit", **end, **worker.death, "worker": worker.name}
        if slot.running:
            death = {"call": slot.call, "input": slot.input, "ran": time.monotonic() - slot.started, **death}
        if worker.limit:
            if worker.limit.was_hit() and not worker.death and end.get("signal") == signal.SIGKILL:
                death.update(kind="oom", limit_mb=worker.pool.spec.resources.memory_limit)
            system.remove_cgroup(worker.limit.path)
            self._warden.forget(worker.limit.path)
        if worker.child.user:
            system.kill_user(worker.child.user)
        pool = worker.pool
        pool.workers.remove(worker)
        pool.done += slot.done
        pool.ran.include(worker.child.slot.times(), slot.busy + slot.beside)
        pool.busy += slot.busy
        pool.lived += time.monotonic() - worker.started
        self._free_numbers.append(number)
        self._overseer.show(pool.function.session, {"op": "ended", "worker": number, "function": pool.spec.tag})
        self._overseer.on_death(worker, death)

    def _on_load_failed(self, key: str, error: str) -> None:
        for worker in list(self.by_number.values()):
            if worker.pool.function.key == key and worker.state is State.STARTING:
                worker.death = worker.death or {"kind": "startup", "error": error}
                if not worker.pid:
                    self._on_exit(worker, {})

    def _on_zygote_end(self, key: str, zygote: Zygote, end: dict[str, Any]) -> None:
        del self._zygotes[key]
        if zygote.spare and zygote.spare.pid:
            self._warden.forget(zygote.spare.pid)
        zygote.close()
        self._forget_users(zygote.process)
        self._warden.forget(zygote.process.popen.pid)
        zygote.process.logs.close()
        for worker in self._forks(key):
            if zygote.proved and not worker.pid:
                self._give_another(worker)
            elif worker.ready:  # it has ended with its parent, or does now
                self._on_exit(worker, end)
            else:
                text = "the process that imports its code ended"
                self._on_exit(worker, {**end, "kind": "startup", "text": text, **zygote.death})

    def _forget_users(self, process: Process) -> None:
        if self._house.users:
            self._house.users.remove_home(process.first_user)

    def _notice(self, worker: Worker, text: str) -> None:
        self._overseer.show(worker.pool.function.session, {"op": "notice", "text": text})

    # -- the end

    def dismiss(self, session: str) -> None:
        """A session has no worker any more: its zygotes leave by themselves."""
        for zygote in self._zygotes.values():
            if zygote.process.function.session == session:
                zygote.drop_spare()
                zygote.leave()

    def kill_all(self) -> None:
        """Grace is over: end everything that is left by force."""
        for worker in list(self.by_number.values()):
            self.kill(worker, STOPPED)
        for zygote in self._zygotes.values():
            zygote.process.popen.kill()

    def close(self) -> None:
        """End the zygotes, when no worker is left."""
        for zygote in self._zygotes.values():
            zygote.close()
        for zygote in self._zygotes.values():
            zygote.process.reap(1.0)
