"""One running app, as its callers see it: every call that is under way, and who brings it to workers.

The process that starts an app opens a session; a worker attaches one to its own agent when its code makes a call.
From there on both are the same.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

from cloudfn import execution
from cloudfn.client import mapping
from cloudfn.client.blocking import call_blocking
from cloudfn.client.call import Call, Input, lost_session
from cloudfn.client.dispatch import Dispatcher
from cloudfn.client.encode import Encoders
from cloudfn.client.handle import CallHandle as CallHandle
from cloudfn.client.lending import Lender
from cloudfn.client.one_machine import OneMachine
from cloudfn.client.reactor import Reactor
from cloudfn.client.reporting import Reporter
from cloudfn.client.target import FunctionPayload, Target, apply_overrides, check_kind
from cloudfn.exception import ExecutionError, NotFoundError, UnimplementedError
from cloudfn.provider import HasFleet, HasMachine
from cloudfn.spec import digest

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Future

    from cloudfn.client.crew import Crew
    from cloudfn.client.exchange import Exchange, ExchangeCall, Exchanges, Listener
    from cloudfn.events import Events
    from cloudfn.provider import Machine, Provider, Report
    from cloudfn.spec import FunctionSpec


class Session:
    """Thread-safe.

    Args:
        provider: the place to run; None in a worker, which calls `attach`.
        machine: of that place, ours from now on, where one was started ahead; else `open` starts it.
        report: takes lines of progress while images are built and machines start.
        events: takes everything that happens, for terminal and log file; None for nobody.
        reactor: where to run; a thread of its own where None.
    """

    def __init__(
        self,
        app_name: str,
        provider: Provider | None,
        *,
        report: Report,
        machine: Machine | None = None,
        events: Events | None = None,
        reactor: Reactor | None = None,
    ) -> None:
        self.app_name = app_name
        self.encoders = Encoders()
        self.reactor = reactor or Reactor()
        self.lender = Lender(self)
        self.reporter = Reporter(app_name, events)
        self._provider = provider
        self._report = report
        self._machine = machine
        self._crew: Crew | None = None
        self._payloads: dict[str, FunctionPayload] = {}  # by tag
        self._elsewhere: dict[str, str] = {}  # see `OneMachine`
        self._far: Mapping[str, FunctionPayload] = {}  # likewise
        self._make_far: Callable[[str, FunctionSpec, Target], Dispatcher] | None = None
        self._keys: dict[str, FunctionPayload] = {}  # what our workers may run, by key
        self._dispatchers: dict[Target, Dispatcher] = {}
        self._web_dispatchers: dict[Target, Dispatcher] = {}
        self._exchanges: Exchanges | None = None
        self._by_pool: dict[tuple[str, bytes], Dispatcher] = {}
        self._lock = threading.RLock()
        self._handles: dict[str, CallHandle] = {}  # of spawned calls
        self._ended: BaseException | None = None
        self._closed = False

    # -- life

    def open(self, collect: Callable[[], Sequence[FunctionPayload]]) -> None:
        """Start the machine where there is one, build images, ship code, make every function known.

        Args:
            collect: finds the functions; called while the agent gets ready.
        """
        self.reporter.state("starting")
        try:
            crew = self._crew = self._find_crew()
            self.reactor.start()
            functions = {payload.spec.tag: payload for payload in collect()}
            self._payloads.update(functions)
            crew.open(list(functions.values()))
            self._keys.update(functions)
        except BaseException:
            self.close()
            raise
        self.reporter.state("ready")
        self.reporter.watch(self.reactor, self.counts, self.tell)

    def _find_crew(self) -> Crew:
        provider = self._provider
        if isinstance(provider, HasFleet):
            from cloudfn.client.many_machines import ManyMachines

            fleet = provider.fleet(self.app_name, self._report)
            self.reporter.record(fleet.log_path)
            return ManyMachines(self, provider, fleet, self._report)
        if not isinstance(provider, HasMachine):
            raise UnimplementedError(f"{type(provider).__name__} cannot run apps.")
        machine = self._machine = self._machine or provider.start(self.app_name, self._report)
        self.reporter.record(machine.log_path)
        return OneMachine(self, provider, machine, self._report)

    def attach(self, door: execution.Door, *, as_worker: bool = True) -> None:
        """Become a client of an agent that somebody else has started.

        Args:
            as_worker: it is the agent that this worker belongs to; else `door.worker` is only a name for our files.
        """
        self.reactor.start()
        crew = self._crew = OneMachine(self, None, None, self._report)
        known = crew.attach(door, as_worker)
        self._elsewhere = crew.elsewhere
        self._make_far = crew.far_dispatcher
        self._far = crew.far
        known = {**known, **crew.far}
        for key, payload in known.items():
            self._keys[key] = payload
            if key == payload.spec.tag:
                self._payloads[key] = payload

    def close(self) -> None:
        """Cancel what runs, let `@exit` hooks run, pass on the last output, let go of the machines. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        crew = self._crew
        if crew:
            crew.close()
            if self.reactor.started:
                self.reactor.wait(self._end(crew), 10)
        self.reactor.stop()
        if crew:
            crew.release()
        elif self._machine:
            self._machine.close()
        self.reporter.close(opened=crew is not None)

    async def _end(self, crew: Crew) -> None:
        self.fail(lost_session())
        crew.end()

    def fail(self, error: BaseException) -> None:
        """Nothing can run any more; every call that is under way hears why. On the reactor's thread."""
        self._ended = self._ended or (lost_session() if self._closed else error)
        for dispatcher in self._by_pool.values():
            dispatcher.fail_all(self._ended)
        self.lender.end()

    def give_up(self, key: str, error: BaseException) -> None:
        """A function can run nowhere: its calls that wait hear why. On the reactor's thread."""
        for dispatcher in list(self._by_pool.values()):
            if dispatcher.key == key:
                dispatcher.give_up(error)

    # -- functions

    def dispatcher(self, target: Target, *, web: bool = False) -> Dispatcher:
        """Who brings calls to this target.

        Args:
            web: they are requests.

        Raises:
            NotFoundError: the app has no such function.
            InvalidError: it answers requests only, or none.
        """
        known = self._web_dispatchers if web else self._dispatchers
        found = known.get(target)
        if found is not None and found.overrides == target.overrides:
            return found
        with self._lock:
            if self._ended or self._closed:
                raise ExecutionError(f"{target.tag} cannot be called: the app has stopped") from self._ended
            key = self._key_of(target)
            check_kind(self._keys[key].spec, target, web)
            if web and target.tag in self._far:
                raise self._out_of_reach(target.tag)
            dispatcher = self._by_pool.get((key, target.parameters))
            if dispatcher is None:
                spec = self._keys[key].spec
                if self._make_far and target.tag in self._far:
                    dispatcher = self._make_far(key, spec, target)
                else:
                    dispatcher = Dispatcher(self, key, spec, target.parameters)
                dispatcher.overrides = target.overrides
                self._by_pool[key, target.parameters] = dispatcher
            known[target] = dispatcher
            return dispatcher

    def _key_of(self, target: Target) -> str:
        payload = self._payloads.get(target.tag)
        if payload is None and target.tag in self._elsewhere:
            raise self._out_of_reach(target.tag)
        if payload is None:
            raise NotFoundError(
                f"the running app has no function {target.tag!r}",
                hint=f"It has: {', '.join(sorted(self._payloads)) or 'none'}.",
            )
        if not target.overrides:
            return target.tag
        variant = apply_overrides(payload, target.overrides)
        key = f"{target.tag}-{digest(dict(target.overrides))[:16]}"
        if key not in self._keys:
            if target.tag not in self._far:
                self._known_crew().register(key, variant, target.overrides)
            self._keys[key] = variant
        return key

    def _out_of_reach(self, tag: str) -> UnimplementedError:
        return UnimplementedError(
            f"{tag} runs on machines of {self._elsewhere[tag]}, and code on this one cannot reach it",
            hint="Requests go from where the app was started; for other calls, have one release of cloudfn everywhere.",
        )

    def _known_crew(self) -> Crew:
        if self._crew is None:
            raise ExecutionError(f"the app {self.app_name} has not been opened yet")
        return self._crew

    # -- calls

    def call(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one input and wait for its result. Raises what it raises."""
        return call_blocking(self, self.dispatcher(target), target, args, kwargs)

    async def call_async(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return await mapping.call_async(self, target, args, kwargs)

    def generate(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
        """Run a generator function and yield what it yields."""
        return mapping.generate(self, target, args, kwargs)

    def generate_async(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AsyncIterator[Any]:
        return mapping.generate_async(self, target, args, kwargs)

    def map(
        self, target: Target, inputs: Iterable[tuple[Any, Any]], *, ordered: bool, return_exceptions: bool
    ) -> Iterator[Any]:
        """Run many inputs and yield their results, `ordered` as the inputs or as they come.

        Args:
            inputs: pairs of args and kwargs; read on a thread of its own, only so far ahead.
        """
        return mapping.map_blocking(self, target, inputs, ordered, return_exceptions)

    def map_async(self, target: Target, inputs: Any, *, ordered: bool, return_exceptions: bool) -> AsyncIterator[Any]:
        """As `map`; `inputs` may be an asynchronous iterable."""
        return mapping.map_async(self, target, inputs, ordered, return_exceptions)

    def exchange(
        self, target: Target, scope: Mapping[str, Any], body: bytes = b"", more_body: bool = False
    ) -> Exchange:
        """Send a web request to a worker. Returns at once, on any running event loop; `Exchange` says how to go on.
        On the reactor's own loop (`session.reactor.loop`) no thread has to wake up another, which is fastest.

        Args:
            target: a web function.
            scope: of an ASGI connection, "http" or "websocket"; only what the specification names goes to the worker.
            body: what there is of the request's body. Best all of it where it is small: it then travels in one frame.
            more_body: the rest follows by `Exchange.send`.

        Raises:
            InvalidError: the function answers no requests, or the scope is malformed.
            ExecutionError, NotFoundError: as any call.
        """
        return self._all_exchanges().start(target, scope, body, more_body)

    def ask(self, target: Target, payload: bytes, listener: Listener) -> ExchangeCall:
        """As `exchange`, for a request that is complete; on the reactor's own loop only. No `Exchange` is made: most
        answers come whole, and `listener` hears of them at once. For others it calls `cloudfn.client.exchange.go_on`.

        Args:
            payload: by `cloudfn.asgi_message.encode_request`.
        """
        return self._all_exchanges().ask(target, payload, listener)

    def runs_on(self, loop: AbstractEventLoop) -> bool:
        """This is its reactor's loop."""
        return self.reactor.loop is loop

    def _all_exchanges(self) -> Exchanges:
        if self._exchanges is None:
            from cloudfn.client.exchange import Exchanges

            self._exchanges = Exchanges(self)
        return self._exchanges

    def spawn(self, target: Target, inputs: Iterable[tuple[Any, Any]]) -> CallHandle:
        """Start a call and do not wait for it."""
        call = Call(keep=True)
        dispatcher = self.dispatcher(target)
        items = [
            Input(call, index, dispatcher.methods[target.method], *self.encoders.kept(target, args, kwargs))
            for index, (args, kwargs) in enumerate(inputs)
        ]
        call.set_total(len(items))
        handle = CallHandle(self, dispatcher, call, len(items), target.is_generator)
        self._handles[handle.id] = handle
        self.lender.note_child(call, dispatcher)
        self.reactor.call(dispatcher.submit, items)
        return handle

    async def spawn_async(self, target: Target, inputs: Iterable[tuple[Any, Any]]) -> CallHandle:
        """The same: nothing here waits."""
        return self.spawn(target, inputs)

    def find_call(self, call_id: str) -> CallHandle:
        """A call that this process spawned. Raises `NotFoundError`."""
        try:
            return self._handles[call_id]
        except KeyError:
            raise NotFoundError(
                f"this process has spawned no call {call_id}",
                hint="A call is known to the process that spawned it, while its app runs.",
            ) from None

    def cancel(self, dispatcher: Dispatcher, call: Call, kill: bool = False) -> None:
        """Cancel every input of a call, those that run too; from any thread, returns at once."""
        with call.changed:
            call.cancelled = True
            call.changed.notify_all()
        self.reactor.call_if_open(self._cancel, dispatcher, call, kill)

    def _cancel(self, dispatcher: Dispatcher, call: Call, kill: bool) -> None:
        dispatcher.cancel(call)
        self._known_crew().cancel(dispatcher, call, kill)

    # -- for dispatchers, on the reactor's thread

    def want(self, dispatcher: Dispatcher) -> None:
        """See `Crew`."""
        self._known_crew().want(dispatcher)

    def unwant(self, dispatcher: Dispatcher) -> None:
        self._known_crew().unwant(dispatcher)

    def drop_unused_segments(self) -> None:
        self._known_crew().drop_unused_segments()

    def tell(self, message: dict[str, Any]) -> None:
        """Say something to the only agent of this session."""
        self._known_crew().tell(message)

    @property
    def ended(self) -> BaseException | None:
        """Why nothing can run any more; None while it can."""
        return self._ended

    @property
    def workers(self) -> Mapping[str, int]:
        """Worker processes of each function."""
        return self.reporter.workers

    @property
    def door(self) -> tuple[str, bytes, str]:
        """Address, key and shared folder of the only agent of this session, for others to attach to."""
        crew = self._crew
        if not isinstance(crew, OneMachine) or crew.site is None:
            raise ExecutionError(f"the app {self.app_name} has no agent of its own")
        return crew.site.address, crew.site.key, crew.site.segments.folder

    def ask_agent(self, op: str) -> Future[dict[str, Any]]:
        """What the only agent of this session answers to `status` or `metrics` (`docs/wire.md`)."""
        crew = self._crew
        if not isinstance(crew, OneMachine) or crew.site is None:
            raise ExecutionError(f"the app {self.app_name} has no agent of its own")
        return crew.site.begin_ask({"op": op}, op)

    def counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Queued, running, done and failed inputs of each function."""
        totals: dict[str, tuple[int, int, int, int]] = {}
        for dispatcher in list(self._by_pool.values()):
            tag = dispatcher.spec.tag
            a, b = totals.get(tag, (0, 0, 0, 0)), dispatcher.counts()
            totals[tag] = (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
        return totals


def attach_worker(kind: type[Session] = Session) -> Session:
    """The session of this worker process."""
    door = execution.door
    if door is None:
        raise ExecutionError("this process is no worker")
    session = kind(door.app, None, report=lambda line: None)
    session.attach(door)
    execution.on_cancelled = session.lender.cancel_children
    return session
