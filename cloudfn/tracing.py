"""OpenTelemetry spans of calls, where an endpoint is configured. `docs/observability.md` says which there are.

The caller's context travels in the input itself: its keyword arguments go as `Traced`, and where a worker unpickles
them its span begins. An input that is not traced is not touched, and costs nothing.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, Mapping, NamedTuple

from cloudfn import execution

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_OFF = {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "none"}
_MISSING = "OpenTelemetry is not installed here, so there are no spans: pip install 'cloudfn[otel]'"

_tracer: Tracer | None = None
_said = False  # that something is missing


def is_wanted() -> bool:
    """An endpoint for spans is configured, by OpenTelemetry's own variables, and nothing says otherwise."""
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    return all(os.environ.get(name, "").lower() != value for name, value in _OFF.items())


def environment() -> dict[str, str]:
    """What workers must have to send their spans to the same place."""
    if not is_wanted():
        return {}
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}


def tracer(service: str) -> Tracer | None:
    """What makes spans here: the program's own provider where it has set one, else ours.

    Args:
        service: who the spans are of, where `OTEL_SERVICE_NAME` does not say.

    Returns None, and says so once, where OpenTelemetry is not installed.
    """
    global _tracer
    if _tracer is not None:
        return _tracer
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        _say_missing()
        return None
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        named = os.environ.get("OTEL_SERVICE_NAME") or service
        provider = TracerProvider(resource=Resource.create({SERVICE_NAME: named}))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    _tracer = trace.get_tracer("cloudfn")
    return _tracer


def _say_missing() -> None:
    global _said
    if not _said:
        _said = True
        print(f"warning: {_MISSING}", file=sys.stderr)


@contextmanager
def span(name: str, **attributes: str) -> Iterator[None]:
    """A span of what the block does, where this process makes any."""
    if _tracer is None:
        yield
        return
    with _tracer.start_as_current_span(name, attributes=_named(attributes)):
        yield


class Block:
    """The span of a program's `with` block, in whose name everything is done there. Nothing where there are none."""

    def __init__(self) -> None:
        self._span: Span | None = None
        self._token: Any = None

    def begin(self, name: str) -> None:
        if _tracer is not None:
            self._span = _tracer.start_span(name)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """What this block does belongs to it."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """What follows in this thread or task belongs to it."""
        if self._span is not None:
            from opentelemetry import context, trace

            self._token = context.attach(trace.set_span_in_context(self._span))

    def leave(self) -> None:
        """The inverse, there too. Idempotent."""
        token, self._token = self._token, None
        if token is not None:
            from opentelemetry import context

            context.detach(token)

    def end(self) -> None:
        """Idempotent."""
        self.leave()
        started, self._span = self._span, None
        if started is not None:
            started.end()


def _named(attributes: Mapping[str, str]) -> dict[str, str]:
    return {f"cloudfn.{name}": value for name, value in attributes.items()}


# -- on the caller's side


class Traced(dict[str, Any]):
    """Keyword arguments of a traced input. In the worker they are a plain dict again, and its span has begun."""

    def __init__(self, kwargs: Mapping[str, Any], carrier: Mapping[str, Any]) -> None:
        super().__init__(kwargs)
        self._carrier = {**carrier, "sent": time.time_ns()}

    def __bool__(self) -> bool:  # so that nobody leaves them out as empty
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return resume, (dict(self), self._carrier)


def carrier_of(started: Span, app: str, function: str) -> dict[str, Any]:
    """What a worker must know of the caller's span: W3C trace context, and whose input it is."""
    from opentelemetry import propagate, trace

    carrier: dict[str, Any] = {"app": app, "function": function}
    propagate.inject(carrier, trace.set_span_in_context(started))
    return carrier


# -- in a worker


class _Open(NamedTuple):
    span: Span
    token: Any  # of the context in which user code runs; None where it was not changed


_open: dict[tuple[int, int], list[_Open]] = {}  # spans of what runs, by call and input


def resume(kwargs: dict[str, Any], carrier: Mapping[str, Any]) -> dict[str, Any]:
    """Begin the span of an input whose arguments are unpickled in this moment."""
    context = execution.running.get()
    if not execution.in_worker or context is None:
        return kwargs
    made = tracer(str(carrier["app"]))
    if made is None:
        return kwargs
    from opentelemetry import context as contexts
    from opentelemetry import propagate, trace

    parent = propagate.extract({key: value for key, value in carrier.items() if isinstance(value, str)})
    now = time.time_ns()
    _show_wait(made, parent, int(carrier["sent"]), now)
    attributes = {"app": str(carrier["app"]), "function": str(carrier["function"])}
    attributes.update(call_id=context.call_id, input_id=context.input_id)
    attributes["worker"] = execution.door.worker if execution.door else ""
    started = made.start_span(
        f"run {carrier['function']}",
        context=parent,
        kind=trace.SpanKind.SERVER,
        attributes=_named(attributes),
        start_time=now,
    )
    others = _open.setdefault((context.call, context.input), [])
    # Of several inputs that one call of a `@batched` function takes, user code runs in the context of the first.
    token = None if others else contexts.attach(trace.set_span_in_context(started, parent))
    others.append(_Open(started, token))
    execution.on_ended = _finish
    return kwargs


def _show_wait(made: Tracer, parent: Context, sent: int, now: int) -> None:
    """Spans of what lay between the caller and us: the wait, and the start of this worker if that was part of it."""
    made.start_span("wait for a worker", context=parent, start_time=min(sent, now)).end(now)
    if execution.began is None:
        return
    offset = time.time() - time.monotonic()
    asked, ready = (int((moment + offset) * 1e9) for moment in execution.began)
    execution.began = None  # for its first input only
    if ready > sent:
        made.start_span("start worker", context=parent, start_time=asked).end(max(ready, asked))


def _finish(call: int, input: int) -> None:
    """An input has ended; with the error that is being handled, if there is one."""
    from opentelemetry import context as contexts
    from opentelemetry.trace import Status, StatusCode

    error = sys.exc_info()[1]
    for started, token in reversed(_open.pop((call, input), [])):
        if error is not None:
            started.record_exception(error)
            started.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
        started.end()
        if token is not None:
            contexts.detach(token)
