"""The client's end of a lease: a worker's own stream, used by the reactor or, for one call at a time, by its caller."""

from __future__ import annotations

import os
import select
import socket
import time
from typing import TYPE_CHECKING, Callable, Sequence

from cloudfn import wire
from cloudfn.client.call import Input
from cloudfn.exception import ConnectionError, ProtocolError
from cloudfn.stream import FrameStream, send_all
from cloudfn.wire import Frame, FrameReader

if TYPE_CHECKING:
    from cloudfn.client.site import Site

WORKER_TYPES = frozenset({wire.RESULT, wire.YIELD, wire.RETURNED, wire.CREDIT})
_TARGET = 0.005  # seconds of work that should lie ready at a worker, so that it never waits for us
_AHEAD = 24  # inputs that should, if that takes no longer than:
_MAX_TARGET = 0.025
_SINGLE = 0.0002  # seconds; a worker itself gathers the results of inputs that take less
_MAX_REST = 0.01
_MAX_WINDOW = 4096
STALL = 0.03  # seconds of silence after which nothing more is sent to a worker, and what it has not begun is taken back
# Requests that lie behind one cannot be had back where that blocks its worker: so many of them, or of such short ones.
_WEB_AHEAD = 4
_WEB_TARGET = 0.004  # seconds of work, if that is more,
_WEB_MOST = 10  # up to this
_WEB_STALL = 0.002  # seconds, or so many times what a request takes:
_WEB_MEANS = 2
_SPIN_MEAN = 0.00005  # seconds that an input takes at most for its caller to look for the answer without sleeping
_SPIN = 0.0002  # seconds after which it sleeps all the same
_MISSES = (
    3  # such looks in a row in vain: the answer comes from farther away (by SSH), and they only take a core from it
)
_REST = 256  # calls for which it is then not tried
_ACK_BYTES = 1 << 20
_ACK_FRAMES = 256


