"""What goes wrong comes back as itself, with the way that it took."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
import traceback
from typing import Any, Iterator

import pytest

import cloudfn
from cloudfn.exception import DeserializationError, RemoteError, SerializationError, WorkerDiedError

pytestmark = pytest.mark.xdist_group("calls_errors")

app = cloudfn.App("errors")


class Custom(Exception):
    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"custom {code}")
        self.code = code
        self.detail = detail


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


def helper(x: int) -> None:
    raise ValueError(f"bad {x}")


@app.function()
def fails(x: int) -> None:
    helper(x)


@app.function()
def fails_custom() -> None:
    raise Custom(42, detail="all of it")


@app.function()
def fails_unpicklable() -> None:
    raise Unpicklable


@app.function()
def fails_with_a_cause() -> None:
    try:
        helper(1)
    except ValueError as error:
        raise KeyError("outer") from error


@app.function()
def leaves(kind: str) -> None:
    if kind == "exit":
        sys.exit(3)
    raise KeyboardInterrupt


@app.function()
def dies(how: str) -> None:
    if how == "exit":
        os._exit(3)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


@app.function()
def answers_a_lock() -> Any:
    return {"values": [1, {"lock": threading.Lock()}]}


@app.function()
def takes(*args: Any, **kwargs: Any) -> int:
    return len(args) + len(kwargs)


class Only:
    """Can be unpickled in a worker, but not here."""

    def __reduce__(self) -> Any:
        return refuse, ()


def refuse() -> Any:
    if cloudfn.is_local():
        raise RuntimeError("not here")
    return Only()


@app.function()
def answers_what_cannot_be_read() -> Any:
    return Only()


@app.function()
def passes_through(value: Any) -> Any:
    return value


@pytest.fixture(scope="module", autouse=True)
def running(state_dir: object) -> Iterator[None]:
    with app.run():
        yield


def test_the_traceback_joins_both_sides() -> None:
    for _ in range(2):  # through the reactor, then the direct way
        with pytest.raises(ValueError, match="bad 7") as caught:
            fails.remote(7)
        frames = traceback.extract_tb(caught.value.__traceback__)
        names = [frame.name for frame in frames]
        assert names[0] == "test_the_traceback_joins_both_sides"
        assert names[-2:] == ["fails", "helper"]
        assert [frame.filename for frame in frames[-2:]] == [__file__] * 2
        assert frames[-1].line == 'raise ValueError(f"bad {x}")'
        text = caught.value.__cloudfn_traceback__  # type: ignore[attr-defined]
        assert "helper" in text and "ValueError: bad 7" in text


def test_the_users_own_type_with_all_it_holds() -> None:
    with pytest.raises(Custom, match="custom 42") as caught:
        fails_custom.remote()
    assert (caught.value.code, caught.value.detail) == (42, "all of it")


def test_a_cause_comes_with_it() -> None:
    with pytest.raises(KeyError, match="outer") as caught:
        fails_with_a_cause.remote()
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_exception_that_cannot_be_pickled_keeps_its_text() -> None:
    with pytest.raises(Exception, match="holds a lock") as caught:
        fails_unpicklable.remote()
    assert "Unpicklable" in str(caught.value.__cloudfn_traceback__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["exit", "interrupt"])
def test_what_would_end_this_program_does_not(kind: str) -> None:
    with pytest.raises(RemoteError):
        leaves.remote(kind)


@pytest.mark.parametrize(("how", "words"), [("exit", "status 3"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL")])
def test_a_worker_that_dies_says_how(how: str, words: str) -> None:
    for _ in range(2):
        with pytest.raises(WorkerDiedError, match=words) as caught:
            dies.remote(how)
    if how == "exit":
        assert caught.value.exit_code == 3
    else:
        assert caught.value.signal == (signal.SIGSEGV if how == "segfault" else signal.SIGKILL)


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError, match=r"argument 2 of takes\(\).*\['a'\]\[1\] is a _thread.lock"):
        takes.remote(1, {"a": [0, threading.Lock()]})
    with pytest.raises(SerializationError, match=r"argument key of takes\(\)|argument 'key' of takes\(\)"):
        takes.remote(key=threading.Lock())
    assert takes.remote(1, 2) == 2


def test_a_result_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError, match=r"result of answers_a_lock\(\).*\['values'\]\[1\]\['lock'\]"):
        answers_a_lock.remote()


def test_a_result_that_cannot_be_read_here() -> None:
    with pytest.raises(DeserializationError, match="not here"):
        answers_what_cannot_be_read.remote()
    assert passes_through.remote(5) == 5


def test_wrong_arguments_fail_as_in_a_local_call() -> None:
    with pytest.raises(TypeError, match="x"):
        fails.remote(y=3)


def test_errors_can_be_pickled_again() -> None:
    with pytest.raises(WorkerDiedError) as caught:
        dies.remote("exit")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.exit_code) == (WorkerDiedError, str(caught.value), 3)


def test_errors_as_results_of_a_map() -> None:
    got = list(dies.map(["none", "exit", "none"], return_exceptions=True))
    assert [type(x) for x in got] == [type(None), WorkerDiedError, type(None)]
