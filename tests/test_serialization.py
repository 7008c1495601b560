"""Values to bytes and back, and what an error says of a value that cannot go."""

from __future__ import annotations

import collections
import dataclasses
import functools
import pickle
import socket
import sqlite3
import sys
import threading
import types
from typing import Any, Iterator

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfn import execution
from cloudfn.exception import DeserializationError, SerializationError
from cloudfn.serialization import OUT_OF_BAND, Encoder, dumps, dumps_in_band, explain, explain_arguments, loads

arrays = st.builds(
    lambda shape, kind, transpose: np.arange(int(np.prod(shape))).reshape(shape).astype(kind).T[:: 1 + transpose],
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.sampled_from(["i8", "f4", "c16", "U3", "?"]),
    st.integers(0, 1),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary() | arrays
nested = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.frozensets(st.integers() | st.text(), max_size=4)
    ),
    max_leaves=15,
)


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@given(st.lists(nested, min_size=1, max_size=3))
@settings(deadline=None, max_examples=60)
def test_what_goes_comes_back(values: list[Any]) -> None:
    encoder = Encoder()
    for value in values:
        data, buffers = encoder.dumps(value)
        assert same(loads(data, [bytearray(b.raw()) for b in buffers]), value)


@pytest.mark.parametrize("size", [OUT_OF_BAND - 1, OUT_OF_BAND, OUT_OF_BAND + 1])
def test_only_large_buffers_go_out_of_band(size: int) -> None:
    array = np.arange(size, dtype="u1")
    data, buffers = dumps(array)
    assert len(buffers) == (size >= OUT_OF_BAND)
    assert (len(data) < 1000) == (size >= OUT_OF_BAND)
    assert dumps_in_band(array) and np.array_equal(loads(dumps_in_band(array)), array)
    received = loads(data, [bytearray(b.raw()) for b in buffers])
    received[0] = 7
    assert received[0] == 7


@pytest.mark.parametrize("make", [lambda a: a[::2], lambda a: a.T, lambda a: a[:, ::-1], np.asfortranarray])
def test_arrays_that_are_not_in_a_row(make: Any) -> None:
    array = make(np.arange(250_000.0).reshape(500, 500))
    data, buffers = dumps(array)
    assert np.array_equal(loads(data, [bytearray(b.raw()) for b in buffers]), array)


def test_an_out_of_band_array_is_not_copied() -> None:
    array = np.zeros(100_000)
    _, [buffer] = dumps(array)
    array[5] = 3
    assert np.frombuffer(buffer.raw())[5] == 3


def test_two_dumps_share_nothing() -> None:
    encoder, shared = Encoder(), ["x"]
    first, second = encoder.dumps([shared, shared])[0], encoder.dumps([shared, shared])[0]
    assert first == second
    restored = loads(second)
    assert restored[0] is restored[1]
    assert loads(first)[0] is not restored[0]


def test_functions_of_two_dumps_have_globals_of_their_own() -> None:
    scope: dict[str, Any] = {"__name__": "__main__", "counter": [0]}
    exec("def bump():\n    counter[0] += 1\n    return counter[0]", scope)
    encoder = Encoder()
    first, second = (encoder.dumps(scope["bump"])[0] for _ in range(2))
    assert loads(first)() == 1
    assert loads(second)() == 1


class Bad:
    def __reduce__(self) -> Any:
        raise ValueError("not me")


class Interrupt:
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_a_failure_leaves_nothing_for_the_next_dumps() -> None:
    encoder = Encoder()
    good = encoder.dumps([1, "two"])[0]
    with pytest.raises(SerializationError, match="not me"):
        encoder.dumps(["x" * 200_000, np.zeros(100_000), Bad()])
    with pytest.raises(KeyboardInterrupt):
        encoder.dumps(["x" * 200_000, Interrupt()])
    assert encoder.dumps([1, "two"]) == (good, [])


def test_an_encoder_keeps_nothing_alive() -> None:
    encoder = Encoder()
    payload = type("Payload", (), {})()
    before = sys.getrefcount(payload)
    encoder.dumps([payload])
    assert sys.getrefcount(payload) == before


def test_an_object_that_pickles_while_it_is_pickled() -> None:
    encoder = Encoder()

    class Nested:
        def __reduce__(self) -> Any:
            return bytes, (encoder.dumps({"inner": 1})[0],)

    data, _ = encoder.dumps(["before", Nested(), "after"])
    before, inner, after = loads(data)
    assert (before, loads(inner), after) == ("before", {"inner": 1}, "after")


def test_a_large_dumps_does_not_slow_the_next() -> None:
    encoder = Encoder()
    pickler = encoder._pickler
    encoder.dumps([str(i) for i in range(50_000)])
    assert encoder._pickler is not pickler


def test_lambdas_closures_and_modules_by_value() -> None:
    factor = 3
    assert loads(dumps(lambda x: x * factor)[0])(2) == 6
    module = types.ModuleType("made_up_module")
    exec("def f(): return 5\nclass C: pass", module.__dict__)
    sys.modules["made_up_module"] = module
    cloudpickle.register_pickle_by_value(module)
    try:
        data = dumps([module.f, module.C])[0]
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["made_up_module"]
    f, c = loads(data)
    assert f() == 5
    assert c.__name__ == "C"


# ---- errors ----


@dataclasses.dataclass
class Model:
    _lock: Any = dataclasses.field(default_factory=threading.Lock)


@dataclasses.dataclass
class Config:
    model: Model = dataclasses.field(default_factory=Model)
    name: str = "x"


