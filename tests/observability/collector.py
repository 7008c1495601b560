"""A collector of spans, as OpenTelemetry's exporters find one: OTLP over HTTP, protobuf."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """Times in nanoseconds of the epoch."""

    name: str
    trace: bytes
    id: bytes
    parent: bytes
    start: int
    end: int
    failed: bool
    attributes: dict[str, Any]
    service: str


class Collector:
    """Listens on a free port of loopback.

    Attributes:
        url: what `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
        spans: so far, in the order in which they came.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                collector.take(self.rfile.read(int(self.headers["Content-Length"])))
                said = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self.changed:
            for resource in request.resource_spans:
                service = next(a.value.string_value for a in resource.resource.attributes if a.key == "service.name")
                for scope in resource.scope_spans:
                    for s in scope.spans:
                        attributes = {a.key: a.value.string_value for a in s.attributes}
                        failed = s.status.code == 2
                        times = (s.start_time_unix_nano, s.end_time_unix_nano)
                        made = Span(
                            s.name, s.trace_id, s.span_id, s.parent_span_id, *times, failed, attributes, service
                        )
                        self.spans.append(made)
            self.changed.notify_all()

    def named(self, *names: str) -> list[Span]:
        """One span of each name, waited for; there must not be several."""
        return [self.all(name, 1)[0] for name in names]

    def all(self, name: str, count: int) -> list[Span]:
        """The spans of a name, waited for until there are so many; there must not be more."""
        with self.changed:
            found = list[Span]()

            def look() -> bool:
                found[:] = [span for span in self.spans if span.name == name]
                return len(found) >= count

            assert self.changed.wait_for(look, 120), f"of {name} there are only {found}"
        assert len(found) == count, found
        return found

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
