"""A Pulumi provider plugin whose resources are handlers in a table. It stands in for a cloud's own plugin.

The engine starts an executable `pulumi-resource-<name>` from PATH. Ours is a few lines that ask the test's process for
a port and print it: the plugin itself lives here, one gRPC server for each time the engine starts it, so that a test
can look into it, and make it fail or wait, with ordinary objects and events.
"""

from __future__ import annotations

import secrets
import socket
import sys
import threading
from concurrent import futures
from pathlib import Path
from typing import Any, Callable, Mapping, Protocol

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

Properties = dict[str, Any]
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
SIGNATURE = "4dabf18193072939515e22adb298388d"
LAUNCHER = """#!{python} -SE
import socket, sys
with socket.create_connection(("127.0.0.1", {port})) as host:
    sys.stdout.write(host.makefile().readline())
    sys.stdout.flush()
    host.recv(1)
"""


class Failure(Exception):
    """What the cloud refused; its text is what the engine reports."""


class Handler(Protocol):
    """One resource type.

    Attributes:
        replace_on: properties that cannot be changed in place.
        named_by: the property that is the name in the cloud, made up when it is not given; "" for none.
    """

    replace_on: frozenset[str]
    named_by: str

    def create(self, cloud: Any, inputs: Properties) -> tuple[str, Properties]:
        """The id and the outputs."""

    def read(self, cloud: Any, id: str, state: Properties) -> Properties | None:
        """What is there now, as far as it is known; None where it is gone."""

    def update(self, cloud: Any, id: str, old: Properties, new: Properties) -> Properties:
        """The outputs."""

    def delete(self, cloud: Any, id: str, state: Properties) -> None: ...


Invoke = Callable[[Any, Properties], Properties]
Check = Callable[[str, Properties], list[str]]


