"""One running app, as its callers see it: the agent that serves it, and every call that is under way.

The process that starts an app opens a session; a worker attaches one to its own agent when its code makes a call.
From there on both are the same.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence

from cloudfn import execution
from cloudfn.client import mapping
from cloudfn.client.blocking import call_blocking
from cloudfn.client.call import Call, Input, lost_session, relocations
from cloudfn.client.control import Control, Message
from cloudfn.client.dispatch import Dispatcher
from cloudfn.client.encode import Encoders
from cloudfn.client.handle import CallHandle as CallHandle
from cloudfn.client.lending import Lender
from cloudfn.client.parking import Parking
from cloudfn.client.reactor import Reactor
from cloudfn.client.reporting import Reporter
from cloudfn.client.target import FunctionPayload, Target, apply_overrides
from cloudfn.connect import close_unused, connect, start_connecting
from cloudfn.exception import ConnectionError, Error, ExecutionError, NotFoundError, VersionError
from cloudfn.provider import NO_MATERIALS, Runtime
from cloudfn.shared import Segments
from cloudfn.spec import digest
from cloudfn.spec_json import function_from_json, function_to_json

if TYPE_CHECKING:
    import socket

    from cloudfn.events import Events
    from cloudfn.provider import HasMachine, Machine, Report

CLOSE_GRACE = 30.0  # seconds for `@exit` hooks when the app ends
_START_PATIENCE = 30.0  # seconds for the agent to answer a question


class Session:
    """Thread-safe.

    Args:
        provider: the place to run; None in a worker, which calls `attach`.
        machine: of that place, ours from now on, where one was started ahead; else `open` starts it.
        report: takes lines of progress while images are built and machines start.
        events: takes everything that happens, for terminal and log file; None for nobody.
    """

    def __init__(
        self,
        app_name: str,
        provider: HasMachine | None,
        *,
        report: Report,
        machine: Machine | None = None,
        events: Events | None = None,
    ) -> None:
        self.app_name = app_name
        self.encoders = Encoders()
        self.address = ""
        self.key = b""
        self.as_worker = ""  # what a worker adds to its requests at the door: its key is its own
        self.segments = Segments("", "")
        self.reactor = Reactor()
        self.lender = Lender(self)
        self.parking = Parking(self)
        self._provider = provider
        self._report = report
        self._reporter = Reporter(app_name, events)
        self._machine = machine
        self._connecting: Future[socket.socket] | None = None
        self._control: Control | None = None
        self._payloads: dict[str, FunctionPayload] = {}  # by tag
        self._keys: dict[str, FunctionPayload] = {}  # what the agent knows, by key
        self._runtimes: dict[str, Runtime] = {}  # by digest of the image
        self._dispatchers: dict[Target, Dispatcher] = {}
        self._by_pool: dict[tuple[str, bytes], Dispatcher] = {}
        self._lock = threading.RLock()
        self._wants: dict[int, Dispatcher] = {}
        self._lease_owners: dict[str, Dispatcher] = {}
        self._handles: dict[str, CallHandle] = {}  # of spawned calls
        self._answers: dict[str, Future[Message]] = {}
        self._ended: BaseException | None = None
        self._closed = False
        self._bye = threading.Event()

    # -- life

    def open(self, collect: Callable[[], Sequence[FunctionPayload]]) -> None:
        """Start the machine, build images, ship code, tell the agent of every function.

        Args:
            collect: finds the functions; called while the agent gets ready.
        """
        assert self._provider is not None
        self._reporter.state("starting")
        try:
            machine = self._machine = self._machine or self._provider.start(self.app_name, self._report)
            self.address, self.key = machine.address, machine.key
            self._connecting = start_connecting(machine.address, machine.key, "/control?logs=1")
            self._reporter.record(machine.log_path)
            self.reactor.start()
            self.segments = Segments(machine.shared, "client")
            functions = {payload.spec.tag: payload for payload in collect()}
            messages = [self._registration(tag, payload) for tag, payload in functions.items()]
            self._listen(self._connecting.result())
            self._payloads.update(functions)
            asked = [self._begin_ask(message, f"registered {message['key']}") for message in messages]
            for future in asked:
                future.result(_START_PATIENCE)
            self._keys.update(functions)
        except BaseException:
            self.close()
            raise
        self._reporter.state("ready")
        self._reporter.watch(self.reactor, self._counts, self.send_control)

    def attach(self, door: execution.Door) -> None:
        """Become a client of the agent that this worker belongs to."""
        self.reactor.start()
        self.segments = Segments(door.shared, door.worker)
        self.as_worker = f"&worker={door.worker}"
        self.address, self.key = door.address, door.key
        self._listen(connect(door.address, door.key, f"/control?logs=0&worker={door.worker}"))
        answer = self._ask({"op": "functions"}, "functions")
        for function in answer["functions"]:
            spec = function_from_json(function["spec"])
            payload = FunctionPayload(spec)  # its environment stays with the agent
            self._keys[function["key"]] = payload
            if function["key"] == spec.tag:
                self._payloads[spec.tag] = payload

    def _listen(self, sock: socket.socket) -> None:
        self._control = Control(
            self.reactor,
            sock,
            on_message=self._on_message,
            on_log=self._reporter.log,
            on_end=self._on_end,
        )

    def close(self) -> None:
        """Cancel what runs, let `@exit` hooks run, pass on the last output, end the workers. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        if self._machine and self._control and not self._bye.is_set():
            self._reporter.state("stopping")
            self._control.send_soon({"op": "shutdown", "grace": CLOSE_GRACE})
            self._bye.wait(CLOSE_GRACE + 5)
        if self._control:
            self.reactor.wait(self._end(lost_session()), 10)
        self.reactor.stop()
        if self._machine:
            self.segments.close()
            self._machine.close()
        if self._connecting and not self._control:
            self._connecting.add_done_callback(close_unused)
        self._reporter.close(opened=self._machine is not None)

    async def _end(self, error: BaseException) -> None:
        self._ended = self._ended or error
        for dispatcher in self._by_pool.values():
            dispatcher.fail_all(error)
        self.lender.end()
        self.parking.close()
        if self._control:
            self._control.close()

    # -- functions

    def _register(self, key: str, payload: FunctionPayload) -> None:
        """Build, ship, tell the agent. Raises as `_registration`."""
        self._ask(self._registration(key, payload), f"registered {key}")
        self._keys[key] = payload

    def _registration(self, key: str, payload: FunctionPayload) -> Message:
        """Build and ship; what the agent is to be told then.

        Raises what the provider raises, and VersionError for code that the image cannot run.
        """
        assert self._provider is not None
        spec = payload.spec
        self._provider.admit(spec, self._report)
        runtime = self._build(payload)
        if spec.code.python and spec.code.python != runtime.version:
            raise VersionError(
                f"{spec.tag} goes by value from Python {spec.code.python}, but its image has Python {runtime.version}",
                hint="Put it into a module that can be imported, or give the image the same python_version.",
            )
        code = {"module": spec.code.module, "qualname": spec.code.qualname, "value": "", "path": "", "bundle": ""}
        if payload.bundle is not None:
            code["bundle"] = self._provider.ship(payload.bundle.digest, payload.bundle)
            code["bundle_digest"] = payload.bundle.digest
            relocations[code["bundle"]] = str(payload.bundle.root)
        if payload.value is not None:
            code["value"] = hashlib.sha256(payload.value).hexdigest()
            code["path"] = self._provider.ship(code["value"], payload.value)
        return {
            "op": "register",
            "key": key,
            "spec": function_to_json(spec),
            "runtime": runtime.to_json(),
            "code": code,
            "environment": dict(payload.environment),
        }

    def _build(self, payload: FunctionPayload) -> Runtime:
        """Each image once, however many functions share it."""
        assert self._provider is not None
        image = payload.spec.image
        if image.digest() not in self._runtimes:
            self._runtimes[image.digest()] = self._provider.build(
                image, self._report, payload.materials or NO_MATERIALS
            )
        return self._runtimes[image.digest()]

    def dispatcher(self, target: Target) -> Dispatcher:
        """Who brings calls to this target. Raises `NotFoundError` for a function that the app does not have."""
        found = self._dispatchers.get(target)
        if found is not None and found.overrides == target.overrides:
            return found
        with self._lock:
            if self._ended or self._closed:
                raise ExecutionError(f"{target.tag} cannot be called: the app has stopped") from self._ended
            key = self._key_of(target)
            dispatcher = self._by_pool.get((key, target.parameters))
            if dispatcher is None:
                spec = self._keys[key].spec
                dispatcher = Dispatcher(self, key, spec, target.parameters)
                dispatcher.overrides = target.overrides
                self._by_pool[key, target.parameters] = dispatcher
            self._dispatchers[target] = dispatcher
            return dispatcher

    def _key_of(self, target: Target) -> str:
        payload = self._payloads.get(target.tag)
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
            if self._provider is not None:
                self._register(key, variant)
            else:
                assert self._control is not None
                self._keys[key] = variant
                self._control.send_soon(
                    {
                        "op": "derive",
                        "base": target.tag,
                        "key": key,
                        "spec": function_to_json(variant.spec),
                        "environment": dict(variant.environment) if "environment" in target.overrides else None,
                    }
                )
        return key

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
        self.send_control({"op": "cancel", "call": call.id, "kill": kill})

    # -- for dispatchers, on the reactor's thread

    def send_control(self, message: Message) -> None:
        if self._control and not self._ended:
            self._control.send(message)

    def want(self, dispatcher: Dispatcher) -> int:
        assert self._control is not None
        id = self._control.next_id()
        self._wants[id] = dispatcher
        parameters = base64.b64encode(dispatcher.parameters).decode()
        self.send_control(
            {"op": "want", "id": id, "key": dispatcher.key, "parameters": parameters, "park": self.parking.name}
        )
        return id

    def unwant(self, id: int) -> None:
        self.send_control({"op": "unwant", "id": id})

    def forget_lease(self, token: str) -> None:
        self._lease_owners.pop(token, None)

    def spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        self.reactor.spawn(work)

    # -- what the agent says

    def _ask(self, message: Message, answer: str) -> Message:
        """Send a message and wait for the answer of this name."""
        return self._begin_ask(message, answer).result(_START_PATIENCE)

    def _begin_ask(self, message: Message, answer: str) -> Future[Message]:
        future: Future[Message] = Future()
        self._answers[answer] = future
        assert self._control is not None
        self._control.send_soon(message)
        return future

    def _on_message(self, message: Message) -> None:
        op = message["op"]
        if op == "grant":
            dispatcher = self._wants.pop(message["id"])
            self._lease_owners[message["lease"]] = dispatcher
            dispatcher.on_grant(message["id"], message["lease"], message["worker"], message.get("park", ""))
        elif op == "refused":
            self._wants.pop(message["id"]).on_refused(message["id"], message)
        elif op in ("recall", "lost", "cut"):
            owner = self._lease_owners.get(message["lease"])
            if op == "cut" and owner is None:  # we let go of it, and the worker did not hear it
                self.send_control({"op": "release", "lease": message["lease"]})
            elif owner and op == "cut":
                owner.on_cut(message["lease"])
            elif owner and op == "recall":
                owner.on_recall(message["lease"])
            elif owner:
                owner.on_lost(message["lease"], message["death"])
        elif op == "resumed":
            self.lender.on_resumed(message["id"])
        elif op in ("registered", "functions"):
            name = f"registered {message['key']}" if op == "registered" else op
            self._answers.pop(name).set_result(message)
        elif op == "bad_message":
            self._fail_answers(Error(f"the agent did not understand: {message['text']}"))
        elif op == "bye":
            self._bye.set()
        elif op == "closing":
            self._on_closing()
        else:
            self._reporter.message(message)

    def _on_closing(self) -> None:
        """Somebody else ends the app (`cloudfn stop`, a signal); `close` still waits for the last output."""
        self._ended = ExecutionError(
            f"the app {self.app_name} was stopped", hint="By `cloudfn stop`, or by a signal to its agent."
        )
        self._reporter.state("stopping")
        self._fail_answers(self._ended)
        for dispatcher in self._by_pool.values():
            dispatcher.fail_all(self._ended)

    def _fail_answers(self, error: BaseException) -> None:
        while self._answers:
            self._answers.popitem()[1].set_exception(error)

    def _on_end(self, error: Exception | None) -> None:
        """The control stream has ended: with `bye` as it should, or because the agent died."""
        said = f": {error}" if error else ""
        lost = ConnectionError(
            f"the agent of {self.app_name} has ended{said}", hint="See `cloudfn logs` for its last words."
        )
        self._ended = self._ended or (lost_session() if self._closed else lost)
        self._fail_answers(lost)
        for dispatcher in self._by_pool.values():
            dispatcher.fail_all(self._ended)
        self.lender.end()
        self._bye.set()

    def _counts(self) -> dict[str, tuple[int, int, int, int]]:
        """Queued, running, done and failed inputs of each function."""
        totals: dict[str, tuple[int, int, int, int]] = {}
        for dispatcher in list(self._by_pool.values()):
            tag = dispatcher.spec.tag
            a, b = totals.get(tag, (0, 0, 0, 0)), dispatcher.counts()
            totals[tag] = (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
        return totals


def attach_worker() -> Session:
    """The session of this worker process."""
    door = execution.door
    if door is None:
        raise ExecutionError("this process is no worker")
    session = Session(door.app, None, report=lambda line: None)
    session.attach(door)
    execution.on_cancelled = session.lender.cancel_children
    return session
