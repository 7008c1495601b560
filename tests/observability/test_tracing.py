"""Spans, as a collector of OpenTelemetry gets them from a user's program and its workers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import pytest
from host.conftest import HostOfTest, host

from cloudfn import execution, tracing
from observability.collector import Collector, Span

__all__ = ["host"]

PROGRAM = """
import cloudfn

app = cloudfn.App("demo")


@app.function()
def square(x):
    from opentelemetry import trace

    with trace.get_tracer("mine").start_as_current_span("multiply"):
        return x * x


@app.function()
def fail(x):
    raise ValueError("on purpose")


@app.function()
async def later(x):
    return await cube.remote.aio(x)


@app.function()
def cube(x):
    return x ** 3


@app.function()
def count(n):
    yield from range(n)


@app.function()
@cloudfn.batched(max_batch_size=2, wait_ms=60_000)
def together(xs):
    return [cube.remote(x) for x in xs]
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def run(folder: Path, text: str, **environment: str) -> str:
    """What a program prints on stderr."""
    path = folder / "program.py"
    path.write_text(PROGRAM + text)
    given = {**os.environ, "OTEL_BSP_SCHEDULE_DELAY": "100", **environment}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=folder, env=given, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def within(inner: Span, outer: Span) -> bool:
    return outer.start <= inner.start <= inner.end <= outer.end


@pytest.mark.slow
def test_a_call_is_one_trace_from_the_program_to_its_workers(collector: Collector, tmp_path: Path) -> None:
    run(
        tmp_path,
        "if __name__ == '__main__':\n    with app.run():\n        print(square.remote(3), square.remote(x=4))\n",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    collector.all("run square", 2)
    collector.all("multiply", 2)
    (top,) = collector.named("run demo")
    spans = collector.spans
    assert {span.trace for span in spans} == {top.trace} and top.parent == b""
    assert all(span.service == "demo" and span.start <= span.end for span in spans)
    (opened,) = collector.named("open demo")
    (built,) = collector.named("build image")
    assert (opened.parent, built.parent) == (top.id, opened.id) and within(built, opened)
    first, second = sorted((span for span in spans if span.name == "call square"), key=lambda span: span.start)
    assert first.parent == second.parent == top.id
    for call, waits in ((first, ["start worker", "wait for a worker"]), (second, ["wait for a worker"])):
        children = [span for span in spans if span.parent == call.id]
        assert sorted(span.name for span in children) == ["run square", *waits]
        (ran,) = [span for span in children if span.name == "run square"]
        (mine,) = [span for span in spans if span.parent == ran.id]
        assert mine.name == "multiply" and within(mine, ran) and within(ran, call)
        assert ran.attributes["cloudfn.function"] == "square" and ran.attributes["cloudfn.app"] == "demo"
        assert ran.attributes["cloudfn.input_id"] == f"in-{ran.attributes['cloudfn.call_id'][3:]}-0"
        (waited,) = [span for span in children if span.name == "wait for a worker"]
        assert call.start <= waited.start and waited.end <= ran.start
    assert len(spans) == 3 + 2 * 4 + 1


@pytest.mark.slow
def test_every_kind_of_call_and_calls_in_calls(collector: Collector, tmp_path: Path) -> None:
    run(
        tmp_path,
        """
if __name__ == '__main__':
    with app.run():
        assert later.remote(2) == 8
        assert list(count.remote_gen(2)) == [0, 1]
        assert sorted(cube.map([1, 2, 3])) == [1, 8, 27]
        assert square.spawn(2).get() == 4
        assert sorted(together.map([1, 2])) == [1, 8]
        try:
            fail.remote(1)
        except ValueError:
            pass
""",
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
    )
    asked, ran = collector.named("call later", "run later")
    assert ran.parent == asked.id
    many, spawned, generated = collector.named("map cube", "spawn square", "generate count")
    (batch,) = collector.named("map together")
    both = collector.all("run together", 2)
    assert {span.parent for span in both} == {batch.id}
    calls = {span.id: span.parent for span in collector.all("call cube", 3)}
    (first,) = {parent for parent in calls.values() if parent != ran.id}  # a batch runs in the context of one of them
    assert first in {span.id for span in both} and sorted(calls.values()) == sorted([ran.id, first, first])
    cubes = [span.parent for span in collector.all("run cube", 6)]
    assert sorted(cubes) == sorted([*calls, many.id, many.id, many.id])
    squared, counted = collector.named("run square", "run count")
    assert squared.parent == spawned.id and counted.parent == generated.id
    called, failed = collector.named("call fail", "run fail")
    assert called.failed and failed.failed and failed.parent == called.id
    assert {span.name for span in collector.spans if span.failed} == {"run fail", "call fail"}


@pytest.mark.slow
def test_a_spawn_of_a_deployed_app_goes_on_in_its_trace(
    collector: Collector, tmp_path: Path, host: HostOfTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)  # the host must know, too
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    text = "if __name__ == '__main__':\n    app.deploy()\n    f = cloudfn.Function.from_name('demo', 'square')\n"
    run(tmp_path, text + "    assert f.spawn(3).get(timeout=120) == 9\n")
    spawned, ran = collector.named("spawn square", "run square")
    assert ran.parent == spawned.id and ran.trace == spawned.trace


@pytest.mark.slow
def test_without_an_endpoint_nothing_is_loaded_or_sent(tmp_path: Path, collector: Collector) -> None:
    text = """
@app.function()
def loaded(x):
    import sys
    return [name for name in sys.modules if name.startswith("opentelemetry") or name.endswith(".traced")]


if __name__ == '__main__':
    with app.run():
        import sys
        assert loaded.remote(1) == []
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    run(tmp_path, text)
    run(tmp_path, text, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SDK_DISABLED="true")
    assert collector.spans == []


@pytest.mark.slow
def test_a_collector_that_is_not_there_fails_no_call(tmp_path: Path) -> None:
    text = "if __name__ == '__main__':\n    with app.run():\n        assert square.remote(3) == 9\n"
    run(tmp_path, text, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_EXPORTER_OTLP_TIMEOUT="1")


def test_where_it_is_not_installed_that_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracing, "_tracer", None)
    monkeypatch.setattr(tracing, "_said", False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing.tracer("demo") is None and tracing.tracer("demo") is None
    assert capsys.readouterr().err.count("pip install 'cloudfn[otel]'") == 1


def test_what_is_not_traced_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    assert not tracing.is_wanted() and tracing.environment() == {}
    made = tracing.Traced({"a": 1}, {"app": "demo", "function": "f"})
    assert bool(tracing.Traced({}, {})) and execution.on_ended is None
    again = pickle.loads(pickle.dumps(made))  # where no input runs, it is a dict and that is all
    assert again == {"a": 1} and type(again) is dict
