from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import textwrap
import warnings

import pytest
from fake_session import FakeSession, running

import cloudfn
from cloudfn import App, Function, FunctionCall
from cloudfn.client import current
from cloudfn.client.target import Target
from cloudfn.exception import (
    ConflictError,
    ExecutionError,
    InvalidError,
    InvalidTypeError,
    NotFoundError,
    TimeoutError,
    UnimplementedError,
)

app = App("functions")


@app.function(cpu=1, memory=512)
def double(x: int, *, plus: int = 0) -> int:
    "Doubles."
    return 2 * x + plus


@app.function()
def count(n: int):
    yield from range(n)


@app.function()
async def later(x):
    return x


@app.function()
async def count_later(n):
    for i in range(n):
        yield i


@app.function(is_generator=True)
def makes_generator(n):
    return iter(range(n))


def test_remote_passes_target_and_arguments():
    with running(app) as session:
        assert double.remote(3, plus=1) == ("result", (3,), {"plus": 1})
        assert asyncio.run(double.remote.aio(4)) == ("async result", (4,), {})
    target = Target("functions", "double")
    assert [call[:2] for call in session.calls] == [("call", target), ("call_async", target)]


def test_an_argument_may_be_called_self():
    @app.function(serialized=True, name="selfish")
    def selfish(**kwargs):
        return kwargs

    with running(app):
        assert selfish.remote(self=1)[2] == {"self": 1}
    assert selfish.local(self=1) == {"self": 1}


def test_remote_needs_a_running_app():
    with pytest.raises(ExecutionError, match=r"'double'.*'functions' is not running[\s\S]*app\.run"):
        double.remote(1)
    with pytest.raises(ExecutionError, match="not running"):
        asyncio.run(double.remote.aio(1))


def test_calling_directly_is_an_error():
    with pytest.raises(TypeError, match=r"double\.remote"):
        double(1)
    with pytest.raises(InvalidTypeError):
        double(1)


def test_local():
    assert double.local(3, plus=1) == 7
    assert list(count.local(3)) == [0, 1, 2]
    assert asyncio.run(later.local(5)) == 5
    assert double.get_raw_f()(1) == 2


def test_generators_are_told_from_functions():
    assert [f.is_generator for f in (double, count, later, count_later, makes_generator)] == [
        False, True, False, True, True,
    ]  # fmt: skip
    with running(app) as session:
        assert list(count.remote_gen(7, 8)) == [7, 8]

        async def collect():
            return [x async for x in count.remote_gen.aio(1, 2)]

        assert asyncio.run(collect()) == [1, 2]
        assert session.calls[0][1] == Target("functions", "count", is_generator=True)
        for wrong in (count.remote, count.spawn, count.map, count.starmap, count.for_each, count.spawn_map):
            with pytest.raises(InvalidError, match=r"remote_gen"):
                wrong([1])
        with pytest.raises(InvalidError, match=r"\.remote\(\)"):
            double.remote_gen(1)
        with pytest.raises(InvalidError, match=r"\.remote\(\)"):
            double.remote_gen.aio(1)
        with pytest.raises(InvalidError, match="remote_gen"):
            asyncio.run(count.remote.aio(1))


def test_map_is_lazy_and_used_once():
    taken = []

    def inputs():
        for i in range(3):
            taken.append(i)
            yield i

    with running(app) as session:
        results = double.map(inputs(), kwargs={"plus": 1})
        assert session.calls == [] and taken == []
        assert list(results) == [((i,), {"plus": 1}) for i in range(3)]
        assert session.calls == [("map", Target("functions", "double"), True, False)]
        assert list(results) == []


def test_map_options_reach_the_session():
    with running(app) as session:
        list(double.map([1], order_outputs=False, return_exceptions=True))
        double.for_each([1, 2], ignore_exceptions=True)
        asyncio.run(double.for_each.aio([1]))
    assert [(c[0], c[2], c[3]) for c in session.calls] == [
        ("map", False, True),
        ("map", False, True),
        ("map_async", False, False),
    ]


def test_map_zips_and_the_shortest_ends():
    with running(app):
        assert [args for args, _ in double.map([1, 2, 3], "ab")] == [(1, "a"), (2, "b")]
        assert [args for args, _ in double.starmap([(1, 2), [3]])] == [(1, 2), (3,)]


async def _numbers(n):
    for i in range(n):
        yield i


@pytest.mark.parametrize("second", [[10, 20, 30], None])
def test_async_map_takes_both_kinds(second):
    async def collect():
        others = _numbers(3) if second is None else second
        return [args async for args, _ in double.map.aio(_numbers(2), others)]

    with running(app):
        assert asyncio.run(collect()) == [(0, 0 if second is None else 10), (1, 1 if second is None else 20)]


