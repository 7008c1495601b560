"""One worker's job description, and the parts that serial and asynchronous workers share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence

from cloudfn import remote_error, serialization
from cloudfn.definition import Definition
from cloudfn.exception import Error, ProtocolError, SerializationError
from cloudfn.record import dataclass
from cloudfn.shared import Segments
from cloudfn.spec import FunctionSpec, MethodSpec
from cloudfn.wire import ERROR, RESULT, Buffer, Frame, encode, unpack_items
from cloudfn_agent.channel import Channel
from cloudfn_agent.slots import SlotWriter

if TYPE_CHECKING:
    from cloudfn_agent.web_apps import WebApps

FLUSH_BYTES = 1 << 16
_OWN_FOLDERS = (str(Path(__file__).parent), str(Path(remote_error.__file__).parent))


def is_own_code(filename: str) -> bool:
    """True for files of cloudfn itself: their frames mean nothing to the user."""
    return filename.startswith(_OWN_FOLDERS)


@dataclass(frozen=True)
class Work:
    """Everything a worker needs to serve inputs.

    Attributes:
        name: "w3".
        tag: the function's name, for messages.
        instance: the one instance of a class, or None.
        web: the apps of its web functions; None without any.
        settle: commits what was written to volumes; None without any. Called when an input has ended, before its
            result is told.
    """

    name: str
    spec: FunctionSpec
    definition: Definition
    instance: Any
    channel: Channel
    slot: SlotWriter
    segments: Segments
    settle: Callable[[], object] | None = None
    web: WebApps | None = None

    def method(self, number: int) -> tuple[MethodSpec, Callable[..., Any]]:
        """The method with this number in the spec, bound to the instance."""
        method = self.spec.methods[number]
        function = self.definition.methods[method.name]
        if self.spec.is_class:
            function = function.__get__(self.instance)
        return method, function

    def methods(self) -> list[tuple[MethodSpec, Callable[..., Any]]]:
        return [self.method(number) for number in range(len(self.spec.methods))]

    def settle_failed(self) -> None:
        """As `settle`, of an input that has failed: its own error is what its caller hears."""
        if self.settle:
            try:
                self.settle()
            except Error as error:
                print(f"{self.spec.tag}: what it wrote to its volumes could not be committed: {error}", file=sys.stderr)

    def title(self, method: MethodSpec) -> str:
        return f"{self.spec.tag}.{method.name}" if method.name else self.spec.tag


class Job(NamedTuple):
    """One input: who asked (`call`, `input`), which method, and the pickle of its arguments."""

    call: int
    input: int
    method: int
    payload: bytes | bytearray | memoryview
    buffers: list[bytearray | memoryview]


def jobs(frame: Frame, methods: int) -> list[Job]:
    """The inputs of an INPUT frame, for one of so many methods. Raises `ProtocolError` when the frame is malformed."""
    if frame.flags >= methods:
        raise ProtocolError(f"an input is for the method number {frame.flags}, but there are {methods}")
    if frame.items == 1:
        return [Job(frame.call, frame.first, frame.flags, frame.body, list(frame.buffers))]
    items = unpack_items(frame.body, frame.items)
    return [Job(frame.call, frame.first + i, frame.flags, item, []) for i, item in enumerate(items)]


def load_arguments(job: Job) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    arguments: tuple[tuple[Any, ...], Mapping[str, Any]] = serialization.loads(job.payload, job.buffers)
    job.buffers.clear()  # from here on only the arguments hold them, and their memory is free when those are
    return arguments


def encode_result(encoder: serialization.Encoder, value: Any, title: str) -> tuple[bytes, Sequence[Any]]:
    """Pickle a result. Raises `SerializationError` that names the part at fault."""
    try:
        return encoder.dumps(value)
    except SerializationError as error:
        raise SerializationError(
            serialization.explain(value, f"result of {title}()"), hint=error.hint
        ) from error.__cause__


def error_frame(job: Job, error: BaseException, seq: int, micros: int) -> list[Buffer]:
    """The RESULT frame for an input that raised."""
    body = remote_error.pack(error, is_own_code)
    return encode(RESULT, body, flags=ERROR, seq=seq, ack=min(micros, 0xFFFFFFFF), index=job.input, call=job.call)
