"""One version of a deployed app: takes its inputs from the queue, and has an agent while there is work for one."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Sequence
from weakref import WeakValueDictionary

from cloudfn.client.call import Outcome
from cloudfn.client.reactor import SharedReactor
from cloudfn.client.session import Session
from cloudfn.client.target import Target
from cloudfn.durable import MAX_RECEIVES, Taken, unpack
from cloudfn.events import Events
from cloudfn.exception import Error, NotFoundError, ResourceExhaustedError
from cloudfn.host.flight import DurableCall, Flight, Window
from cloudfn.host.verdict import Verdict, failure, judge, too_often

if TYPE_CHECKING:
    from cloudfn.app_registry import AppVersion, DeployedFunction
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.target import FunctionPayload
    from cloudfn.host.host import Host
    from cloudfn.host.peer import Peer
    from cloudfn.provider import HasMachine

_TAKE_WAIT = 30.0  # seconds; ended early when something comes
_TRY_AGAIN = 1.0  # seconds after the disk was full
_MAX_BACKOFF = 60.0  # seconds between attempts to start an agent
_ASK_PATIENCE = 2.0  # seconds for an agent to say what it does
_DRAIN_EXTRA = 60.0  # seconds beyond the longest timeout that an old version may take to end


class Running:
    """Args:
    payloads: the version's functions, with their secrets: never to be logged.
    provider: the place to run, see `cloudfn.host.stored`.
    """

    def __init__(
        self, host: Host, version: AppVersion, payloads: Sequence[FunctionPayload], provider: HasMachine
    ) -> None:
        self.version = version
        self.starts = 0
        self.seen: dict[str, Any] = {}  # what its agent said of itself at the last look
        self.problem = ""  # why no agent could be started, at the last attempt
        self.closed = asyncio.Event()
        self._host = host
        self._payloads = payloads
        self._provider = provider
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._opening = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._flights: dict[tuple[int, int], Flight] = {}
        self._calls: WeakValueDictionary[tuple[int, Dispatcher], DurableCall] = WeakValueDictionary()  # of the flights
        self._by_tag: defaultdict[str, int] = defaultdict(int)
        self._windows: defaultdict[str, Window] = defaultdict(Window)
        self._moved = asyncio.Event()
        self._holders: set[Peer] = set()
        self._draining = False
        self._failures = 0
        self._used = time.monotonic()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._takes: set[asyncio.Task[list[Taken]]] = set()
        self._users = 0

    @property
    def app(self) -> str:
        return self.version.app

    @property
    def state(self) -> str:
        if self.closed.is_set():
            return "ended"
        if self._draining:
            return "draining"
        return "warm" if self._session is not None else "cold"

    @property
    def is_warm_by_wish(self) -> bool:
        return any(function.spec.scaling.min_containers for function in self.version.functions)

    def workers(self) -> dict[str, int]:
        """Worker processes of each function."""
        return dict(self._session.workers) if self._session is not None else {}

    def counts(self) -> dict[str, tuple[int, int]]:
        """Of each function: inputs that were taken and wait for a worker, and worker processes."""
        if self._session is None:
            return {}
        states, workers = self._session.reporter.states, dict(self._session.workers)
        tags = {*states, *workers}
        return {tag: (states[tag].queued if tag in states else 0, workers.get(tag, 0)) for tag in tags}

    async def look(self) -> None:
        """See what its agent does, for others too, who call it directly."""
        self.seen = await self.ask_agent("status")

    def inputs(self) -> dict[str, tuple[int, int]]:
        """Of each function, at the last look: inputs that run, and that ended since its agent began."""
        return {f["tag"]: (f["running"], f["done"] + f["failed"]) for f in self.seen.get("functions", ())}

    async def ask_agent(self, op: str) -> dict[str, Any]:
        """What its agent answers to `status` or `metrics`; nothing where it has none that answers."""
        if self._session is None or self._session.ended is not None:
            return {}
        async with self._asking:  # answers go by their names
            try:
                answer = asyncio.wrap_future(self._session.ask_agent(op))
                return await asyncio.wait_for(answer, _ASK_PATIENCE)
            except (Error, asyncio.TimeoutError):  # it ends this moment
                return {}

    # -- inputs

    def start(self) -> None:
        for function in self.version.functions:
            self._spawn(self._consume(function))

    def _spawn(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _consume(self, function: DeployedFunction) -> None:
        """Take inputs of one function as fast as they end, until a newer version takes over."""
        tag = function.spec.tag
        while not self._draining:
            room = self._windows[tag].size - self._by_tag[tag]
            if room <= 0:
                self._moved.clear()
                await self._moved.wait()
                continue
            take = self._loop.create_task(self._host.queue.take(self.app, tag, room, _TAKE_WAIT))
            self._takes.add(take)
            try:
                taken = await take
            except asyncio.CancelledError:
                if self._draining:
                    return
                raise
            except ResourceExhaustedError as error:
                self._host.journal.write("queue_full", app=self.app, function=tag, error=error.message)
                await asyncio.sleep(_TRY_AGAIN)
                continue
            finally:
                self._takes.discard(take)
            if taken:
                self._note(tag, taken)
                await self._run(function, taken)

    def _note(self, tag: str, taken: Sequence[Taken]) -> None:
        self._used = time.monotonic()
        self._by_tag[tag] += len(taken)
        for item in taken:
            self._flights[item.key] = Flight(item)

    async def _run(self, function: DeployedFunction, taken: Sequence[Taken]) -> None:
        for item in [item for item in taken if item.receives > MAX_RECEIVES]:
            await self._settle(self._flights[item.key], too_often(item))
        taken = [item for item in taken if item.receives <= MAX_RECEIVES]
        if not taken:
            return
        try:
            session = await self.session()
        except Error as error:
            await self._postpone(taken, error)
            return
        groups: defaultdict[tuple[str, bytes, str], list[Taken]] = defaultdict(list)
        for item in taken:
            groups[item.call.method, item.call.parameters, item.call.overrides].append(item)
        for (method, parameters, overrides), items in groups.items():
            target = Target(self.app, function.spec.tag, method, parameters, json.loads(overrides or "null"))
            try:
                if target.overrides:  # may build an image
                    dispatcher = await asyncio.to_thread(session.dispatcher, target)
                else:
                    dispatcher = session.dispatcher(target)
                if method not in dispatcher.methods:
                    raise NotFoundError(
                        f"{function.spec.tag} has no method {method!r} in version {self.version.number}"
                    )
            except Error as error:
                if session.ended is not None:
                    await self._postpone(items, error)
                else:
                    for item in items:
                        await self._settle(self._flights[item.key], Verdict("bury", failure(error), error.message))
                continue
            self._submit(session, dispatcher, items)

    def _submit(self, session: Session, dispatcher: Dispatcher, items: Sequence[Taken]) -> None:
        from cloudfn.client.call import Input

        inputs = []
        now = time.monotonic()
        for item in items:
            # One for all takes of a call, since a worker answers neighbours of one id together.
            call = self._calls.get((item.call.id, dispatcher))
            if call is None:
                call = DurableCall(item.call.id, dispatcher, self._on_outcomes)
                self._calls[item.call.id, dispatcher] = call
            flight = self._flights[item.key]
            flight.call, flight.began = call, now
            body, buffers = unpack(item.payload)
            made = Input(call, item.index, dispatcher.methods[item.call.method], body, buffers)
            if dispatcher.spec.retries:
                made.attempts = dispatcher.spec.retries.max_retries  # the queue retries, and outlives us
            inputs.append(made)
        self._host.note_started(items, self.version)
        try:
            session.reactor.call(dispatcher.submit, inputs)
        except Error as error:  # the session has ended this moment
            self._spawn(self._postpone(items, error))

    def _on_outcomes(self, call: DurableCall, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """On the session's thread."""
        try:
            self._loop.call_soon_threadsafe(self._judge, call, outcomes)
        except RuntimeError:  # the host has ended: what it had taken comes back when it begins again
            pass

    def _judge(self, call: DurableCall, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        session = self._session
        lost = session is None or session.ended is not None
        for index, outcome in outcomes:
            flight = self._flights.get((call.id, index))
            if flight is not None and flight.call is call:
                verdict = judge(outcome, flight.taken, call.dispatcher.spec.retries, lost)
                self._spawn(self._settle(flight, verdict))

    async def _settle(self, flight: Flight, verdict: Verdict) -> None:
        """Write down the end of an input, or that it must run again; and do not stop before that is written."""
        taken, queue = flight.taken, self._host.queue
        while True:
            try:
                if verdict.what == "again":
                    kept = await queue.give_back(taken, verdict.delay, attempts=verdict.attempts, deaths=verdict.deaths)
                elif verdict.what == "bury":
                    assert verdict.result is not None
                    kept = await queue.bury(taken.key, verdict.result, verdict.reason)
                else:
                    assert verdict.result is not None
                    kept = await queue.complete(taken.key, verdict.result)
                break
            except ResourceExhaustedError as error:
                self._host.journal.write("queue_full", app=self.app, call=taken.call.public_id, error=error.message)
                await asyncio.sleep(_TRY_AGAIN)
        self._forget(flight)
        if kept:
            self._host.note_ended(flight, verdict, self.version)

    def _forget(self, flight: Flight) -> None:
        taken = flight.taken
        if self._flights.get(taken.key) is flight:  # else it was given back, and taken again in the meantime
            del self._flights[taken.key]
        self._by_tag[taken.call.tag] -= 1
        self._windows[taken.call.tag].note_end(time.monotonic())
        self._used = time.monotonic()
        self._moved.set()

    async def _postpone(self, taken: Sequence[Taken], error: Error) -> None:
        """There is no agent to run it: later, then."""
        delay = min(_MAX_BACKOFF, 0.1 * 2 ** min(self._failures, 10))
        for item in taken:
            flight = self._flights.get(item.key)
            if flight is not None:
                again = Verdict("again", delay=delay, attempts=item.attempts, deaths=item.deaths)
                await self._settle(flight, again)

    def cancel(self, keys: Sequence[tuple[int, int]], kill: bool) -> None:
        """Stop what runs of a call that was cancelled; the queue has its end already."""
        calls = {flight.call for key in keys if (flight := self._flights.get(key)) and flight.call}
        for call in calls:
            if self._session is not None:
                self._session.cancel(call.dispatcher, call, kill)

    # -- the agent

    @property
    def open_session(self) -> Session | None:
        """None while there is no agent."""
        return self._session if self._session is not None and self._session.ended is None else None

    async def session(self) -> Session:
        """The session of this version, opened where there is none. Raises what building and starting raise."""
        async with self._opening:
            if self._session is not None and self._session.ended is None:
                return self._session
            await self._close_session()
            events = Events(self._host.app_log(self.app))
            reactor = SharedReactor(self._loop)  # so that a service's requests go to workers without another thread
            session = Session(self.app, self._provider, report=self._report, events=events, reactor=reactor)
            try:
                await asyncio.to_thread(session.open, lambda: self._payloads)
            except Error as error:
                self._failures += 1
                self.problem = error.message
                self._host.journal.write("start_failed", app=self.app, version=self.version.number, error=str(error))
                raise
            self._failures, self.problem = 0, ""
            self.starts += 1
            self._session = session
            self._host.metrics.cold_starts[self.app] += 1
            self._host.journal.write("started", app=self.app, version=self.version.number)
            return session

    def _report(self, line: str) -> None:
        self._host.journal.write("progress", app=self.app, version=self.version.number, text=line)

    async def _close_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.close)

    @contextmanager
    def using(self) -> Iterator[Running]:
        """Neither idleness nor a newer version ends this one meanwhile."""
        self._users += 1
        try:
            yield self
        finally:
            self._users -= 1
            self._used = time.monotonic()
            self._moved.set()

    # -- callers that go to the agent directly

    async def attach(self, peer: Peer) -> dict[str, Any]:
        """Where a caller finds the agent; it holds this version until `detach`."""
        session = await self.session()
        self._holders.add(peer)
        self._used = time.monotonic()
        address, key, shared = session.door
        return {"address": address, "key": key.hex(), "shared": shared, "version": self.version.number}

    def detach(self, peer: Peer) -> None:
        self._holders.discard(peer)
        self._used = time.monotonic()
        self._moved.set()

    # -- the end of idleness, and of the version

    async def tick(self, now: float, idle: float) -> None:
        """Every second or so: start again what should be warm, end what has been idle for long."""
        if self._draining:
            return
        lost = self._session is not None and self._session.ended is not None
        if self.is_warm_by_wish:
            if (self._session is None or lost) and not self._opening.locked():
                try:
                    await self.session()
                except Error:  # it is in the journal
                    pass
        elif lost:
            await self._close_session()
        elif self._session is not None and not self._flights and not self._users and now - self._used > idle:
            if self._holders:
                self._let_go()
                self._used = now
            else:
                self._host.journal.write("idle", app=self.app, version=self.version.number)
                await self._close_session()

    def _let_go(self) -> None:
        for peer in list(self._holders):
            peer.tell({"op": "let_go", "app": self.app, "version": self.version.number})

    def supersede(self) -> None:
        """A newer version takes over: take nothing more, from this moment on, and end when all has ended."""
        self._draining = True
        for take in self._takes:
            take.cancel()
        self._moved.set()
        self._let_go()

    async def drain(self) -> None:
        """Wait for what runs, then end. Whatever has not ended by then runs again on the newer version."""
        longest = max((function.spec.timeout for function in self.version.functions), default=0.0)
        deadline = self._loop.time() + longest + _DRAIN_EXTRA
        while (self._flights or self._holders or self._users) and (rest := deadline - self._loop.time()) > 0:
            self._moved.clear()
            try:
                await asyncio.wait_for(self._moved.wait(), rest)
            except asyncio.TimeoutError:
                break
        await self.close()

    async def close(self) -> None:
        """End at once. What runs is cut short, and comes back to the queue."""
        self.supersede()
        await self._close_session()
        for _ in range(100):  # what came of the end is written down
            if not self._flights:
                break
            await asyncio.sleep(0.05)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.closed.set()