def test_async_for_over_plain_map_and_chained_maps():
    async def collect():
        chained = [x async for x in double.map.aio(double.map.aio([1, 2]))]
        stars = [x async for x in double.starmap.aio(args for args in [(1, 2)])]
        return [x async for x in double.map([1])], chained, stars

    with running(app):
        plain, chained, stars = asyncio.run(collect())
        assert list(double.map(double.map([1]))) == [((((1,), {}),), {})]
    assert plain == [((1,), {})]
    assert chained == [((((1,), {}),), {}), ((((2,), {}),), {})]
    assert stars == [((1, 2), {})]


def test_bad_inputs_of_map_are_told_at_once():
    with pytest.raises(InvalidError, match="at least one iterable"):
        double.map()
    with pytest.raises(InvalidTypeError, match="not int"):
        double.map(3)
    with pytest.raises(InvalidTypeError, match="kwargs must be a dict"):
        double.map([1], kwargs=[1])
    with running(app):
        with pytest.raises(InvalidError, match=r"map\.aio"):
            list(double.map(_numbers(1)))
        with pytest.raises(InvalidTypeError, match="sequence of arguments, not int"):
            list(double.starmap([1]))


def test_unused_map_warns():
    with pytest.warns(UserWarning, match=r"double\.map\(\) were never used"):
        double.map([1])
        gc.collect()
    with running(app), warnings.catch_warnings():
        warnings.simplefilter("error")
        list(double.map([1]))
        gc.collect()


def test_wrap_returned_exceptions_is_deprecated():
    with running(app), pytest.warns(cloudfn.exception.DeprecationError) as noted:
        list(double.map([1], wrap_returned_exceptions=False))
    assert noted[0].filename == __file__


def test_spawn():
    with running(app) as session:
        call = double.spawn(3, plus=2)
        assert isinstance(call, FunctionCall)
        assert call.get() == ((3,), {"plus": 2})
        assert asyncio.run(call.get.aio(timeout=1)) == ((3,), {"plus": 2})
        assert call.num_inputs() == 1
        assert asyncio.run(call.num_inputs.aio()) == 1
        other = asyncio.run(double.spawn.aio(4))
        assert FunctionCall.gather(call, other) == [((3,), {"plus": 2}), ((4,), {})]
        assert asyncio.run(FunctionCall.gather.aio(other)) == [((4,), {})]
        call.cancel()
        call.cancel(terminate_containers=True)
        asyncio.run(call.cancel.aio())
        assert session.handles[call.object_id].cancelled == [False, True, False]


def test_gather_inside_of_a_loop_and_its_first_failure():
    with running(app) as session:
        first, second = double.spawn(1), double.spawn(2)
        session.handles[second.object_id].results[0] = ZeroDivisionError("second")

        async def inside():
            return FunctionCall.gather(first)

        assert asyncio.run(inside()) == [((1,), {})]

        async def failing():
            return FunctionCall.gather(first, second)

        with pytest.raises(ZeroDivisionError, match="second"):
            asyncio.run(failing())
        with pytest.raises(ZeroDivisionError, match="second"):
            FunctionCall.gather(first, second)


def test_spawn_map_answers_one_call_of_many_inputs():
    with running(app):
        call = double.spawn_map([1, 2, 3], kwargs={"plus": 1})
        assert call.num_inputs() == 3
        assert [args for args, _ in call.iter()] == [(1,), (2,), (3,)]
        assert [args for args, _ in call.iter(start=1, end=2)] == [(2,)]
        assert call.get(index=2)[0] == (3,)
        with pytest.raises(InvalidError, match="no index 3"):
            call.get(index=3)
        with pytest.raises(ValueError, match="0 to 4 for 3 inputs"):
            call.iter(end=4)

        async def through():
            listed = await double.spawn_map.aio(_numbers(2), [5, 6])
            return [args async for args, _ in listed.iter.aio()]

        assert asyncio.run(through()) == [(0, 5), (1, 6)]


def test_get_without_a_result_raises_timeout():
    with running(app) as session:
        call = double.spawn(1)
        session.handles[call.object_id].results.clear()
        with pytest.raises(TimeoutError):
            call.get(timeout=0)


def test_calls_are_found_by_id_and_pickled():
    with running(app):
        call = double.spawn(1)
        for same in (FunctionCall.from_id(call.object_id), pickle.loads(pickle.dumps(call))):
            assert same == call and same.get() == ((1,), {})
        with pytest.raises(NotFoundError, match="fc-nothing"):
            FunctionCall.from_id("fc-nothing").get()
    with pytest.raises(ExecutionError, match="no app is running"):
        FunctionCall.from_id("fc-0").get()
    with pytest.raises(InvalidError, match="no id of a call"):
        FunctionCall.from_id("bad")