class Faults:
    """What a test makes go wrong. Types are Pulumi's tokens; `name` is a logical name."""

    def __init__(self) -> None:
        self._fail: dict[str, list[str]] = {}
        self.hold = threading.Event()
        """Set while nothing is held."""
        self.hold.set()
        self.held: set[str] = set()
        self.reached = threading.Event()
        self.cancelled = threading.Event()

    def fail_create_once(self, type: str, message: str) -> None:
        self._fail.setdefault(type, []).append(message)

    def hold_create(self, type: str) -> None:
        """Creates of this type wait until `hold` is set; `reached` is set when the first one waits."""
        self.held.add(type)
        self.hold.clear()

    def before_create(self, type: str) -> None:
        if type in self.held:
            self.reached.set()
            if not self.hold.wait(60):
                raise Failure("the test never let go")
        if self._fail.get(type):
            raise Failure(self._fail[type].pop(0))


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """One instance of the plugin: one `Configure`, one region."""

    def __init__(
        self,
        make_cloud: Callable[[Properties], Any],
        handlers: Mapping[str, Handler],
        invokes: Mapping[str, Invoke],
        check: Check,
        faults: Faults,
        log: list[tuple[str, str, str]],
    ) -> None:
        self._make_cloud = make_cloud
        self._handlers = handlers
        self._invokes = invokes
        self._check = check
        self._faults = faults
        self._log = log
        self._cloud: Any = None
        self.config: Properties = {}

    def checked(self, type: str, inputs: Properties) -> Properties:
        """What a cloud's own provider adds to the inputs."""
        return inputs

    def to_handler(self, type: str, inputs: Properties) -> Properties:
        """What a handler gets instead of the inputs."""
        return inputs

    def from_handler(self, type: str, found: Properties) -> Properties:
        """The inverse, for what a handler has read."""
        return found

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def Attach(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version="7.51.1")

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        self.config = _values(request.args)
        self._cloud = self._make_cloud(self.config)
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    def Invoke(self, request: Any, context: Any) -> Any:
        if request.tok not in self._invokes:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the test double has no invoke {request.tok}")
        answer = self._invokes[request.tok](self._cloud, _values(request.args))
        return provider_pb2.InvokeResponse(**{"return": _struct(answer)})

    def Cancel(self, request: Any, context: Any) -> Any:
        self._faults.cancelled.set()
        return empty_pb2.Empty()

    def Check(self, request: Any, context: Any) -> Any:
        type, name = _type_and_name(request.urn)
        news, olds = _values(request.news), _values(request.olds)
        problems = [] if type in self._handlers else [f"the test double has no type {type}"]
        problems += self._check(type, news)
        news = self.checked(type, news)
        named_by = self._handlers[type].named_by if type in self._handlers else ""
        if named_by and not news.get(named_by):
            news[named_by] = olds.get(named_by) or f"{name}-{secrets.token_hex(4)[:7]}"
            news["__defaults"] = [named_by]
        failures = [provider_pb2.CheckFailure(reason=problem) for problem in problems]
        return provider_pb2.CheckResponse(inputs=_struct(news), failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        type, _ = _type_and_name(request.urn)
        handler = self._handlers[type]
        olds, news = _values(request.old_inputs), _values(request.news)
        keys = {key for key in (*olds, *news) if not key.startswith("__")}
        changed = sorted(key for key in keys if olds.get(key) != news.get(key))
        replaces = [key for key in changed if key in handler.replace_on or key == handler.named_by]
        fixed_name = bool(handler.named_by) and handler.named_by not in news.get("__defaults", ())
        kinds = provider_pb2.PropertyDiff
        detailed = {
            key: kinds(kind=kinds.UPDATE_REPLACE if key in replaces else kinds.UPDATE, inputDiff=True)
            for key in changed
        }
        response = provider_pb2.DiffResponse
        return response(
            changes=response.DIFF_SOME if changed else response.DIFF_NONE,
            diffs=changed,
            replaces=replaces,
            detailedDiff=detailed,
            hasDetailedDiff=True,
            # As the real one: what has a name of its own cannot stand beside its successor.
            deleteBeforeReplace=bool(replaces) and fixed_name and handler.named_by not in changed,
        )

    def Create(self, request: Any, context: Any) -> Any:
        type, name = _type_and_name(request.urn)
        inputs = _values(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=_struct(inputs))
        try:
            self._faults.before_create(type)
            id, outputs = self._handlers[type].create(self._cloud, self.to_handler(type, _plain(inputs)))
        except Exception as error:  # noqa: BLE001 - a provider reports whatever went wrong
            _abort(context, error)
        self._log.append(("create", type, name))
        return provider_pb2.CreateResponse(id=id, properties=_struct({**inputs, **outputs, "id": id}))

    def Read(self, request: Any, context: Any) -> Any:
        type, _ = _type_and_name(request.urn)
        state, inputs = _values(request.properties), _values(request.inputs)
        try:
            found = self._handlers[type].read(self._cloud, request.id, state)
        except Exception as error:  # noqa: BLE001
            _abort(context, error)
        if found is None:
            return provider_pb2.ReadResponse()
        found = self.from_handler(type, found)
        inputs = {key: found.get(key, value) for key, value in inputs.items()}
        return provider_pb2.ReadResponse(id=request.id, properties=_struct({**state, **found}), inputs=_struct(inputs))

    def Update(self, request: Any, context: Any) -> Any:
        type, name = _type_and_name(request.urn)
        olds, news = _values(request.olds), _values(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=_struct({**olds, **news}))
        try:
            outputs = self._handlers[type].update(
                self._cloud, request.id, self.to_handler(type, olds), self.to_handler(type, _plain(news))
            )
        except Exception as error:  # noqa: BLE001
            _abort(context, error)
        self._log.append(("update", type, name))
        return provider_pb2.UpdateResponse(properties=_struct({**olds, **news, **outputs, "id": request.id}))

    def Delete(self, request: Any, context: Any) -> Any:
        type, name = _type_and_name(request.urn)
        try:
            self._handlers[type].delete(self._cloud, request.id, _values(request.properties))
        except Exception as error:  # noqa: BLE001
            _abort(context, error)
        self._log.append(("delete", type, name))
        return empty_pb2.Empty()


class PluginHost:
    """Puts `pulumi-resource-<name>` into a folder and serves every start of it.

    Args:
        folder: for PATH.
        make: a new instance of the plugin.
    """

    def __init__(self, folder: Path, name: str, make: Callable[[], Provider]) -> None:
        self._make = make
        self._listener = socket.create_server(("127.0.0.1", 0))
        launcher = folder / f"pulumi-resource-{name}"
        launcher.write_text(LAUNCHER.format(python=sys.executable, port=self._listener.getsockname()[1]))
        launcher.chmod(0o755)
        threading.Thread(target=self._accept, name=f"plugin-{name}", daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        server = grpc.server(
            futures.ThreadPoolExecutor(max_workers=32), options=[("grpc.max_receive_message_length", 400 << 20)]
        )
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(self._make(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with connection:
            try:
                connection.sendall(f"{port}\n".encode())
                connection.recv(1)  # until the engine ends the launcher
            except OSError:
                pass
        server.stop(None)


def _abort(context: Any, error: Exception) -> None:
    text = str(error) if isinstance(error, Failure) or "botocore" in type(error).__module__ else repr(error)
    context.abort(grpc.StatusCode.UNKNOWN, text)


def _type_and_name(urn: str) -> tuple[str, str]:
    parts = urn.split("::")
    return parts[2].rpartition("$")[2], parts[3]


def _values(struct: Any) -> Properties:
    """A protobuf struct as Python values; whole numbers as int."""
    return {key: _number(value) for key, value in json_format.MessageToDict(struct).items()}


def _number(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_number(item) for item in value]
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    return value


def _plain(inputs: Properties) -> Properties:
    """Without what is not there: Pulumi sends null for an output that turned out to be None."""
    if UNKNOWN in repr(inputs):
        raise Failure(f"an input is still unknown: {inputs}")
    return {key: value for key, value in inputs.items() if value is not None and not key.startswith("__")}


def _struct(values: Properties) -> Any:
    struct = struct_pb2.Struct()
    json_format.ParseDict(values, struct)
    return struct