class Lease:
    """One worker, for as long as we hold it.

    Args:
        site: the agent that it belongs to.
        token: names the lease, also after a cut of the connection.
        capacity: inputs that the worker runs at a time.
        extra: inputs to keep there beyond that at least (`@batched` functions fill their batches from them).
        is_web: inputs are requests: somebody waits for each of them.
    """

    def __init__(
        self, site: Site, token: str, worker: str, capacity: int, extra: int, single_use: bool, is_web: bool = False
    ) -> None:
        self.site = site
        self.segments = site.segments
        self.token = token
        self.worker = worker
        self.capacity = capacity
        self.single_use = single_use
        self._is_web = is_web
        self.used = 0  # inputs sent
        self.outstanding: dict[tuple[int, int], Input] = {}
        self.mean: float | None = None  # seconds that an input takes, moving average
        self._ahead: int | None = None  # what follows from it; None where it has changed
        self.last_answer = time.monotonic()
        self.recalled = False  # the agent wants it back
        self.asked_back = False  # we asked the worker for what it has not begun
        self.stalled = False  # it has been silent for longer than its inputs usually take
        self.borrowed = False  # a caller's own thread uses it
        self.paused = False  # we do not read it: the consumer of its generator is behind
        self.idle_since = time.monotonic()
        self.noted = 0  # inputs that `Roster` has counted here
        self.ticket = 0  # of its place among those with room, see `Roster`
        self.sock: socket.socket | None = None
        self._polled: socket.socket | None = None  # what `_poll` waits for
        self._poll: Callable[[float | None], object]
        self.reader: FrameReader
        self.stream: FrameStream | None = None
        self.seq = 0  # of the last frame that we have
        self._misses = 0
        self._rest = 0
        self._extra = extra
        self._unacknowledged = 0
        self._unacknowledged_frames = 0

    def window(self) -> int:
        """How many inputs may lie at the worker now."""
        if self.single_use:
            return 1 - self.used
        if self.recalled:
            return 0 if self.used else 1  # else two who want the same worker could take it from each other for ever
        if self.stalled:
            return self.capacity
        if self.capacity > 1 or self._extra:
            return self.capacity + self._extra
        if self._ahead is None:
            self._ahead = self._find_ahead()
        return 1 + self._ahead

    def _find_ahead(self) -> int:
        """How many inputs may lie behind the one that runs."""
        if self.mean is None:
            return 0
        mean = max(self.mean, 1e-6)
        if self._is_web:
            return min(max(_WEB_AHEAD, int(_WEB_TARGET / mean)), _WEB_MOST, int(_MAX_TARGET / mean))
        return min(_MAX_WINDOW - 1, int(min(max(_TARGET, _AHEAD * self.mean), _MAX_TARGET) / mean))

    def rest(self) -> float:
        """Seconds for which it may be left alone, since it has work for twice as long: results that come meanwhile are
        read together, and so cost less. 0 where that is not worth it."""
        if self.mean is None or self.mean < _SINGLE or self.capacity > 1 or self.recalled or self.stalled:
            return 0.0
        seconds = min((len(self.outstanding) - 1) * self.mean / 2, _MAX_REST)
        return seconds if seconds > 2 * self.mean else 0.0

    def room(self, now: float) -> int:
        """How many more inputs may be sent; behind an input that takes long, none."""
        silent = now - self.last_answer
        if self.outstanding and silent > _WEB_STALL and silent > self._patience():
            self.stalled = True
        count = len(self.outstanding)
        room = self.window() - count
        # Fast workers get several requests at a time, which costs fewer wake-ups at either end; some lie there still.
        in_groups = self._is_web and self.capacity == 1 and count >= _WEB_AHEAD
        return 0 if in_groups and room < count else room

    def _patience(self) -> float:
        """Seconds of silence after which nothing more is sent."""
        if not self._is_web:
            return STALL
        return min(STALL, max(_WEB_STALL, _WEB_MEANS * (self.mean or 0.0)))

    def sent(self, inputs: Sequence[Input], now: float) -> None:
        if not self.outstanding:
            self.last_answer = now
        for item in inputs:
            self.outstanding[item.call.id, item.index] = item
            item.sent = now
        self.used += len(inputs)

    def note(self, frame: Frame, now: float) -> None:
        """Keep count of what came: numbers for the next acknowledgement, and how long inputs take."""
        self.seq = frame.seq
        if frame.type == wire.RESULT:  # others come while an input takes its time
            self.last_answer = now
            self.stalled = False
        self._unacknowledged_frames += 1
        self._unacknowledged += len(frame.body) + (sum(map(len, frame.buffers)) if frame.buffers else 0)
        if frame.type == wire.RESULT:
            mean = frame.ack * 1e-6 / max(frame.items, 1)
            self.mean = mean if self.mean is None else self.mean + (mean - self.mean) * 0.5
            self._ahead = None

    def acknowledge(self) -> None:
        """Send an ACK frame when it is time for one; inputs carry acknowledgements, too."""
        if self._unacknowledged < _ACK_BYTES and self._unacknowledged_frames < _ACK_FRAMES:
            return
        self._unacknowledged = self._unacknowledged_frames = 0
        if self.stream:
            self.stream.send(wire.encode(wire.ACK, ack=self.seq))

    def exchange(self, pieces: list[wire.Buffer], patience: float | None = None) -> Frame | None:
        """Send one input and wait for the one frame that answers it, in the caller's thread.

        Args:
            patience: seconds to wait until the answer begins to arrive; None for ever.

        Returns:
            None when it did not begin in time. The reactor has to take the lease over then.

        Raises:
            ConnectionError: the connection was cut, or gave something else than a result.
        """
        sock = self.sock
        assert sock is not None
        try:
            send_all(sock, pieces)
            if self._polled is not sock:
                self._polled, poll = sock, select.poll()
                poll.register(sock, select.POLLIN)
                self._poll = poll.poll
            # Not by waiting in `recv`: Linux wakes who waits there also when the peer has read what we sent, which
            # makes two wake-ups for each answer.
            if not self._spin() and not self._poll(None if patience is None else patience * 1000):
                return None
            reader = self.reader
            while True:
                size = sock.recv_into(reader.get_buffer())
                if not size:
                    break
                frames = reader.received(size)
                if frames:
                    if len(frames) != 1 or frames[0].type != wire.RESULT:
                        break
                    return frames[0]
        except (OSError, ProtocolError):
            pass
        except BaseException:
            self.shut()  # half an input may be on its way: only a new connection is sure to be in step
            raise
        self.shut()
        raise ConnectionError(f"the connection to worker {self.worker} was cut")

    def _spin(self) -> bool:
        """Look for an answer that is about to come, instead of sleeping: to wake a thread of an idle core takes longer
        than such a call does. Whoever else wants this core, the worker too, has it in between."""
        if self.mean is None or self.mean > _SPIN_MEAN:
            return False
        if self._rest:
            self._rest -= 1
            return False
        end = time.monotonic() + _SPIN
        while not self._poll(0):
            os.sched_yield()
            if time.monotonic() > end:
                self._misses += 1
                if self._misses >= _MISSES:
                    self._misses, self._rest = _MISSES - 1, _REST
                return False
        self._misses = 0
        return True

    def received_direct(self, frame: Frame) -> None:
        """After `exchange`: what `note` does, at less cost."""
        self.seq = frame.seq
        micros = frame.ack * 1e-6
        self.mean = micros if self.mean is None else self.mean + (micros - self.mean) * 0.5
        self._ahead = None
        size = len(frame.body) + sum(map(len, frame.buffers)) if frame.buffers else len(frame.body)
        if size > _ACK_BYTES and self.sock:
            try:
                self.sock.sendall(wire.encode(wire.ACK, ack=self.seq)[0])
            except OSError:  # it was cut: whoever uses it next notices
                pass

    def shut(self) -> None:
        """Cut the connection, for whoever reads it to notice."""
        try:
            if self.sock:
                self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # it is cut already
            pass

    def close(self) -> None:
        if self.borrowed and self.sock:
            self.shut()  # the thread that reads it notices, and gives it to the reactor
            return
        if self.stream:
            self.stream.close()
            self.stream = None
        elif self.sock:
            self.sock.close()
        self.sock = None