def test_variants():
    variant = double.with_options(cpu=2, gpu="T4", timeout=5, retries=2, region="eu", env={"A": "1"})
    assert variant._target.overrides == {
        "resources": {"cpu": 2.0, "cpu_limit": None, "gpus": ({"type": "T4", "count": 1},)},
        "timeout": 5.0,
        "retries": {"max_retries": 2, "backoff_coefficient": 1.0, "initial_delay": 1.0, "max_delay": 60.0},
        "region": ["eu"],
        "env": {"A": "1"},
        "secrets": [],
        "environment": {"A": "1"},
    }
    stacked = variant.with_concurrency(max_inputs=4).with_options(max_containers=2, memory=64)
    assert stacked._target.overrides["scaling"] == {"max_inputs": 4, "target_inputs": None, "max_containers": 2}
    assert stacked._target.overrides["resources"]["memory"] == 64
    assert stacked._target.overrides["resources"]["cpu"] == 2.0
    batch = double.with_batching(max_batch_size=3, wait_ms=10)
    assert batch._target.overrides == {"methods": {"max_batch_size": 3, "batch_wait_ms": 10}}
    assert double._target.overrides is None
    assert variant.local(2) == 4
    pools = {f._target.pool for f in (double, variant, stacked, batch)}
    assert len(pools) == 4 and double._target.pool == "double"
    assert variant._target.pool == double.with_options(
        cpu=2, gpu="T4", timeout=5, retries=2, region="eu", env={"A": "1"}
    )._target.pool  # fmt: skip
    hash(variant._target)


@pytest.mark.parametrize(
    "options",
    [{"cpu": -1}, {"gpu": "nope"}, {"timeout": 0}, {"scaledown_window": 1}, {"max_containers": 0}, {"retries": -1}],
)
def test_variants_check_their_options(options):
    with pytest.raises(InvalidError):
        double.with_options(**options)


def test_not_available_yet():
    with pytest.raises(UnimplementedError, match="version"):
        Function.from_name("app", "f", version=1)
    with pytest.raises(UnimplementedError, match="volumes"):
        double.with_options(volumes={"/data": object()})


def test_pickled_function_is_the_same_where_its_app_is():
    assert pickle.loads(pickle.dumps(double)) is double
    variant = pickle.loads(pickle.dumps(double.with_options(cpu=3)))
    assert variant._target == double.with_options(cpu=3)._target
    assert pickle.loads(pickle.dumps(app)) is app


def test_reference_in_another_process_uses_the_worker_session():
    data = pickle.dumps((double, count, double.with_options(cpu=3), app))
    code = textwrap.dedent(
        """
        import pickle, sys
        from cloudfn import execution
        from cloudfn.client import current
        execution.in_worker = True
        class Session:
            def call(self, target, args, kwargs):
                return target.app, target.tag, target.overrides, args
            def generate(self, target, args, kwargs):
                return iter([target.tag])
        made = []
        def factory():
            made.append(Session())
            return made[0]
        current.install(factory)
        double, count, variant, app = pickle.loads(sys.stdin.buffer.read())
        assert double.remote(1) == ("functions", "double", None, (1,))
        assert variant.remote(1)[2] == {"resources": {"cpu": 3.0, "cpu_limit": None}}
        assert list(count.remote_gen(1)) == ["count"]
        assert app.label == "functions" and len(made) == 1
        assert pickle.loads(pickle.dumps(double)).remote(2)[3] == (2,)
        from cloudfn.exception import ExecutionError
        try:
            double.local(1)
        except ExecutionError as error:
            print(error)
        assert not any(name.startswith(("cloudfn.image", "asyncio")) for name in sys.modules), sys.modules
        """
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"The code of 'double' is not in this process" in done.stdout


def test_a_worker_makes_its_session_once(monkeypatch):
    made = []

    def factory():
        made.append(FakeSession())
        return made[-1]

    monkeypatch.setattr(cloudfn.execution, "in_worker", True)
    monkeypatch.setattr(current, "_factory", factory)
    monkeypatch.setattr(current, "_worker_session", None)
    call = double.spawn(1)
    assert FunctionCall.from_id(call.object_id).get() == ((1,), {})
    assert len(made) == 1


def test_metadata_is_kept():
    assert (double.__name__, double.__doc__, double.__module__) == ("double", "Doubles.", __name__)
    assert double.app is app and double.tag == "double" and repr(double) == "Function('double')"


def test_conflicting_names_of_options():
    with pytest.raises(ConflictError, match="keep_warm=1 and min_containers=2"):
        app.function(keep_warm=1, min_containers=2)
