"""A worker with an event loop: for async functions, and for several inputs at a time.

Coroutines run as tasks on the main thread's loop, synchronous methods in threads. Several clients may hold leases on
one such worker; however many inputs they send, no more than `max_inputs` run.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import inspect
import socket
import sys
import threading
import time
from contextlib import AbstractContextManager, contextmanager
from typing import Any, AsyncIterator, Callable, Iterator, Sequence

from cloudfn import execution, remote_error
from cloudfn.exception import FunctionTimeoutError, InputCancellation, ProtocolError
from cloudfn.execution import InputContext
from cloudfn.serialization import Encoder
from cloudfn.spec import MethodSpec
from cloudfn.stream import FrameStream
from cloudfn.wire import (
    CANCELLED,
    CREDIT,
    END,
    INPUT,
    PIECE,
    RELEASE,
    RESULT,
    RESUME,
    YIELD,
    Frame,
    FrameReader,
    encode,
)
from cloudfn_agent import web_apps
from cloudfn_agent.lease import CLIENT_TYPES, Kept
from cloudfn_agent.serial import check_batch, columns
from cloudfn_agent.threads import Threads
from cloudfn_agent.web_conversation import Conversation
from cloudfn_agent.work import Job, Work, encode_result, error_frame, jobs, load_arguments

_DONE = object()


class LoopLease:
    """One client's connection to this worker."""

    def __init__(self, worker: LoopWorker, token: str) -> None:
        self.token = token
        self.kept = Kept()
        self._worker = worker
        self._stream: FrameStream | None = None
        self._corked: list[Any] | None = None  # what follows the first frame of this turn of the loop

    def attach(self, fd: int) -> None:
        """Speak over this socket from now on; frames that were kept over a cut go out when the client resumes."""
        if self._stream:
            self._stream.close()
        self.kept.live = False
        self._corked = None
        sock = socket.socket(fileno=fd)
        self._stream = FrameStream(
            self._worker.loop,
            sock,
            lambda frames: self._worker.on_frames(self, frames),
            lambda error: self._worker.on_cut(self, error),
            FrameReader(types=CLIENT_TYPES),
        )
        self._stream.start()

    def send(self, job: Job, type: int, body: bytes, flags: int = 0, ack: int = 0, buffers: Sequence[Any] = ()) -> None:
        """A frame for the client of an input."""
        seq = self.kept.next_seq()
        if not buffers:
            pieces = encode(type, body, flags=flags, seq=seq, ack=ack, index=job.input, call=job.call)
        else:
            # Not through shared memory what is yielded: what a socket holds back is how a slow consumer slows us.
            pieces = self._worker.segments.encode(
                type,
                body,
                buffers,
                shares=self.kept.shares and type != YIELD,
                flags=flags,
                seq=seq,
                ack=ack,
                index=job.input,
                call=job.call,
            )
            # A method may go on to change an array that waits in the stream, or that is kept: those are copied.
            pieces = [bytes(piece) if isinstance(piece, memoryview) else piece for piece in pieces]
        self.kept.add(pieces, job.call, job.input, 1 if type == RESULT else 0)
        self._send_now(pieces)

    def send_error(self, job: Job, error: BaseException, micros: int) -> None:
        pieces = error_frame(job, error, self.kept.next_seq(), micros)
        self.kept.add(pieces, job.call, job.input, 1)
        self._send_now(pieces)

    def _send_now(self, pieces: Sequence[Any]) -> None:
        if self._stream is None or not self.kept.live:
            return
        if self._corked is None:
            self._corked = []
            self._worker.loop.call_soon(self._uncork)
            self._stream.send(pieces)
        else:  # together: each `send` wakes up the client
            self._corked += pieces

    def _uncork(self) -> None:
        pieces, self._corked = self._corked, None
        if pieces and self._stream:
            self._stream.send(pieces)

    def drain(self) -> None:
        """Read what has arrived."""
        if self._stream:
            self._stream.drain()

    def give_back(self, pairs: list[tuple[int, int]], asked: bool = False) -> None:
        """Tell the client that these inputs were not begun; `asked`: and that there are none."""
        if pairs or asked:
            self._send_now(self.kept.add_returned(pairs))

    def resume(self, frame: Frame, known: set[tuple[int, int]]) -> None:
        """Send again what the client misses, and give back what never arrived here."""
        missing = self.kept.missing(frame, known)
        for pieces in self.kept.frames():
            self._send_now(pieces)
        self.give_back(missing)

    @property
    def blocked(self) -> bool:
        return self._stream is not None and (self._stream.unsent or bool(self._corked))

    def close(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None


class Running:
    """One input that was received: waiting for room, or running as a task."""

    task: asyncio.Task[None] | None = None
    entered = False  # the task has begun, so that it hears of a cancellation
    thread: int | None = None  # where its synchronous code runs
    started: float | None = None
    conversation: Conversation | None = None  # where it is a web request
    late = False  # one that has run out of time

    def __init__(self, worker: LoopWorker, lease: LoopLease, job: Job) -> None:
        self.worker = worker
        self.lease = lease
        self.job = job
        self.key = lease.token, job.call, job.input

    def send(self, type: int, body: bytes) -> None:
        self.lease.send(self.job, type, body)

    def interrupt(self) -> None:
        self.worker.interrupt(self)

    def on_this_thread(self) -> AbstractContextManager[None]:
        return self.worker.on_this_thread(self)

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return await self.worker.in_thread(self, function, *args, **kwargs)


class LoopWorker:
    """Serves any number of leases until told to stop."""

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.segments = work.segments
        self._work = work
        self._methods = work.methods()
        self._encoder = Encoder()
        self._leases: dict[str, LoopLease] = {}
        self._inputs: dict[tuple[str, int, int], Running] = {}
        self._room = asyncio.Semaphore(work.spec.scaling.max_inputs)
        self._begun: dict[Running, None] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None  # of the oldest request's timeout
        self._batches: dict[int, list[Running]] = {}
        self._batch_timers: dict[int, asyncio.TimerHandle] = {}
        self._threads = Threads(loop, max(work.spec.scaling.max_inputs, 1))
        self._thread_lock = threading.Lock()
        self._stopped = asyncio.Event()
        self._late: list[Running] = []  # came after that; given back at the end, because at once they would come again
        self._preempted = False  # the machine goes away: what is interrupted goes back, to run elsewhere
        self._busy_since = 0.0

    async def run(self) -> None:
        """Serve until told to stop or until the agent is gone; then wait for what still runs."""
        self.loop.add_reader(self._work.channel, self._read_channel)
        self._read_channel()  # what came with the first message is read already, and no poll would tell
        await self._stopped.wait()
        self.loop.remove_reader(self._work.channel)
        for lease in self._leases.values():
            waiting = [r for r in self._inputs.values() if r.lease is lease and r.started is None]
            for running in waiting:
                self._forget(running)
            lease.give_back([(r.job.call, r.job.input) for r in waiting])
        tasks = [running.task for running in self._inputs.values() if running.task]
        await asyncio.gather(*tasks, return_exceptions=True)
        for running in self._late:
            running.lease.give_back([(running.job.call, running.job.input)])
        while any(lease.blocked for lease in self._leases.values()):
            await asyncio.sleep(0.005)  # the last results are on their way out
        for lease in self._leases.values():
            lease.close()
        self._threads.stop()

    # -- what arrives

    def _read_channel(self) -> None:
        for message, fds in self._work.channel.receive_available():
            op = message["op"]
            if op == "lease":
                lease = self._leases.setdefault(message["lease"], LoopLease(self, message["lease"]))
                lease.attach(fds[0])
            elif op == "cancel":
                self._cancel(message["call"], message.get("input"), message["patience"])
            elif op == "recall":
                for lease in list(self._leases.values()):
                    self._give_back(lease)
            elif op == "drop":
                self._on_drop(message["lease"])
            elif op == "stop":
                self._preempted |= message["preempt"]
                self._stop(message["interrupt"])
        if self._work.channel.ended:  # the agent has died
            self._stop(True)

    def _on_drop(self, token: str) -> None:
        if token in self._leases:
            self._drop(self._leases[token])
        else:  # its client went away before it came here
            self._work.channel.send({"op": "free", "lease": token})

    def _stop(self, interrupt: bool) -> None:
        self._stopped.set()
        if interrupt:
            for running in list(self._inputs.values()):
                self.interrupt(running)

    def on_frames(self, lease: LoopLease, frames: list[Frame]) -> None:
        try:
            for frame in frames:
                self._on_frame(lease, frame)
        except ProtocolError as error:
            self.on_cut(lease, error)

    def _on_frame(self, lease: LoopLease, frame: Frame) -> None:
        lease.kept.accept(frame)
        if frame.type == INPUT:
            if not frame.items:
                frame = self.segments.open(frame)
            for job in jobs(frame, len(self._methods)):
                self._accept(lease, job)
        elif frame.type == RESUME:
            known = {(r.job.call, r.job.input) for r in self._inputs.values() if r.lease is lease}
            lease.resume(frame, known)
        elif frame.type in (PIECE, CREDIT):
            running = self._inputs.get((lease.token, frame.call, frame.first))
            if running and running.conversation:
                running.conversation.take(frame)
        elif frame.type == RELEASE:
            self._drop(lease)

    def on_cut(self, lease: LoopLease, error: Exception | None) -> None:
        if self._leases.get(lease.token) is not lease:
            return  # it was given up meanwhile
        lease.close()
        if isinstance(error, ProtocolError):
            self._work.channel.send({"op": "protocol_error", "lease": lease.token, "text": str(error)})
        self._work.channel.send({"op": "cut", "lease": lease.token})

    def _drop(self, lease: LoopLease) -> None:
        lease.close()
        self._leases.pop(lease.token, None)
        for running in [r for r in self._inputs.values() if r.lease is lease]:
            self.interrupt(running)
        self._work.channel.send({"op": "free", "lease": lease.token})

    def _accept(self, lease: LoopLease, job: Job) -> None:
        running = Running(self, lease, job)
        if self._stopped.is_set():
            self._late.append(running)
            return
        self._inputs[running.key] = running
        method = self._methods[job.method][0]
        if method.web:
            running.conversation = Conversation(self.loop, job.payload, running.send, running.interrupt)
        if method.max_batch_size:
            self._add_to_batch(running, method)
        else:
            self._start([running])

    def _start(self, batch: list[Running]) -> None:
        """Have inputs run in one call, once there is room."""
        task = self.loop.create_task(self._serve(batch))
        for running in batch:
            running.task = task

    def _add_to_batch(self, running: Running, method: MethodSpec) -> None:
        number = running.job.method
        batch = self._batches.setdefault(number, [])
        batch.append(running)
        if len(batch) >= (method.max_batch_size or 1):
            self._start_batch(number)
        elif len(batch) == 1:
            self._batch_timers[number] = self.loop.call_later(method.batch_wait_ms / 1000, self._start_batch, number)

    def _start_batch(self, number: int) -> None:
        timer = self._batch_timers.pop(number, None)
        if timer:
            timer.cancel()
        batch = self._batches.pop(number, [])
        if batch:
            self._start(batch)

    def _cancel(self, call: int, index: int | None, patience: float) -> None:
        for running in list(self._inputs.values()):
            if running.job.call == call and index in (None, running.job.input):
                self.interrupt(running)
                self.loop.call_later(patience, self._complain, running)

    def _complain(self, running: Running) -> None:
        """An input was cancelled and runs on (a thread in a blocking call does): the agent must kill this process."""
        if running.started is not None:
            self._work.channel.send({"op": "unheeded", "call": running.job.call, "input": running.job.input})

    def interrupt(self, running: Running) -> None:
        execution.cancelled(InputContext(running.job.call, running.job.input))
        with self._thread_lock:  # so that the thread cannot turn to another input meanwhile
            if running.thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(running.thread), ctypes.py_object(InputCancellation)
                )
                return
        if running.task:
            running.task.cancel()
            if not running.entered:  # nothing of it will ever run, not even what would answer
                for other in [other for other in self._inputs.values() if other.task is running.task]:
                    self._answer_cancelled(other)
        elif self._inputs.get(running.key) is running:  # it waits in a batch
            self._batches.get(running.job.method, [running]).remove(running)
            self._answer_cancelled(running)

    def _give_back(self, lease: LoopLease) -> None:
        """Return every input that is not begun, also those that the kernel still holds."""
        lease.drain()
        waiting = [r for r in self._inputs.values() if r.lease is lease and r.started is None and r.task]
        for running in waiting:
            self._forget(running)
        lease.give_back([(r.job.call, r.job.input) for r in waiting], asked=True)

    def _forget(self, running: Running) -> None:
        self._inputs.pop(running.key, None)
        if running.task:
            running.task.cancel()

    # -- what runs

    async def _serve(self, batch: list[Running]) -> None:
        started = time.monotonic()
        for running in batch:
            running.entered = True
        try:
            await self._room.acquire()  # not `async with`, which makes two coroutines more
            started = time.monotonic()
            self._begin(batch, started)
            try:
                await self._run(batch)
            finally:
                self._end(batch)
                self._room.release()
        except (asyncio.CancelledError, InputCancellation):
            for running in batch:
                if self._inputs.get(running.key) is running:
                    self._answer_cancelled(running)
        except BaseException as error:  # noqa: BLE001 - whatever user code raises goes to the caller
            micros = int((time.monotonic() - started) * 1e6)
            for running in batch:
                running.lease.send_error(running.job, error, micros)
        finally:
            for running in batch:
                self._inputs.pop(running.key, None)
                running.conversation = running.task = None  # circles would wait for the garbage collector

    def _answer_cancelled(self, running: Running) -> None:
        self._inputs.pop(running.key, None)
        if running.late:
            spec, title = self._work.spec, self._work.title(self._methods[running.job.method][0])
            error = FunctionTimeoutError(
                f"{title} ran longer than its timeout of {spec.timeout:g} s on a request",
                hint="Raise `timeout=` of the function if it may take that long.",
            )
            running.lease.send_error(running.job, error, int(spec.timeout * 1e6))
            return
        if self._preempted:
            method, said = self._methods[running.job.method][0], running.conversation and running.conversation.begun
            if not method.is_generator and not said:  # its caller has some of what it yields
                running.lease.give_back([(running.job.call, running.job.input)])
            return
        running.lease.send(running.job, RESULT, b"", flags=CANCELLED)

    async def _run(self, batch: list[Running]) -> None:
        job = batch[0].job
        method, function = self._methods[job.method]
        started = batch[0].started or time.monotonic()
        execution.running.set(InputContext(job.call, job.input))
        if method.web:
            await self._answer(batch[0], method, started)
            return
        title = self._work.title(method)
        args: Any
        kwargs: Any
        value: Any
        if method.max_batch_size:
            args, kwargs = columns([load_arguments(running.job) for running in batch], title)
        else:
            args, kwargs = load_arguments(job)
        if method.is_generator:
            async for item in self._items(batch[0], function, args, kwargs):
                data, buffers = encode_result(self._encoder, item, title)
                batch[0].lease.send(job, YIELD, data, buffers=buffers)
                await asyncio.sleep(0)  # one that never waits must not keep the loop from what else there is
                while batch[0].lease.blocked:  # the consumer is behind
                    await asyncio.sleep(0.001)
            value, status = None, END
        else:
            value, status = await self._value(batch[0], function, args, kwargs), 0
        await self._settle(batch)
        micros = int((time.monotonic() - started) * 1e6)
        if method.max_batch_size:
            check_batch(value, len(batch), title)
            for running, item in zip(batch, value):  # noqa: B905 - `check_batch` has counted
                if isinstance(item, Exception):
                    running.lease.send_error(running.job, item, micros)
                else:
                    self._send_value(running, item, title, 0, micros // len(batch))
        else:
            self._send_value(batch[0], value, title, status, micros)

    async def _answer(self, running: Running, method: MethodSpec, started: float) -> None:
        """A web request."""
        assert running.conversation and self._work.web
        web_apps.request.set(running)
        lifespan = self._work.web.by_method[method.name]
        if self._timer is None:
            self._timer = self.loop.call_later(self._work.spec.timeout, self._look_at_time)
        try:
            body = await running.conversation.run(lifespan.app, lifespan.state)
        except Exception as error:
            text = remote_error.render(error, web_apps.is_machinery)
            sys.stderr.write(f"{self._work.title(method)}: a request failed\n{text}")
            raise
        if self._work.settle:
            await self._settle([running])
        micros = min(int((time.monotonic() - started) * 1e6), 0xFFFFFFFF)
        running.lease.send(running.job, RESULT, body, ack=micros)

    def _look_at_time(self) -> None:
        """Interrupt requests that have run out of time: the agent would kill the worker, and with it those beside. One
        timer for all, as they have one `timeout`; most have long ended when it comes."""
        timeout, now = self._work.spec.timeout, time.monotonic()
        self._timer = None
        for running in [running for running in self._begun if running.conversation and not running.late]:
            rest = (running.started or now) + timeout - now
            if rest > 0:
                self._timer = self.loop.call_later(rest, self._look_at_time)
                return
            running.late = True
            self.interrupt(running)

    async def _settle(self, batch: list[Running]) -> None:
        """Commit to volumes where no other input could be in the midst of a file; the last one commits for all."""
        if self._work.settle and len(self._begun) == len(batch):
            await self.loop.run_in_executor(None, self._work.settle)

    def _send_value(self, running: Running, value: Any, title: str, status: int, micros: int) -> None:
        job = running.job
        data, buffers = (b"", ()) if status == END else encode_result(self._encoder, value, title)
        ack = min(micros, 0xFFFFFFFF)
        running.lease.send(job, RESULT, data, flags=status, ack=ack, buffers=buffers)

    async def _value(self, running: Running, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        value = await self.in_thread(running, function, *args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    async def _items(
        self, running: Running, function: Callable[..., Any], args: Any, kwargs: Any
    ) -> AsyncIterator[Any]:
        if inspect.isasyncgenfunction(function):
            async for item in function(*args, **kwargs):
                yield item
            return
        iterator = iter(function(*args, **kwargs))
        while (item := await self.in_thread(running, next, iterator, _DONE)) is not _DONE:
            yield item

    async def in_thread(self, running: Running, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        context = contextvars.copy_context()

        def call() -> Any:
            with self.on_this_thread(running):
                return context.run(function, *args, **kwargs)

        return await self._threads.run(call)

    @contextmanager
    def on_this_thread(self, running: Running) -> Iterator[None]:
        """Code of this input runs on the current thread, where a cancellation interrupts it."""
        with self._thread_lock:
            running.thread = threading.get_ident()
        try:
            yield
        finally:
            with self._thread_lock:
                running.thread = None

    # -- what the agent sees

    def _begin(self, batch: list[Running], now: float) -> None:
        if not self._begun:
            self._busy_since = now
        for running in batch:
            running.started = now
            self._begun[running] = None
        self._show()

    def _end(self, batch: list[Running]) -> None:
        now = time.monotonic()
        times = [now - running.started for running in batch if running.started is not None]
        for running in batch:
            running.started = None
            del self._begun[running]
        busy = 0.0 if self._begun else now - self._busy_since
        self._work.slot.end_some(now, busy, len(self._begun), times)
        if execution.on_ended is not None:
            for running in batch:
                execution.on_ended(running.job.call, running.job.input)
        if self._begun:
            self._show()

    def _show(self) -> None:
        oldest = next(iter(self._begun))
        self._work.slot.begin(oldest.started or 0.0, oldest.job.call, oldest.job.input, len(self._begun))
