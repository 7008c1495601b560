"""Exceptions that travel: their own type, their links, and their traceback joined to the local one."""

# ruff: noqa: F821 - ExceptionGroup, in tests for Python 3.11 and later

from __future__ import annotations

import asyncio
import dataclasses
import linecache
import pickle
import subprocess
import sys
import threading
import traceback
import types
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfn.exception import DeserializationError, FunctionTimeoutError, InputCancellation, RemoteError
from cloudfn.remote_error import TEXT, pack, unpack


def remote(function: Callable[[], Any], **options: Any) -> bytes:
    """What a worker would send for a function that fails."""
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - as a worker does
        return pack(error, **options)
    raise AssertionError("it did not fail")


def travel(error: BaseException) -> BaseException:
    return unpack(pack(error))


def frames(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


class OddInit(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class FormatsTwice(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"no {name}")


class KeywordOnly(ValueError):
    def __init__(self, *, why: str) -> None:
        self.why = why


class OddOSError(OSError):
    def __init__(self, code: int) -> None:
        super().__init__(code, "went wrong", "/some/file")


class OwnReduce(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__("text")
        self.pair = (a, b)

    def __reduce__(self) -> Any:
        return OwnReduce, self.pair


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class UserBase(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text", 3),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        StopIteration(5),
        ModuleNotFoundError("no x", name="x"),
        SyntaxError("bad", ("f.py", 1, 2, "text")),
        OddInit(3, "why"),
        FormatsTwice("bread"),
        KeywordOnly(why="because"),
        OddOSError(7),
        OwnReduce(1, 2),
        UserBase("x"),
        InputCancellation("stop"),
        FunctionTimeoutError("too long", hint="wait"),
        subprocess.CalledProcessError(3, ["x"], b"out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_own_type_message_and_attributes(error: BaseException) -> None:
    copy = travel(error)
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.args == error.args
    assert {k: v for k, v in vars(copy).items() if k != TEXT} == vars(error)
    for name in ("errno", "filename", "reason", "start", "value", "lineno", "name", "msg"):
        assert getattr(copy, name, None) == getattr(error, name, None)


@given(st.lists(st.text() | st.integers() | st.none() | st.binary(), max_size=4), st.dictionaries(st.text(), st.text()))
@settings(deadline=None, max_examples=50)
def test_any_arguments(args: list[Any], attributes: dict[str, str]) -> None:
    error = OddInit.__new__(OddInit)
    error.args = tuple(args)
    error.__dict__.update(attributes)
    copy = travel(error)
    assert copy.args == tuple(args)
    assert {k: v for k, v in vars(copy).items() if k != TEXT} == {k: v for k, v in attributes.items() if k != TEXT}


def test_a_frozen_dataclass() -> None:
    copy = travel(Frozen(3))
    assert isinstance(copy, Frozen)
    assert copy.code == 3


def inner() -> None:
    raise OddInit(1, "deep")


def outer() -> None:
    inner()


def middle_worker() -> None:
    raise unpack(remote(outer))


def test_the_remote_traceback_follows_the_local_one() -> None:
    with pytest.raises(OddInit) as caught:
        raise unpack(remote(outer))
    assert frames(caught.value)[-3:] == ["remote", "outer", "inner"]
    assert frames(caught.value)[0] == "test_the_remote_traceback_follows_the_local_one"
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert last.filename == __file__
    assert last.line == 'raise OddInit(1, "deep")'


def test_nested_calls_keep_every_frame() -> None:
    error = unpack(remote(middle_worker))
    assert frames(error) == ["remote", "middle_worker", "remote", "outer", "inner"]
    text = getattr(error, TEXT)
    assert text.index("in middle_worker") < text.index("in outer") < text.index("in inner")
    assert text.rstrip().endswith("OddInit: 1: deep")


def test_our_own_outer_frames_are_hidden() -> None:
    scope: dict[str, Any] = {"outer": outer}
    exec(compile("def run():\n    outer()", "/ours/worker.py", "exec"), scope)

    def ours(filename: str) -> bool:
        return filename.startswith("/ours") or filename.endswith("nothing.py")

    def call() -> Any:
        try:
            scope["run"]()
        except OddInit as error:
            return pack(error.with_traceback(error.__traceback__.tb_next), ours)  # type: ignore[union-attr]

    error = unpack(call())
    assert frames(error) == ["outer", "inner"]
    assert "/ours" not in getattr(error, TEXT)
    assert frames(unpack(remote(outer, hide=lambda filename: True))) == ["remote", "outer", "inner"]


def printed(program: str, tmp_path: Path) -> str:
    path = tmp_path / "program.py"
    path.write_text(program)
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True)
    assert run.returncode == 1
    return run.stderr


def test_what_python_prints(tmp_path: Path) -> None:
    program = """
from cloudfn.remote_error import pack, unpack
def train():
    raise KeyError("x")
def call():
    try:
        train()
    except KeyError as error:
        return pack(error)
raise unpack(call())
"""
    path = tmp_path / "program.py"
    assert printed(program, tmp_path) == (
        "Traceback (most recent call last):\n"
        f'  File "{path}", line 10, in <module>\n    raise unpack(call())\n'
        f'  File "{path}", line 7, in call\n    train()\n'
        f'  File "{path}", line 4, in train\n    raise KeyError("x")\n'
        "KeyError: 'x'\n"
    )


def test_system_exit_is_not_silent(tmp_path: Path) -> None:
    program = "from cloudfn.remote_error import pack, unpack\nraise unpack(pack(SystemExit(0)))"
    assert "RemoteError: the remote function raised SystemExit: 0" in printed(program, tmp_path)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()], ids=repr
)
def test_what_would_end_the_caller_comes_wrapped(error: BaseException) -> None:
    def fail() -> None:
        raise error

    copy = unpack(remote(fail))
    assert isinstance(copy, RemoteError)
    assert type(error).__name__ in str(copy)
    assert type(copy.__cause__) is type(error)
    assert frames(copy.__cause__) == ["remote", "fail"]
    assert "fail" in getattr(copy, TEXT)


def chained() -> None:
    try:
        try:
            inner()
        except OddInit:
            raise KeyError("while handling")
    except KeyError as error:
        raise ValueError("explicit") from error


def test_causes_and_contexts() -> None:
    error = unpack(remote(chained))
    cause = error.__cause__
    assert isinstance(error, ValueError)
    assert isinstance(cause, KeyError)
    assert error.__context__ is cause
    assert error.__suppress_context__
    assert isinstance(cause.__context__, OddInit)
    assert not cause.__suppress_context__
    assert frames(cause.__context__) == ["chained", "inner"]
    shown = "".join(traceback.format_exception(error))
    assert "direct cause" in shown
    assert "During handling" in shown


def test_from_none() -> None:
    def fail() -> None:
        try:
            inner()
        except OddInit:
            raise ValueError("clean") from None

    error = unpack(remote(fail))
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert isinstance(error.__context__, OddInit)


def test_a_ring_of_causes() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    copy = travel(first)
    assert copy.__cause__ is not None
    assert copy.__cause__.__cause__ is copy


def test_a_long_chain_is_cut() -> None:
    error = first = ValueError("0")
    for i in range(1, 5000):
        following = ValueError(str(i))
        following.__cause__ = error
        error = following
    assert first.__cause__ is None
    assert str(travel(error)) == "4999"


if sys.version_info >= (3, 11):

    class Group(ExceptionGroup[Exception]):
        def __new__(cls, excs: list[Exception], code: int) -> Group:
            group = super().__new__(cls, "custom", excs)
            group.code = code
            return group

        code: int

    def test_notes() -> None:
        error = ValueError("x")
        error.add_note("look here")
        copy = travel(travel(error))
        assert copy.__notes__ == ["look here"]

    def test_groups_keep_what_their_members_have() -> None:
        def fail() -> None:
            members: list[Exception] = []
            for function in (inner, chained):
                try:
                    function()
                except (OddInit, ValueError) as error:
                    members.append(error)
            raise Group([ExceptionGroup("sub", members), OSError(2, "none")], 7)

        error = unpack(remote(fail))
        assert isinstance(error, Group)
        assert error.code == 7
        assert error.message == "custom"
        sub, plain = error.exceptions
        assert isinstance(sub, ExceptionGroup)
        assert isinstance(plain, FileNotFoundError)
        assert frames(sub.exceptions[0]) == ["fail", "inner"]
        assert isinstance(sub.exceptions[1].__cause__, KeyError)
        assert "sub (2 sub-exceptions)" in "".join(traceback.format_exception(error))

    def test_a_group_with_a_member_that_cannot_travel() -> None:
        error = travel(ExceptionGroup("all", [ValueError("good"), ValueError(threading.Lock())]))
        assert isinstance(error, ExceptionGroup)
        assert isinstance(error.exceptions[0], ValueError)
        assert isinstance(error.exceptions[1], RemoteError)


def missing_module_error() -> bytes:
    """An exception whose module exists in the worker only."""
    module = types.ModuleType("only_in_the_worker")
    sys.modules[module.__name__] = module
    exec("class Lost(Exception): pass\ndef fail(): raise Lost('gone', 3)", module.__dict__)
    try:
        return remote(module.fail)
    finally:
        del sys.modules[module.__name__]


def test_a_type_that_is_not_here() -> None:
    error = unpack(missing_module_error())
    assert isinstance(error, RemoteError)
    for part in ("only_in_the_worker.Lost: ('gone', 3)", "module 'only_in_the_worker'", "in fail", "Traceback"):
        assert part in str(error)
    assert frames(error) == ["remote", "fail"]
    again = unpack(pack(error))
    assert isinstance(again, RemoteError)
    assert "only_in_the_worker.Lost" in str(again)


class Holds(Exception):
    pass


class BadReduce(Exception):
    def __reduce__(self) -> Any:
        raise ZeroDivisionError("no")


class Liar(Exception):
    def __reduce__(self) -> Any:
        return str, ("no exception",)


class NoText(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_attributes_that_cannot_travel_are_left_out() -> None:
    error = Holds("text")
    error.lock, error.code = threading.Lock(), 5  # type: ignore[attr-defined]
    copy = travel(error)
    assert isinstance(copy, Holds)
    assert copy.args == ("text",)
    assert copy.code == 5  # type: ignore[attr-defined]
    assert not hasattr(copy, "lock")


def test_what_cannot_be_rebuilt_is_told() -> None:
    held = travel(Holds("x", threading.Lock()))
    assert isinstance(held, RemoteError)
    assert "Holds: ('x'" in str(held)
    assert "_thread.lock" in str(held)
    assert type(travel(BadReduce("x"))) is BadReduce
    liar = travel(Liar("x"))
    assert isinstance(liar, RemoteError)
    assert "came out as a str" in str(liar)
    assert type(travel(NoText("x"))) is NoText


def test_classes_of_main_come_back_as_the_same_class() -> None:
    kind = type("MainError", (Exception,), {"__module__": "__main__"})
    assert type(travel(kind("x"))) is kind


def test_deep_recursion() -> None:
    def recurse() -> None:
        recurse()

    error = unpack(remote(recurse))
    assert isinstance(error, RecursionError)
    assert 10 < len(frames(error)) <= 1000


def test_source_lines_of_files_that_are_not_here(tmp_path: Path) -> None:
    path = tmp_path / "gone.py"
    path.write_text("def f():\n    raise ValueError('x')  # this very line\n")
    scope: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), scope)
    data = remote(scope["f"])
    path.unlink()
    linecache.clearcache()
    error = unpack(data)
    linecache.checkcache()
    assert "# this very line" in "".join(traceback.format_exception(error))
    assert "# this very line" in getattr(unpack(pack(error)), TEXT)


def test_files_can_be_relocated() -> None:
    error = unpack(remote(outer), lambda filename: filename.replace(__file__, "/home/me/app.py"))
    assert {frame.filename for frame in traceback.extract_tb(error.__traceback__)} == {"/home/me/app.py"}


@pytest.mark.parametrize("data", [b"", b"\x00", pickle.dumps(5), pickle.dumps([]), pickle.dumps([{"type": 1}])])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DeserializationError):
        unpack(data)
