"""Calls of many inputs or many results: `map`, generators, and their asynchronous twins.

A feeder thread reads the caller's inputs, so that a slow or endless iterator holds up no result; it stays `WINDOW`
inputs ahead of the consumer at most.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterable, Iterator, Mapping

from cloudfn import execution, wire
from cloudfn.client.blocking import wait_until
from cloudfn.client.call import Call, Input, Outcome
from cloudfn.client.lending import GRACE
from cloudfn.exception import InputCancellation

if TYPE_CHECKING:
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.session import Session
    from cloudfn.client.target import Target

WINDOW = 16384  # inputs
WINDOW_BYTES = 1 << 28


class Feeder:
    """Submits the inputs of one map.

    Attributes:
        taken: inputs whose results the consumer has, written by the consumer.
        error: what the caller's iterator raised.
    """

    def __init__(self, session: Session, dispatcher: Dispatcher, target: Target, call: Call) -> None:
        self.call = call
        self.taken = 0
        self.error: BaseException | None = None
        self._session = session
        self._dispatcher = dispatcher
        self._target = target
        self._method = dispatcher.methods[target.method]
        self._chunk: deque[Input] = deque()
        self._announced = False  # the reactor will come for the chunk
        self._count = 0
        self._sizes: dict[int, int] = {}  # only of large inputs
        self._bytes = 0

    def feed(self, inputs: Iterable[tuple[Any, Any]]) -> None:
        """Read all inputs, on a thread of its own."""
        try:
            for args, kwargs in inputs:
                self.add(args, kwargs)
                if self.is_ahead():
                    self.wait()
                if self.call.cancelled:
                    return
        except BaseException as error:  # noqa: BLE001 (the caller's iterator, or a pickle of its objects, may raise anything)
            self.error = error
        self.end()

    def add(self, args: Any, kwargs: Any) -> None:
        payload, buffers = self._session.encoders.kept(self._target, args, kwargs)
        self._chunk.append(Input(self.call, self._count, self._method, payload, buffers))
        size = len(payload) + sum(map(len, buffers))
        if size > 65536:
            self._sizes[self._count] = size
            self._bytes += size
        self._count += 1
        if not self._announced:
            self._announced = True
            self._session.reactor.call(self._submit)

    def _submit(self) -> None:
        """On the reactor's thread: take what has gathered since it was called."""
        self._announced = False
        self._dispatcher.submit([self._chunk.popleft() for _ in range(len(self._chunk))])

    def is_ahead(self) -> bool:
        return self._count - self.taken >= WINDOW or self._bytes >= WINDOW_BYTES

    def wait(self) -> None:
        """Wait for the consumer, or until the call is cancelled."""
        with self.call.changed:
            self.call.changed.wait_for(lambda: not self.is_ahead() or self.call.cancelled)

    def end(self) -> None:
        self.call.set_total(self._count)

    def took(self, index: int) -> None:
        """The consumer has the result of an input; under the call's lock."""
        self.taken += 1
        self._bytes -= self._sizes.pop(index, 0)
        if self.taken % 1024 == 0 or self._sizes or self._bytes:
            self.call.changed.notify_all()


class Collector:
    """Takes results out of a call, as many as are there, in the order that was asked for."""

    def __init__(self, call: Call, feeder: Feeder, ordered: bool) -> None:
        self._call = call
        self._feeder = feeder
        self._ordered = ordered
        self._next = 0

    @property
    def ended(self) -> bool:
        return self._call.total is not None and self._next >= self._call.total

    def ready(self) -> bool:
        call = self._call
        if self.ended:
            return True
        return self._next in call.outcomes if self._ordered else self._next < len(call.order)

    def take(self) -> list[Outcome]:
        """Under the call's lock."""
        call, taken = self._call, []
        if self._ordered:
            while self._next in call.outcomes:
                taken.append(call.outcomes.pop(self._next))
                self._feeder.took(self._next)
                self._next += 1
        else:
            while self._next < len(call.order):
                index = call.order[self._next]
                taken.append(call.outcomes.pop(index))
                self._feeder.took(index)
                self._next += 1
        return taken


def value_or_error(outcome: Outcome, return_exceptions: bool) -> Any:
    if outcome.status == wire.OK or not return_exceptions:
        return outcome.value()
    error = outcome.error()
    if isinstance(error, Exception):
        return error
    raise error


def map_blocking(
    session: Session, target: Target, inputs: Iterable[tuple[Any, Any]], ordered: bool, return_exceptions: bool
) -> Iterator[Any]:
    """See `Session.map`."""
    dispatcher = session.dispatcher(target)
    call = Call()
    feeder = Feeder(session, dispatcher, target, call)
    collector = Collector(call, feeder, ordered)
    start_thread(feeder.feed, inputs)
    try:
        while True:
            with call.changed:
                taken = collector.take()
            if not taken:
                if collector.ended:
                    break
                wait_until(session, dispatcher, call, collector.ready)
                continue
            for outcome in taken:
                yield value_or_error(outcome, return_exceptions)
        if feeder.error is not None:
            raise feeder.error
    finally:
        finish(session, dispatcher, call, collector.ended)


def finish(session: Session, dispatcher: Dispatcher, call: Call, ended: bool) -> None:
    """The consumer leaves; what it did not wait for is cancelled."""
    if not ended:
        session.cancel(dispatcher, call)


