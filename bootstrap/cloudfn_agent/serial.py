"""A worker that runs one synchronous input at a time, on its main thread.

Between inputs it waits on its channel and its lease. While user code runs nobody reads either, so the agent follows a
message with SIGUSR1, whose handler runs on the main thread between two of the user's bytecodes: it may raise
`InputCancellation` there, and it gives back inputs that wait behind a long one.
"""

from __future__ import annotations

import select
import signal
import socket
import time
from collections import deque
from typing import Any, Sequence

from cloudfn import execution
from cloudfn.exception import InputCancellation, ProtocolError
from cloudfn.execution import InputContext
from cloudfn.serialization import Encoder
from cloudfn.wire import (
    CANCELLED,
    END,
    INPUT,
    RELEASE,
    RESULT,
    RESUME,
    YIELD,
    Frame,
    encode,
    pack_items,
)
from cloudfn_agent import output
from cloudfn_agent.lease import SerialLease
from cloudfn_agent.work import FLUSH_BYTES, Job, Work, encode_result, error_frame, jobs, load_arguments

_FLUSH_SECONDS = 0.001  # results of faster inputs leave together
_SLOW = 0.0002  # seconds; the result of an input that took longer does not wait for others


class SerialWorker:
    """Serves leases, one after the other, until it is told to stop."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._channel = work.channel
        self._methods = work.methods()
        self._encoder = Encoder()
        self._queue: deque[Job] = deque()
        self._lease: SerialLease | None = None
        self._stopping = False
        self._in_user_code = False
        self._current: Job | None = None
        self._taken: list[Job] = []  # off the queue for one call of a `@batched` function, which `_current` stands for
        self._cancelled = False  # the current job is
        self._interrupted = False  # and user code has been told
        self._to_free: list[str] = []  # leases that ended while an input of theirs still ran
        self._batch: list[bytes] = []  # pickled results that wait to be sent together
        self._batch_first: Job | None = None
        self._batch_bytes = 0
        self._batch_started = 0.0
        self._preempted = False  # the machine goes away: what is interrupted goes back, to run elsewhere
        self._attention = False  # a signal came while our own code ran

    def run(self) -> None:
        """Serve until told to stop or until the agent is gone."""
        signal.signal(signal.SIGUSR1, self._on_signal)
        self._read_channel()  # what came with the first message is read already, and no poll would tell
        while (job := self._next_job()) is not None:
            method = self._methods[job.method][0]
            if method.is_generator:
                self._run_generator(job)
            elif method.max_batch_size:
                self._run_batch(self._collect_batch(job))
            else:
                self._run_job(job)
        self._flush()
        if self._lease:
            self._lease.give_back([(job.call, job.input) for job in self._queue])
            self._lease.close()

    # -- what arrives

    def _next_job(self) -> Job | None:
        if self._attention:
            self._attention = False
            self._read_channel()
        while self._to_free:  # not sooner: the agent gives us to the next client at once
            self._flush()
            self._channel.send({"op": "free", "lease": self._to_free.pop()})
        if self._queue and not self._stopping:
            if time.monotonic() - self._batch_started > _FLUSH_SECONDS:
                self._flush()
            return self._queue.popleft()
        self._flush()
        output.flush()
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        watched: socket.socket | None = None
        while not self._stopping:
            connection = self._connection()
            if connection is not watched:
                poll = select.poll()
                poll.register(self._channel, select.POLLIN)
                watched = connection
                if watched:
                    poll.register(watched, select.POLLIN)
            for fd, _ in poll.poll():
                if fd == self._channel.fileno():
                    self._read_channel()
                elif watched is self._connection():
                    self._read_lease(wait=False)  # a message on the channel may have had it read already
            if self._queue and not self._stopping:
                return self._queue.popleft()
        return None

    def _connection(self) -> socket.socket | None:
        """The client's, if there is one that holds; the agent hears of one that does not."""
        lease = self._lease
        if lease is None:
            return None
        if lease.sock is None and not lease.mourned:
            lease.mourned = True
            self._channel.send({"op": "cut", "lease": lease.token})
        return lease.sock

    def _read_lease(self, wait: bool = True) -> None:
        lease = self._lease
        assert lease is not None
        try:
            for frame in lease.receive(wait):
                self._on_frame(lease, frame)
        except ProtocolError as error:
            self._channel.send({"op": "protocol_error", "lease": lease.token, "text": str(error)})
            lease.cut()

    def _on_frame(self, lease: SerialLease, frame: Frame) -> None:
        lease.kept.accept(frame)
        if frame.type == INPUT:
            if not frame.items:
                frame = self._work.segments.open(frame)
            self._queue.extend(jobs(frame, len(self._methods)))
        elif frame.type == RESUME:
            self._flush()  # what has ended is known by the frame that says so
            known = {(job.call, job.input) for job in (*self._queue, *self._taken)}
            if self._current:
                known.add((self._current.call, self._current.input))
            lease.answer_resume(frame, known)
        elif frame.type == RELEASE:
            self._drop_lease(lease)

    def _drop_lease(self, lease: SerialLease) -> None:
        lease.close()
        self._queue.clear()
        self._batch, self._batch_first, self._batch_bytes = [], None, 0
        self._work.segments.drop_unused()
        if self._lease is lease:
            self._lease = None
        if self._current is None:
            self._channel.send({"op": "free", "lease": lease.token})
        else:
            self._cancelled = True  # nobody is left who wants its result
            self._to_free.append(lease.token)

    def _read_channel(self) -> None:
        for message, fds in self._channel.receive_available():
            op = message["op"]
            if op == "lease":
                if self._lease and self._lease.token == message["lease"]:
                    self._lease.resume(fds[0])
                else:
                    self._lease = SerialLease(fds[0], message["lease"])
            elif op == "cancel":
                self._cancel(message["call"], message.get("input"))
            elif op == "recall":
                self._give_back()
            elif op == "drop":
                self._on_drop(message["lease"])
            elif op == "stop":
                self._stopping = True
                self._cancelled |= message["interrupt"]
                self._preempted |= message["preempt"]
        if self._channel.ended:  # the agent has died
            self._stopping = self._cancelled = True

    def _on_drop(self, token: str) -> None:
        if self._lease and self._lease.token == token:
            self._drop_lease(self._lease)
        elif token not in self._to_free:  # its client went away before it came here
            self._channel.send({"op": "free", "lease": token})

    def _on_signal(self, _signum: int, _frame: object) -> None:
        self._attention = True
        if self._in_user_code:
            self._attend()

    def _attend(self) -> None:
        """Read the channel in the midst of user code.

        Raises:
            InputCancellation: the running input is cancelled; once for each input, so that no handler of ours is hit.
        """
        self._in_user_code = False  # what follows is ours: a second signal must not enter it
        try:
            while self._attention:
                self._attention = False
                self._read_channel()
        finally:
            self._in_user_code = True
        if self._cancelled and not self._interrupted:
            self._interrupted = True
            execution.cancelled(execution.alone)
            raise InputCancellation("the call was cancelled")

    def _enter_user_code(self) -> None:
        if self._lease:
            self._lease.kept.own()
        self._in_user_code = True
        if self._attention:
            self._attend()

    def _cancel(self, call: int, index: int | None) -> None:
        """Drop queued inputs of a call (or one of them), and mark the running one: `_on_signal` then raises."""

        def hit(job: Job) -> bool:
            return job.call == call and index in (None, job.input)

        while self._lease and self._lease.readable():  # some of them may still be on their way
            self._read_lease(wait=False)
        dropped = [job for job in self._queue if hit(job)]
        for job in dropped:
            self._queue.remove(job)
            self._send_result(job, CANCELLED, b"", (), 0)
        if self._current and hit(self._current):
            self._cancelled = True

    def _give_back(self) -> None:
        """Return every input that is not begun, also those that the kernel still holds, and results held back."""
        self._flush()
        while self._lease and self._lease.readable():
            self._read_lease(wait=False)
        if self._lease:
            self._lease.give_back([(job.call, job.input) for job in self._queue], asked=True)
            self._queue.clear()

    # -- what runs

    def _run_job(self, job: Job) -> None:
        method, function = self._methods[job.method]
        started = time.monotonic()
        token = self._begin(job, started)
        try:
            args, kwargs = load_arguments(job)
            try:
                self._enter_user_code()
                value = function(*args, **kwargs)
            finally:
                self._in_user_code = False
            del args, kwargs
            if self._work.settle:
                self._work.settle()
            data, buffers = encode_result(self._encoder, value, self._work.title(method))
        except BaseException as error:  # noqa: BLE001 - whatever user code raises goes to the caller
            self._in_user_code = False
            self._work.settle_failed()
            self._end(job, started, token)
            self._send_error(job, error, started)
            return
        ended = self._end(job, started, token)
        if buffers or len(data) > FLUSH_BYTES or ended - started > _SLOW:
            self._send_result(job, 0, data, buffers, int((ended - started) * 1e6))
        else:
            self._add_result(job, data, started)

    def _begin(self, job: Job, started: float) -> Any:
        """Returns what `_end` needs."""
        execution.alone = context = InputContext(job.call, job.input)
        self._current = job
        self._work.slot.begin(started, job.call, job.input)
        return execution.running.set(context)

    def _end(self, job: Job, started: float, token: Any) -> float:
        ended = time.monotonic()
        self._current = None
        self._cancelled = self._interrupted = False
        self._work.slot.end(ended, ended - started)
        if execution.on_ended is not None:
            execution.on_ended(job.call, job.input)
        execution.running.reset(token)
        return ended

    def _run_generator(self, job: Job) -> None:
        method, function = self._methods[job.method]
        started = time.monotonic()
        token = self._begin(job, started)
        try:
            args, kwargs = load_arguments(job)
            try:
                self._enter_user_code()
                for value in function(*args, **kwargs):
                    self._in_user_code = False
                    data, buffers = encode_result(self._encoder, value, self._work.title(method))
                    self._send_yield(job, data, buffers)
                    self._enter_user_code()
            finally:
                self._in_user_code = False
            if self._work.settle:
                self._work.settle()
        except BaseException as error:  # noqa: BLE001 - whatever user code raises goes to the caller
            self._in_user_code = False
            self._work.settle_failed()
            self._end(job, started, token)
            self._send_error(job, error, started)
            return
        ended = self._end(job, started, token)
        self._send_result(job, END, b"", (), int((ended - started) * 1e6))

    def _collect_batch(self, first: Job) -> list[Job]:
        """Inputs for one call of a `@batched` function: up to its size, waiting no longer than it says."""
        method = self._methods[first.method][0]
        self._taken = batch = [first]
        deadline = time.monotonic() + method.batch_wait_ms / 1000
        while len(batch) < (method.max_batch_size or 1):
            if self._queue:
                if self._queue[0].method != first.method:
                    break
                batch.append(self._queue.popleft())
                continue
            wait = deadline - time.monotonic()
            if wait <= 0 or self._stopping or self._lease is None or self._lease.sock is None:
                break
            ready = select.select([self._channel.sock, self._lease.sock], [], [], wait)[0]
            if self._channel.sock in ready:
                self._read_channel()
            elif ready:
                self._read_lease()
        return batch

    def _run_batch(self, batch: list[Job]) -> None:
        method, function = self._methods[batch[0].method]
        title = self._work.title(method)
        started = time.monotonic()
        token = self._begin(batch[0], started)
        try:
            args, kwargs = columns([load_arguments(job) for job in batch], title)
            try:
                self._enter_user_code()
                values = function(*args, **kwargs)
            finally:
                self._in_user_code = False
            if self._work.settle:
                self._work.settle()
            check_batch(values, len(batch), title)
            encoded = [encode_result(self._encoder, value, title) for value in values]
        except BaseException as error:  # noqa: BLE001 - whatever user code raises goes to every caller of the batch
            self._in_user_code = False
            self._work.settle_failed()
            self._end_batch(batch, started, token)
            for job in batch:
                self._send_error(job, error, started)
            self._taken = []
            return
        ended = self._end_batch(batch, started, token)
        share = int((ended - started) * 1e6 / len(batch))
        self._taken = []
        for job, value, (data, buffers) in zip(batch, values, encoded):  # noqa: B905 - `check_batch` has counted
            if isinstance(value, Exception):  # a batched function may fail some of its inputs by returning exceptions
                self._send_error(job, value, started)
            else:
                self._send_result(job, 0, data, buffers, share)

    def _end_batch(self, batch: list[Job], started: float, token: Any) -> float:
        ended = self._end(batch[0], started, token)
        self._work.slot.end_some(ended, 0.0, 0, [ended - started] * (len(batch) - 1))
        return ended

    # -- what leaves

    def _add_result(self, job: Job, data: bytes, started: float) -> None:
        first = self._batch_first
        if first is not None and (
            job.call != first.call
            or job.input != first.input + len(self._batch)
            or self._batch_bytes > FLUSH_BYTES
            or len(self._batch) >= 4096
        ):
            self._flush()
            first = None
        if first is None:
            self._batch_first = job
            self._batch_started = started
        self._batch.append(data)
        self._batch_bytes += len(data)

    def _flush(self) -> None:
        first = self._batch_first
        if first is None:
            return
        batch, self._batch, self._batch_first, self._batch_bytes = self._batch, [], None, 0
        body = batch[0] if len(batch) == 1 else pack_items(batch)
        micros = int((time.monotonic() - self._batch_started) * 1e6)
        self._send(RESULT, body, (), first, 0, len(batch), micros)

    def _send_result(self, job: Job, status: int, data: bytes, buffers: Sequence[Any], micros: int) -> None:
        self._flush()
        self._send(RESULT, data, buffers, job, status, 1, micros)

    def _send_yield(self, job: Job, data: bytes, buffers: Sequence[Any]) -> None:
        lease = self._lease
        if lease:
            # Not through shared memory: what a socket holds back is how a slow consumer slows us.
            seq = lease.kept.next_seq()
            lease.send(encode(YIELD, data, seq=seq, index=job.input, call=job.call, buffers=buffers))

    def _send_error(self, job: Job, error: BaseException, started: float) -> None:
        self._flush()
        lease = self._lease
        if lease is None:
            return
        micros = int((time.monotonic() - started) * 1e6)
        if isinstance(error, InputCancellation) and self._preempted:
            if not self._methods[job.method][0].is_generator:  # its caller has some of what it yields
                lease.give_back([(job.call, job.input)])
            return
        if isinstance(error, InputCancellation):
            self._send(RESULT, b"", (), job, CANCELLED, 1, micros)
            return
        lease.send(error_frame(job, error, lease.kept.next_seq(), micros), job.call, job.input, 1)

    def _send(
        self, type: int, body: bytes, buffers: Sequence[Any], first: Job, status: int, count: int, micros: int
    ) -> None:
        lease = self._lease
        if lease is None:  # the client let go while the input ran: nobody wants the result
            return
        seq = lease.kept.next_seq()
        pieces = self._work.segments.encode(
            type,
            body,
            buffers,
            shares=lease.kept.shares,
            flags=status,
            count=count,
            seq=seq,
            ack=min(micros, 0xFFFFFFFF),
            index=first.input,
            call=first.call,
        )
        lease.send(pieces, first.call, first.input, count)


def columns(
    arguments: Sequence[tuple[tuple[Any, ...], Any]], title: str
) -> tuple[list[list[Any]], dict[str, list[Any]]]:
    """Turn the calls of a batch into lists, one for each parameter.

    Raises:
        TypeError: the calls do not pass the same parameters.
    """
    args, kwargs = arguments[0]
    shape = (len(args), sorted(kwargs))
    for other_args, other_kwargs in arguments:
        if (len(other_args), sorted(other_kwargs)) != shape:
            raise TypeError(f"the calls batched for {title} must pass the same parameters in the same way")
    return (
        [[call[0][i] for call in arguments] for i in range(len(args))],
        {name: [call[1][name] for call in arguments] for name in kwargs},
    )


def check_batch(values: Any, count: int, title: str) -> None:
    """Raises TypeError or ValueError when a batched function did not return one value for each input."""
    if not isinstance(values, list):
        raise TypeError(f"batched function {title} must return a list, not {type(values).__name__}")
    if len(values) != count:
        raise ValueError(f"batched function {title} returned {len(values)} values for {count} inputs")
