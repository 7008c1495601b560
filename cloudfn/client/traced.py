"""Sessions whose calls have spans. Which kind a session is, is decided once, where it is opened."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, AsyncIterator, Iterable, Iterator, Mapping

from opentelemetry.trace import SpanKind, Status, StatusCode

from cloudfn import tracing
from cloudfn.client.deployed import DeployedSession
from cloudfn.client.session import Session

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from cloudfn.client.deployed import DurableHandle
    from cloudfn.client.handle import CallHandle
    from cloudfn.client.target import Target

_Inputs = Iterable[tuple[Any, Any]]


def _title(target: Target) -> str:
    return f"{target.tag}.{target.method}" if target.method else target.tag


def _begin(verb: str, target: Target, kind: SpanKind) -> tuple[Span, dict[str, Any]]:
    made = tracing.tracer(target.app)
    assert made is not None  # else there would be no session of this kind
    title = _title(target)
    attributes = {"cloudfn.app": target.app, "cloudfn.function": title}
    started = made.start_span(f"{verb} {title}", kind=kind, attributes=attributes)
    return started, tracing.carrier_of(started, target.app, title)


@contextmanager
def _span(verb: str, target: Target, kind: SpanKind = SpanKind.CLIENT) -> Iterator[dict[str, Any]]:
    """A span around what the block does. It is not the current one, since a generator's block runs in many contexts."""
    started, carrier = _begin(verb, target, kind)
    try:
        yield carrier
    except GeneratorExit:  # the caller wants no more
        raise
    except BaseException as error:
        started.record_exception(error)
        started.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        raise
    finally:
        started.end()


def _all(inputs: _Inputs, carrier: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    return ((args, tracing.Traced(kwargs, carrier)) for args, kwargs in inputs)


async def _all_async(inputs: Any, carrier: Mapping[str, Any]) -> AsyncIterator[tuple[Any, Any]]:
    if hasattr(inputs, "__aiter__"):
        async for args, kwargs in inputs:
            yield args, tracing.Traced(kwargs, carrier)
    else:
        for args, kwargs in inputs:
            yield args, tracing.Traced(kwargs, carrier)


class TracedSession(Session):
    """See `Session`."""

    def call(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with _span("call", target) as carrier:
            return super().call(target, args, tracing.Traced(kwargs, carrier))

    async def call_async(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        with _span("call", target) as carrier:
            return await super().call_async(target, args, tracing.Traced(kwargs, carrier))

    def generate(self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[Any]:
        with _span("generate", target) as carrier:
            yield from super().generate(target, args, tracing.Traced(kwargs, carrier))

    async def generate_async(
        self, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> AsyncIterator[Any]:
        with _span("generate", target) as carrier:
            async for item in super().generate_async(target, args, tracing.Traced(kwargs, carrier)):
                yield item

    def map(self, target: Target, inputs: _Inputs, *, ordered: bool, return_exceptions: bool) -> Iterator[Any]:
        with _span("map", target) as carrier:
            yield from super().map(target, _all(inputs, carrier), ordered=ordered, return_exceptions=return_exceptions)

    async def map_async(
        self, target: Target, inputs: Any, *, ordered: bool, return_exceptions: bool
    ) -> AsyncIterator[Any]:
        with _span("map", target) as carrier:
            found = super().map_async(
                target, _all_async(inputs, carrier), ordered=ordered, return_exceptions=return_exceptions
            )
            async for item in found:
                yield item

    def spawn(self, target: Target, inputs: _Inputs) -> CallHandle:
        with _span("spawn", target, SpanKind.PRODUCER) as carrier:
            return super().spawn(target, _all(inputs, carrier))


class TracedDeployedSession(DeployedSession):
    """See `DeployedSession`; what it does not spawn goes through a `TracedSession`."""

    def spawn(self, target: Target, inputs: _Inputs) -> DurableHandle:
        with _span("spawn", target, SpanKind.PRODUCER) as carrier:
            return super().spawn(target, _all(inputs, carrier))

    async def spawn_async(self, target: Target, inputs: _Inputs) -> DurableHandle:
        with _span("spawn", target, SpanKind.PRODUCER) as carrier:
            return await super().spawn_async(target, _all(inputs, carrier))