class Slotted:
    __slots__ = ("lock", "other")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.other = 1


connection = sqlite3.connect(":memory:")


def uses_global() -> Any:
    return [connection for _ in range(1)]


uses_global.__module__ = "__main__"  # so that it goes by value


def closure() -> Any:
    link = socket.socket()
    link.close()
    return lambda: link


def generator() -> Iterator[int]:
    yield 1


class Holder:
    lock = threading.Lock()


Holder.__module__ = "__main__"
lock = threading.Lock()
LOCK = "is a _thread.lock, which cannot be pickled"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([1, 2, 3, {"x": lock}], f"result of train(): [3]['x'] {LOCK}"),
        (lock, f"result of train() {LOCK}"),
        ((1, Config()), f"result of train(): [1].model._lock {LOCK}"),
        (Slotted(), f"result of train(): .lock {LOCK}"),
        (collections.OrderedDict(a=lock), f"result of train(): ['a'] {LOCK}"),
        (collections.deque([0, lock]), f"result of train(): [1] {LOCK}"),
        (functools.partial(print, 1, x=lock), f"result of train(): .keywords['x'] {LOCK}"),
        (Holder, f"result of train(): Holder.lock {LOCK}"),
        (Holder(), f"result of train(): .__class__.lock {LOCK}"),
        (np.array([1, lock], dtype=object), f"[1] {LOCK}"),
        ({(lock, 1): 2}, LOCK),
        (generator(), "result of train() is a generator, which cannot be pickled"),
        (Bad(), "Bad, which cannot be pickled (ValueError: not me)"),
        (
            uses_global,
            "result of train(): function uses_global() refers to 'connection' (sqlite3.Connection), "
            "which cannot be pickled",
        ),
        (closure(), "function closure.<locals>.<lambda>() refers to 'link' (socket.socket), which cannot be pickled"),
        (lambda config=Config(): 1, f"refers to 'config' ({__name__}.Config): config.model._lock {LOCK}"),  # noqa: B008
    ],
)
def test_the_attribute_at_fault_is_named(value: Any, expected: str) -> None:
    with pytest.raises(SerializationError) as caught:
        dumps(value, "result of train()")
    assert expected in caught.value.message
    assert caught.value.hint
    assert not isinstance(caught.value.__cause__, SerializationError)


def test_arguments_are_named() -> None:
    encoder = Encoder()
    for args, kwargs, parameters, expected in [
        ((1,), {"cfg": Config()}, (), f"argument 'cfg' of train(): cfg.model._lock {LOCK}"),
        ((1, Config()), {}, ("x", "cfg"), f"argument 'cfg' of train(): cfg.model._lock {LOCK}"),
        ((1, Config()), {}, (), f"argument 2 of train(): .model._lock {LOCK}"),
        ((lock,), {}, ("x",), f"argument 'x' of train(): x {LOCK}"),
    ]:
        with pytest.raises(SerializationError) as caught:
            encoder.dumps((args, kwargs))
        assert explain_arguments("train", args, kwargs, caught.value, parameters=parameters).message == expected


def test_a_cycle_does_not_hide_the_fault() -> None:
    config = Config()
    config.model.back = [config]  # type: ignore[attr-defined]
    config.itself = config  # type: ignore[attr-defined]
    assert explain(config) == f".model._lock {LOCK}"
    ring: list[Any] = [Bad()]
    ring.insert(0, ring)
    assert "[1] is a" in explain(ring)


def test_too_deep_is_said() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    encoder = Encoder()
    with pytest.raises(SerializationError):
        encoder.dumps(deep)
    assert "nested deeper than pickle can follow" in explain(deep, "result of f()")
    assert loads(encoder.dumps([1])[0]) == [1]


def test_no_memory_is_said() -> None:
    class Huge:
        def __reduce__(self) -> Any:
            raise MemoryError

    with pytest.raises(SerializationError, match="a list cannot be pickled: there is no memory"):
        dumps([0, Huge()])


def test_a_wide_value_is_explained_in_time() -> None:
    value = {i: [str(i)] for i in range(3000)}
    value[2999] = [lock]  # type: ignore[list-item]
    assert explain(value) == f"[2999][0] {LOCK}"


def test_an_error_that_cannot_be_printed() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    class Odd:
        def __reduce__(self) -> Any:
            raise Mute

    with pytest.raises(SerializationError, match="Odd"):
        dumps(Odd())


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"cnosuchmodule.sub\nName\n.", "module 'nosuchmodule', which is not installed here"),
        (b"cos\nNoSuchName\n.", "NoSuchName"),
        (b"", "a value cannot be unpickled here: EOFError"),
        (b"\xff\xff", "UnpicklingError"),
    ],
)
def test_what_cannot_be_unpickled_says_why(data: bytes, expected: str) -> None:
    with pytest.raises(DeserializationError, match=expected):
        loads(data)


def test_the_side_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "in_worker", True)
    with pytest.raises(
        DeserializationError, match=r"argument of train\(\) needs module 'nosuch', .* in the worker"
    ) as caught:
        loads(b"cnosuch\nName\n.", what="argument of train()")
    assert "uv_pip_install('nosuch')" in caught.value.hint


def test_a_cut_pickle_gives_one_type_of_error() -> None:
    whole = pickle.dumps([1, "text", {"a": (2.0, None)}], 5)
    for cut in range(len(whole)):
        with pytest.raises(DeserializationError):
            loads(whole[:cut])
