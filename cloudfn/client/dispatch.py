"""Brings the inputs of one pool of workers to leases, and what comes back to calls.

Everything here runs on the reactor's thread, but for `take` and `give_back`, by which a caller's own thread borrows an
idle lease for one blocking call.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Sequence

from cloudfn import wire
from cloudfn.client.call import Call, Input, Outcome, cancelled_by_worker, failed
from cloudfn.client.death import MAX_DEATHS, MAX_MOVES, death_error, is_blamed, startup_error
from cloudfn.client.demand import SPAWN_WORTH, wanted
from cloudfn.client.lease import STALL, WORKER_TYPES, Lease
from cloudfn.connect import LeaseGone, connect_async
from cloudfn.exception import AuthError, ConnectionError, DeadlockError, NotFoundError, ProtocolError
from cloudfn.stream import FrameStream
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    import socket

    from cloudfn.client.session import Session
    from cloudfn.spec import FunctionSpec

LINGER = 1.0  # seconds that an idle lease is kept
_REVIEW = 0.005  # seconds between looks at work that waits; grows while nothing changes
_MAX_REVIEW = 0.1
_SETTLE = 0.01  # seconds after a worker was granted in which no more are asked for: its first inputs take longest
_MAX_WANTS = 128  # at a time; more are asked for as these are granted
_BATCH_BYTES = 1 << 20
_MEMORY = 0.9  # how much what was known weighs against the next answer
_REATTACH_TRIES = 400
_REATTACH_DELAY = 0.01


class Dispatcher:
    """The client's side of one pool: a function (or class) with one set of parameters.

    Args:
        key: what the function is registered as at the agent.
        parameters: the instance's pickled parameters.
    """

    def __init__(self, session: Session, key: str, spec: FunctionSpec, parameters: bytes) -> None:
        self.key = key
        self.spec = spec
        self.parameters = parameters
        self.overrides: Any = None
        self.methods = {method.name: number for number, method in enumerate(spec.methods)}
        self.done = 0
        self.failed = 0
        self._session = session
        self._loop = session.reactor.loop
        self._lock = threading.Lock()
        self._idle: list[Lease] = []  # under the lock
        self._leases: dict[str, Lease] = {}
        self._ended: BaseException | None = None
        self._pending: deque[Input] = deque()
        self._delayed: set[Input] = set()  # inputs that wait for a retry
        self._wants: set[int] = set()  # requests at the agent
        self._review_timer: Any = None
        self._review_delay = _REVIEW
        self._linger_timer: Any = None
        self._resting: dict[Lease, FrameStream] = {}
        self._rest_timer: Any = None
        self._results: dict[Call, list[tuple[int, Outcome]]] = {}  # by call, about to be delivered
        self._gathers = False  # more of them come at once
        self._spent = self._counted = 0.0  # seconds that so many inputs took, the older ones counting less and less
        self._moved = time.monotonic()  # when anything last went forward
        self._granted = 0.0  # when a worker was last granted
        self._batch = min((method.max_batch_size or 1) for method in spec.methods)
        self._extra = 2 * max((method.max_batch_size or 0) for method in spec.methods)
        self._fast = not self._extra and spec.scaling.max_inputs == 1 and not spec.scaling.single_use

    # -- from the caller's thread

    def take(self) -> Lease | None:
        """An idle lease for one `exchange`, or None."""
        if not self._fast or self._pending:
            return None
        with self._lock:
            while self._idle:
                lease = self._idle.pop()
                if lease.sock is not None:
                    lease.borrowed = True
                    return lease
        return None

    def give_back(self, lease: Lease, ok: bool) -> None:
        """After a successful `exchange`."""
        lease.idle_since = time.monotonic()
        self._spent, self._counted = lease.mean or 0.0, 1.0
        with self._lock:
            lease.borrowed = False
            if ok:
                self.done += 1
            else:
                self.failed += 1
            self._idle.append(lease)
        if lease.recalled or self._pending:
            self._session.reactor.call(self._pump)

    def rescue(self, lease: Lease, item: Input) -> None:
        """After an `exchange` that did not end: the reactor takes over the lease with its one input."""
        with self._lock:
            if not lease.borrowed:  # it did end, and the interruption came right after that
                return
            lease.borrowed = False
        lease.sent([item], time.monotonic())
        self._leases[lease.token] = lease
        self._attach_stream(lease)
        if item.call.cancelled:
            self._session.send_control({"op": "cancel", "call": item.call.id})
        if self._ended:
            self.fail_all(self._ended)
        else:
            self._pump()

    # -- inputs

    def submit(self, inputs: Sequence[Input]) -> None:
        if not self._pending:
            self._moved = time.monotonic()
        for item in inputs:
            if item.call.cancelled:
                self._finish(item, Outcome(wire.CANCELLED, b""))
            else:
                self._pending.append(item)
        if self._ended:
            self._fail_pending(self._ended)
        else:
            self._pump()

    def retry(self, item: Input, outcome: Outcome) -> None:
        """An input failed in an `exchange`: run it again if its retries allow, else deliver the failure."""
        if not self._retry(item):
            item.call.deliver([(item.index, outcome)])

    def cancel(self, call: Call) -> None:
        """Drop a call's waiting inputs; the agent sees to those that run."""
        dropped = [item for item in (*self._pending, *self._delayed) if item.call is call]
        if dropped:
            self._pending = deque(item for item in self._pending if item.call is not call)
            self._delayed.difference_update(dropped)
            for item in dropped:
                self._finish(item, Outcome(wire.CANCELLED, b""))
        self._read_paused()

    def counts(self) -> tuple[int, int, int, int]:
        """Queued, running, done, failed."""
        running = sum(min(len(lease.outstanding), lease.capacity) for lease in self._leases.values())
        direct = sum(lease.borrowed for lease in self._leases.values())
        return len(self._pending) + len(self._delayed) + self._backlog(), running + direct, self.done, self.failed

    def _pump(self) -> None:
        """Send what can be sent, ask for workers where that is worth it, let go of what is recalled."""
        if self._pending:
            self._read_paused()
            self._send_pending()
        self._settle()
        self._ask_for_workers()
        if (self._pending or self._backlog()) and self._review_timer is None:
            self._review_timer = self._loop.call_later(self._review_delay, self._review)
        if self._linger_timer is None and self._leases:
            self._linger_timer = self._loop.call_later(LINGER / 2, self._let_go)

    def _send_pending(self) -> None:
        with self._lock:
            for lease in self._idle:
                self._attach_stream(lease)
            self._idle.clear()
        now = time.monotonic()
        ready = [lease for lease in self._leases.values() if lease.stream and lease.room(now) > 0]
        sharers = max(len(ready), sum(not lease.stalled for lease in self._leases.values()))
        while self._pending and ready:
            ready.sort(key=lambda lease: len(lease.outstanding))
            share = -(-len(self._pending) // (sharers * self._batch)) * self._batch
            lease = ready.pop(0)
            self._send_some(lease, min(lease.room(now), share))

    def _send_some(self, lease: Lease, count: int) -> None:
        """Take up to `count` inputs off the queue and send them, neighbours of one call together."""
        now = time.monotonic()
        pending, stream = self._pending, lease.stream
        assert stream is not None
        while count > 0 and pending:
            first = pending.popleft()
            batch = [first]
            size = len(first.payload)
            while (
                pending
                and len(batch) < count
                and not first.buffers
                and size < _BATCH_BYTES
                and pending[0].call is first.call
                and pending[0].index == first.index + len(batch)
                and pending[0].method == first.method
                and not pending[0].buffers
            ):
                size += len(pending[0].payload)
                batch.append(pending.popleft())
            count -= len(batch)
            lease.sent(batch, now)
            body = first.payload if len(batch) == 1 else wire.pack_items([item.payload for item in batch])
            stream.send(
                self._session.segments.encode(
                    wire.INPUT,
                    body,
                    first.buffers,
                    flags=first.method,
                    count=len(batch),
                    ack=lease.seq,
                    index=first.index,
                    call=first.call.id,
                )
            )

    def _settle(self) -> None:
        """Leases with nothing outstanding become idle, or go back if they are recalled or used up."""
        for lease in list(self._leases.values()):
            if lease.stream is None or lease.outstanding:
                continue
            if lease.recalled or (lease.single_use and lease.used):
                self._release(lease)
            elif not self._pending and not lease.stream.unsent:
                self._make_idle(lease)
        with self._lock:
            recalled = [lease for lease in self._idle if lease.recalled]
            self._idle = [lease for lease in self._idle if not lease.recalled]
        for lease in recalled:
            self._release(lease)

    def _make_idle(self, lease: Lease) -> None:
        assert lease.stream is not None
        lease.sock = lease.stream.detach()
        lease.sock.setblocking(True)
        lease.stream = None
        lease.idle_since = time.monotonic()
        with self._lock:
            self._idle.append(lease)

    # -- how many workers

    def _backlog(self) -> int:
        """Inputs that lie behind others at their worker."""
        return sum(max(0, len(lease.outstanding) - lease.capacity) for lease in self._leases.values())

    def _ask_for_workers(self) -> None:
        waiting = len(self._pending) + self._backlog()
        if not waiting:
            while self._wants:
                self._session.unwant(self._wants.pop())
            return
        leases = len(self._leases)
        now = time.monotonic()
        stalled = now - max((x.last_answer for x in self._leases.values()), default=self._moved)
        mean = self._spent / self._counted if self._counted else None
        count = wanted(self.spec.scaling, waiting, self._batch, leases, mean, stalled)
        more = min(count - leases, _MAX_WANTS) - len(self._wants)
        if now - self._granted < _SETTLE and max(mean or 0.0, stalled) <= SPAWN_WORTH:
            more = min(more, 0)
        for _ in range(more):
            self._wants.add(self._session.want(self))
        for _ in range(-more):
            self._session.unwant(self._wants.pop())

    def _review(self) -> None:
        """Something waits: is it worth more workers by now, or can an idle one take what lies behind a long input?"""
        self._review_timer = None
        now = time.monotonic()
        self._ask_for_workers()
        self._take_back(now)
        self._review_delay = min(self._review_delay * 1.5, _MAX_REVIEW)
        if self._pending or self._backlog():
            self._review_timer = self._loop.call_later(self._review_delay, self._review)
        else:
            self._review_delay = _REVIEW

    def _take_back(self, now: float) -> None:
        """Ask leases for what lies behind a long input, where an idle worker could take it or their results may be held
        up, too: workers send those of fast inputs together."""
        behind = [x for x in self._leases.values() if x.stream and len(x.outstanding) > x.capacity and not x.asked_back]
        behind.sort(key=lambda lease: lease.last_answer)
        idle = 0 if self._pending else len(self._idle)
        for number, lease in enumerate(behind):
            silent = now - lease.last_answer
            if silent >= (_REVIEW / 2 if number < idle else STALL) and (number < idle or self._fast):
                lease.asked_back = lease.stalled = True
                self._session.send_control({"op": "recall", "lease": lease.token})

    def _let_go(self) -> None:
        """Release leases that have been idle for a while."""
        self._linger_timer = None
        now = time.monotonic()
        with self._lock:
            old = [lease for lease in self._idle if now - lease.idle_since > LINGER]
            self._idle = [lease for lease in self._idle if lease not in old]
        for lease in old:
            self._release(lease)
        self._session.segments.drop_unused()
        if self._leases:
            self._linger_timer = self._loop.call_later(LINGER / 2, self._let_go)

    def _release(self, lease: Lease, cut: bool = False) -> None:
        """Give a lease back: over its own connection, or through the agent when that one does not hold."""
        self._leases.pop(lease.token, None)
        self._session.forget_lease(lease.token)
        if lease.stream and not lease.stream.unsent:
            lease.sock = lease.stream.detach()
            lease.stream = None
        try:
            if lease.sock is None or lease.stream:
                cut = True
            else:
                lease.sock.setblocking(False)
                lease.sock.send(wire.encode(wire.RELEASE, ack=lease.seq)[0])
        except OSError:
            cut = True
        if cut:
            self._session.send_control({"op": "release", "lease": lease.token})
        lease.close()

    # -- what the agent says

    def on_grant(self, id: int, token: str, worker: str, park: str) -> None:
        """`park`: name of the connection that the agent has handed to the worker; "" for none, so we make one."""
        self._wants.discard(id)
        self._moved = self._granted = time.monotonic()
        scaling = self.spec.scaling
        lease = Lease(token, worker, scaling.max_inputs * self._batch, self._extra, scaling.single_use)
        self._leases[token] = lease
        sock = self._session.parking.take(park)
        if sock is None:
            self._session.spawn_task(self._attach(lease))
        else:
            self._on_attached(lease, sock)
        self._session.parking.refill()

    def on_refused(self, id: int, message: dict[str, Any]) -> None:
        """No worker will come: everything that waits hears why."""
        self._wants.discard(id)
        kind = message["kind"]
        error: Exception
        if kind == "startup":
            error = startup_error(self.spec, message["death"])
        elif kind == "deadlock":
            error = DeadlockError(
                message["text"],
                hint="Raise max_containers, or do not call a GPU function from itself.",
            )
        else:
            error = NotFoundError(message["text"])
        self._fail_pending(error)

    def _fail_pending(self, error: BaseException) -> None:
        pending, self._pending = self._pending, deque()
        for item in pending:
            self._finish(item, failed(error))

    def on_recall(self, token: str) -> None:
        """The agent wants a lease back, for somebody who waits."""
        lease = self._leases.get(token)
        if lease:
            lease.recalled = True
            self._read_paused()
            if len(lease.outstanding) > lease.capacity:
                self._session.send_control({"op": "recall", "lease": token})
            self._pump()

    def on_cut(self, token: str) -> None:
        """A worker says that its connection was cut. Whoever uses the lease resumes it; an idle one goes."""
        with self._lock:
            cut = [lease for lease in self._idle if lease.token == token]
            self._idle = [lease for lease in self._idle if lease.token != token]
        for lease in cut:
            self._release(lease, cut=True)

    def on_lost(self, token: str, death: dict[str, Any]) -> None:
        """The worker of a lease has ended."""
        lease = self._leases.get(token)
        if lease is None:
            return
        with self._lock:
            self._idle = [other for other in self._idle if other is not lease]
        if lease.borrowed:
            # A caller's thread is in `exchange`: it notices and comes by `rescue`, or it has its answer.
            self._loop.call_later(_REATTACH_DELAY, self.on_lost, token, death)
            return
        del self._leases[token]
        self._session.forget_lease(token)
        if lease.stream:
            lease.stream.drain()  # what it answered before it ended counts
        lease.close()
        self._bury(lease, death)

    def _bury(self, lease: Lease, death: dict[str, Any]) -> None:
        inputs = list(lease.outstanding.values())
        lease.outstanding.clear()
        for item in reversed(inputs):
            if item.call.cancelled or (death.get("kind") == "cancelled" and is_blamed(item, death)):
                self._finish(item, Outcome(wire.CANCELLED, b""))
            elif is_blamed(item, death):
                item.deaths += death["kind"] != "timeout"
                error = death_error(self.spec, death, item)
                if item.deaths >= MAX_DEATHS or not self._retry(item):
                    self._finish(item, failed(error))
            elif item.moved >= MAX_MOVES:
                self._finish(item, failed(death_error(self.spec, death, item)))
            else:
                item.moved += 1
                self._pending.appendleft(item)
        self._pump()

    def fail_all(self, error: BaseException) -> None:
        """The session has ended: nothing can run any more."""
        self._ended = error
        for lease in list(self._leases.values()):
            for item in list(lease.outstanding.values()):
                self._finish(item, failed(error))
            lease.outstanding.clear()
            lease.close()
        self._leases.clear()
        with self._lock:
            self._idle.clear()
        self._pending.extend(self._delayed)
        self._delayed.clear()
        self._fail_pending(error)
        for timer in (self._review_timer, self._linger_timer):
            if timer:
                timer.cancel()

    # -- leases

    async def _attach(self, lease: Lease) -> None:
        """Connect a lease to its worker; after a cut, again and again until the agent says that the worker is gone."""
        for _ in range(_REATTACH_TRIES):
            try:
                session, target = self._session, f"/lease?lease={lease.token}{self._session.as_worker}"
                sock = await connect_async(self._loop, session.address, session.key, target)
            except LeaseGone as gone:
                self.on_lost(lease.token, gone.death)
                return
            except AuthError as error:
                self.on_lost(lease.token, {"kind": "unreachable", "text": str(error)})
                return
            except (ConnectionError, ProtocolError):
                import asyncio

                await asyncio.sleep(_REATTACH_DELAY)
                continue
            if lease.token in self._leases:
                self._on_attached(lease, sock)
            else:
                sock.close()
            return
        self.on_lost(lease.token, {"kind": "unreachable", "text": "its agent does not answer any more"})

    def _on_attached(self, lease: Lease, sock: socket.socket) -> None:
        """A new connection of a lease begins with what we have and what we wait for."""
        lease.sock = sock
        lease.reader = FrameReader(types=WORKER_TYPES)
        self._attach_stream(lease)
        if lease.stream:
            body = wire.pack_pairs(list(lease.outstanding))
            flags = wire.SHARES_MEMORY if self._session.segments.folder else 0
            lease.stream.send(wire.encode(wire.RESUME, body, flags=flags, ack=lease.seq))
        self._pump()

    def _attach_stream(self, lease: Lease) -> None:
        """Let the reactor read a lease."""
        if lease.stream is not None:
            return
        if lease.sock is None:
            return
        lease.paused = False
        lease.stream = FrameStream(
            self._loop,
            lease.sock,
            lambda frames: self._on_frames(lease, frames),
            lambda _: self._on_cut(lease),
            lease.reader,
        )
        lease.stream.start()

    def _on_cut(self, lease: Lease) -> None:
        lease.stream = lease.sock = None
        if lease.token in self._leases:
            self._session.spawn_task(self._attach(lease))

    def _on_frames(self, lease: Lease, frames: list[Frame]) -> None:
        now = time.monotonic()
        for frame in frames:
            if frame.seq <= lease.seq:
                continue  # sent again after a cut, and here before it
            if not frame.items:
                frame = self._session.segments.open(frame)
            lease.note(frame, now)
            if frame.type == wire.RESULT:
                self._spent = self._spent * _MEMORY + frame.ack * 1e-6
                self._counted = self._counted * _MEMORY + frame.items
                self._on_result(lease, frame)
            elif frame.type == wire.YIELD:
                item = lease.outstanding.get((frame.call, frame.first))
                if item and item.call.deliver_item(Outcome(wire.OK, frame.body, frame.buffers), self._on_room):
                    self._pause(lease)
            elif frame.type == wire.RETURNED:
                lease.asked_back = False
                for pair in reversed(wire.unpack_pairs(frame.body)):
                    returned = lease.outstanding.pop(pair, None)
                    if returned and returned.call.cancelled:
                        self._finish(returned, Outcome(wire.CANCELLED, b""))
                    elif returned:
                        self._pending.appendleft(returned)
        if not self._gathers:
            self._deliver()
        acknowledgement = lease.acknowledgement()
        if acknowledgement and lease.stream:
            lease.stream.send(acknowledgement)
        self._review_delay = _REVIEW
        self._pump()
        self._rest(lease)

    def _rest(self, lease: Lease) -> None:
        """Leave a worker alone while it has enough to do; see `Lease.rest`."""
        rest, stream = lease.rest(), lease.stream
        if not stream or lease.paused:
            return
        if not rest:
            stream.start()
            return
        stream.pause()
        self._resting[lease] = stream
        if self._rest_timer is None:
            self._rest_timer = self._loop.call_later(rest, self._end_rest)

    def _end_rest(self) -> None:
        """Read all workers at once: one that could rest for longer costs least together with the others."""
        self._rest_timer = None
        resting, self._resting = self._resting, {}
        self._gathers = True
        try:
            for lease, stream in resting.items():
                if lease.stream is stream and not lease.paused:
                    stream.drain()
                    if lease not in self._resting and not stream.closed:
                        self._rest(lease)
        finally:
            self._gathers = False
            self._deliver()

    def _pause(self, lease: Lease) -> None:
        """Stop reading a generator whose consumer is behind, which holds up its worker in turn; but nobody else."""
        if lease.capacity == 1 and lease.stream and not self._pending and not lease.recalled:
            lease.paused = True
            lease.stream.pause()

    def _on_room(self) -> None:
        """A consumer caught up; on its thread."""
        self._session.reactor.call_if_open(self._read_paused)

    def _read_paused(self) -> None:
        for lease in self._leases.values():
            if lease.paused and lease.stream:
                lease.paused = False
                lease.stream.start()

    def _deliver(self) -> None:
        """What ended well, all of it together: each time wakes up who waits."""
        results, self._results = self._results, {}
        for call, outcomes in results.items():
            call.deliver(outcomes)

    def _on_result(self, lease: Lease, frame: Frame) -> None:
        """Keep what ended well for `_deliver`; deliver the rest, or see that it is tried again."""
        pop = lease.outstanding.pop
        if frame.items == 1:
            item = pop((frame.call, frame.first), None)
            if item is None:
                return
            if frame.flags == wire.ERROR and self._retry(item):
                return
            if frame.flags == wire.CANCELLED and not item.call.cancelled:
                self._finish(item, failed(cancelled_by_worker()))
            elif frame.flags == wire.ERROR and item.call.cancelled:  # whatever the code made of it
                self._finish(item, Outcome(wire.CANCELLED, b""))
            elif frame.flags == wire.OK:
                self.done += 1
                outcome = Outcome(wire.OK, frame.body, frame.buffers)
                self._results.setdefault(item.call, []).append((item.index, outcome))
            else:
                self._finish(item, Outcome(frame.flags, frame.body, frame.buffers))
            return
        call: Call | None = None
        outcomes = []
        for offset, body in enumerate(wire.unpack_items(frame.body, frame.items)):
            item = pop((frame.call, frame.first + offset), None)
            if item is not None:
                call = item.call
                outcomes.append((item.index, Outcome(frame.flags, body)))
        self.done += len(outcomes)
        if call:
            self._results.setdefault(call, []).extend(outcomes)

    def _finish(self, item: Input, outcome: Outcome) -> None:
        if outcome.status in (wire.OK, wire.END):
            self.done += 1
        else:
            self.failed += 1
        item.call.deliver([(item.index, outcome)])

    def _retry(self, item: Input) -> bool:
        policy = self.spec.retries
        item.attempts += 1
        if policy is None or item.attempts > policy.max_retries or item.call.cancelled or self._ended:
            return False
        self._delayed.add(item)
        self._loop.call_later(policy.delay(item.attempts), self._again, item)
        return True

    def _again(self, item: Input) -> None:
        if item in self._delayed:  # else it was cancelled, or the session has ended
            self._delayed.remove(item)
            self._pending.appendleft(item)
            self._pump()