def start_thread(function: Callable[..., None], *args: Any) -> None:
    """Run a function on a daemon thread that knows which input it works for."""
    context = execution.running.get()

    def run() -> None:
        execution.running.set(context)
        function(*args)

    threading.Thread(target=run, name="cloudfn-inputs", daemon=True).start()


def generate(session: Session, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
    """See `Session.generate`."""
    dispatcher = session.dispatcher(target)
    call = submit_one(session, dispatcher, target, args, kwargs)
    ended = False
    try:
        while not ended:
            wait_until(session, dispatcher, call, lambda: call.items or 0 in call.outcomes)
            items, last = call.take_items()
            for item in items:
                yield item.value()
            if last is not None:
                ended = True
                if last.status != wire.END:
                    last.value()
    finally:
        finish(session, dispatcher, call, ended)


def submit_one(
    session: Session, dispatcher: Dispatcher, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Call:
    call = Call()
    payload, buffers = session.encoders.kept(target, args, kwargs)
    item = Input(call, 0, dispatcher.methods[target.method], payload, buffers)
    session.reactor.call(dispatcher.submit, [item])
    return call


# -- asynchronous


class Changes:
    """Lets a coroutine wait for changes of a call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def _on_change(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # the loop has ended, and nobody waits
            pass

    async def wait(self, ready: Callable[[], Any], timeout: float | None = None) -> bool:
        """Wait until `ready()` holds; False when `timeout` seconds were not enough."""
        deadline = None if timeout is None else self._loop.time() + timeout
        while True:
            self._event.clear()
            with self._call.changed:
                if ready():
                    return True
            rest = None if deadline is None else deadline - self._loop.time()
            try:
                await asyncio.wait_for(self._event.wait(), rest)
            except asyncio.TimeoutError:
                with self._call.changed:
                    return bool(ready())

    def __enter__(self) -> Changes:
        self._call.watch(self._on_change)
        return self

    def __exit__(self, *_: object) -> None:
        self._call.unwatch(self._on_change)


async def wait_until_async(
    session: Session,
    dispatcher: Dispatcher,
    call: Call,
    changes: Changes,
    ready: Callable[[], Any],
    timeout: float | None = None,
) -> bool:
    """As `wait_until`, for coroutines."""
    if not execution.in_worker:
        return await changes.wait(ready, timeout)
    if await changes.wait(ready, GRACE if timeout is None else min(timeout, GRACE)):
        return True
    async with session.lender.lent_async(dispatcher):
        return await changes.wait(ready, timeout)


@asynccontextmanager
async def cancelling(session: Session, dispatcher: Dispatcher, call: Call) -> AsyncIterator[None]:
    """Cancel the call when the block is left by anything but its end."""
    try:
        yield
    except BaseException:  # a cancelled task, a closed generator, an error that ends a map
        finish(session, dispatcher, call, ended=False)
        raise


async def call_async(session: Session, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """See `Session.call_async`."""
    dispatcher = session.dispatcher(target)
    call = submit_one(session, dispatcher, target, args, kwargs)
    async with cancelling(session, dispatcher, call):
        with Changes(call) as changes:
            await wait_until_async(session, dispatcher, call, changes, lambda: 0 in call.outcomes)
    return call.outcomes[0].value()


async def generate_async(
    session: Session, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> AsyncIterator[Any]:
    """See `Session.generate_async`."""
    dispatcher = session.dispatcher(target)
    call = submit_one(session, dispatcher, target, args, kwargs)
    async with cancelling(session, dispatcher, call):
        with Changes(call) as changes:
            while True:
                await wait_until_async(session, dispatcher, call, changes, lambda: call.items or 0 in call.outcomes)
                items, last = call.take_items()
                for item in items:
                    yield item.value()
                if last is not None:
                    break
    if last.status != wire.END:
        last.value()


async def map_async(
    session: Session, target: Target, inputs: Any, ordered: bool, return_exceptions: bool
) -> AsyncIterator[Any]:
    """See `Session.map_async`."""
    dispatcher = session.dispatcher(target)
    call = Call()
    feeder = Feeder(session, dispatcher, target, call)
    collector = Collector(call, feeder, ordered)
    task: asyncio.Task[None] | None = None
    if hasattr(inputs, "__aiter__"):
        task = asyncio.create_task(_feed_async(feeder, inputs, call))
    else:
        start_thread(feeder.feed, inputs)
    try:
        async with cancelling(session, dispatcher, call):
            with Changes(call) as changes:
                while True:
                    with call.changed:
                        taken = collector.take()
                    if not taken:
                        if collector.ended:
                            break
                        await wait_until_async(session, dispatcher, call, changes, collector.ready)
                        continue
                    for outcome in taken:
                        yield value_or_error(outcome, return_exceptions)
            if feeder.error is not None:
                raise feeder.error
    finally:
        if task:
            task.cancel()


async def _feed_async(feeder: Feeder, inputs: Any, call: Call) -> None:
    try:
        with Changes(call) as changes:
            async for args, kwargs in inputs:
                feeder.add(args, kwargs)
                if feeder.is_ahead():
                    await changes.wait(lambda: not feeder.is_ahead() or call.cancelled)
                if call.cancelled:
                    return
    except asyncio.CancelledError:
        raise
    except (Exception, InputCancellation) as error:  # noqa: BLE001 (the caller's iterator may raise anything)
        feeder.error = error
    feeder.end()
