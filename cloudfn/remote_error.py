"""Exceptions that travel from a worker to its caller, with their causes and their tracebacks.

An exception comes back as its own type, its `__traceback__` rebuilt from file, line and function, so that raising it
shows the caller's frames and then the remote ones; with several calls inside of each other, all of them. The text of
the remote traceback is always in `__cloudfn_traceback__`.

What would end the calling program, or cancel its task, without a word (SystemExit, KeyboardInterrupt, GeneratorExit,
asyncio.CancelledError) comes back as a RemoteError that has it as its `__cause__`. Modal lets SystemExit through, and
lets a KeyboardInterrupt end the container. Any other BaseException, InputCancellation too, comes back as itself.
"""

from __future__ import annotations

import ast
import builtins
import functools
import io
import linecache
import pickle
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any, Callable

from cloudfn.exception import DeserializationError, RemoteError, SerializationError
from cloudfn.serialization import dumps_in_band, loads

TEXT = "__cloudfn_traceback__"

_GROUP: Any = getattr(builtins, "BaseExceptionGroup", ())  # Python 3.10 has no groups; nothing is an instance of ()

_MAX_FRAMES = 1000  # of one exception; what is over goes from the middle
_MAX_ERRORS = 200  # in one chain or group
_Frame = tuple[str, int, str, str]  # file, line number, function, source line


@dataclass
class _Packed:
    """One exception. Links to others are positions in the list of all.

    Attributes:
        type: its full name, for when it cannot be rebuilt.
        payload: what `_recipe` made of it, pickled; empty where that failed, and then `fault` says why.
        members: those of an exception group; None for any other exception.
    """

    type: str
    message: str
    payload: bytes
    fault: str
    frames: list[_Frame]
    text: str = ""
    cause: int | None = None
    context: int | None = None
    suppress_context: bool = False
    members: list[int] | None = None


def pack(exc: BaseException, hide: Callable[[str], bool] = lambda filename: False) -> bytes:
    """The bytes that `unpack` makes an exception of. Never raises for what user code did to its exception.

    Args:
        hide: says of a frame's filename whether it is our own. Frames at the outer end of a traceback go as long as
            it says yes; all stay when none of them is the user's.
    """
    errors, links = _connected(exc)
    position = {id(error): i for i, error in enumerate(errors)}
    packed = []
    for error, (cause, context, members) in zip(errors, links, strict=True):
        item = _pack_one(error, _visible(error.__traceback__, hide))
        item.cause = position.get(id(cause))
        item.context = position.get(id(context))
        item.suppress_context = error.__suppress_context__
        if members is not None:
            item.members = [position[id(member)] for member in members if id(member) in position]
        packed.append(item)
    packed[0].text = _text(exc, _visible(exc.__traceback__, hide))
    return pickle.dumps([vars(item) for item in packed], 5)


def render(exc: BaseException, hide: Callable[[str], bool] = lambda filename: False) -> str:
    """The traceback as `pack` keeps it, for a log."""
    return _text(exc, _visible(exc.__traceback__, hide))


def unpack(data: bytes, relocate: Callable[[str], str] = lambda filename: filename) -> BaseException:
    """The exception of `pack`, ready to be raised; a RemoteError where its own type cannot be rebuilt here.

    Args:
        relocate: gives the local path of a file that the remote traceback names (a bundle's copy of a source file).

    Raises:
        DeserializationError: the bytes are not from `pack`.
    """
    try:
        packed = [_Packed(**item) for item in loads(data, what="an exception")]
        text = packed[0].text
    except (TypeError, LookupError) as problem:
        raise DeserializationError("what came instead of an exception is none") from problem
    built: dict[int, BaseException] = {}
    for i in _members_first(packed):
        built[i] = _build_one(packed[i], [built[m] for m in packed[i].members or []], text)
    for i, item in enumerate(packed):
        error = built[i]
        frames = [(relocate(file), line, name, source) for file, line, name, source in item.frames]
        BaseException.with_traceback(error, _traceback(frames))
        # A frozen dataclass that is an exception refuses the plain assignment.
        BaseException.__setattr__(error, "__cause__", None if item.cause is None else built[item.cause])
        BaseException.__setattr__(error, "__context__", None if item.context is None else built[item.context])
        BaseException.__setattr__(error, "__suppress_context__", item.suppress_context)
    raised = _loud(built[0], packed[0])
    BaseException.__setattr__(raised, TEXT, text)
    return raised


class _Plain(pickle.Unpickler):
    """Reads what holds nothing but Python's own containers, texts and numbers: no code of any kind is run."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name} has no place here")


def text(data: bytes) -> str:
    """The traceback of `pack`, for people, without unpickling the exception; "" where there is none."""
    try:
        first = _Plain(io.BytesIO(data)).load()[0]
        return str(first["text"]) or f"{first['type']}: {first['message']}"
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError, AttributeError, MemoryError):
        return ""


def _loud(error: BaseException, packed: _Packed) -> BaseException:
    asyncio = sys.modules.get("asyncio.exceptions")  # an unpickled CancelledError has imported it
    silent = (SystemExit, KeyboardInterrupt, GeneratorExit, *([asyncio.CancelledError] if asyncio else []))
    if not isinstance(error, silent):
        return error
    raised = RemoteError(
        f"the remote function raised {packed.type}{f': {packed.message}' if packed.message else ''}",
        hint="Here it would end the program or cancel the task, so it comes as a RemoteError; it is the `__cause__`.",
    )
    raised.__cause__ = error
    return raised


# ---- the worker's side ----


def _connected(exc: BaseException) -> tuple[list[BaseException], list[_Links]]:
    """Everything that hangs together with `exc`, itself first, each once; and what each of them points to."""
    errors, seen, links = [exc], {id(exc)}, []
    for error in errors:  # grows while we walk it
        members = _members(error)
        links.append((error.__cause__, error.__context__, members))
        for other in (error.__cause__, error.__context__, *(members or ())):
            if other is not None and id(other) not in seen and len(errors) < _MAX_ERRORS:
                seen.add(id(other))
                errors.append(other)
    return errors, links


_Links = tuple["BaseException | None", "BaseException | None", "tuple[BaseException, ...] | None"]


def _members(error: BaseException) -> tuple[BaseException, ...] | None:
    return error.exceptions if isinstance(error, _GROUP) else None


def _pack_one(error: BaseException, tb: TracebackType | None) -> _Packed:
    try:
        payload, fault = _recipe(error), ""
    except SerializationError as problem:
        payload, fault = b"", problem.message
    kind = type(error)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except Exception as problem:  # noqa: BLE001 - user code
        message = f"<its __str__ raised {type(problem).__name__}>"
    return _Packed(name, message, payload, fault, _frames(tb))


def _recipe(error: BaseException) -> bytes:
    """A pickle of ("plain", exception), where its class has a `__reduce__` in Python, or ("bare", class, args, state).

    The inherited `__reduce__` calls the class again with `args`, which fails, or formats the message twice, where an
    `__init__` takes other arguments than it hands to its base; so we go around `__init__`.
    """
    kind = type(error)
    what = f"exception {kind.__qualname__}"
    args, state, native = error.args, vars(error), False
    if isinstance(error, _GROUP):
        args, native = (error.message,), True
    elif not isinstance(kind.__reduce__, FunctionType) and not isinstance(kind.__reduce_ex__, FunctionType):
        reduced = error.__reduce__()
        if isinstance(reduced, tuple) and reduced[0] is kind:
            native = True
            args = reduced[1]
            state = {**vars(error), **(reduced[2] if len(reduced) > 2 else {})}
    state = {name: value for name, value in state.items() if name != TEXT}
    try:
        return dumps_in_band(("bare", kind, args, state) if native else ("plain", error), what)
    except SerializationError:
        state = {name: value for name, value in state.items() if _can_travel(value)}
        return dumps_in_band(("bare", kind, args, state), what)


def _can_travel(value: object) -> bool:
    try:
        dumps_in_band(value)
    except SerializationError:
        return False
    return True


def _visible(tb: TracebackType | None, hide: Callable[[str], bool]) -> TracebackType | None:
    inner = tb
    while inner is not None and hide(inner.tb_frame.f_code.co_filename):
        inner = inner.tb_next
    return inner or tb


def _frames(tb: TracebackType | None) -> list[_Frame]:
    frames = []
    while tb is not None:
        code = tb.tb_frame.f_code
        frames.append((tb.tb_frame, code.co_filename, tb.tb_lineno or code.co_firstlineno, code.co_name))
        tb = tb.tb_next
    if len(frames) > _MAX_FRAMES:
        del frames[_MAX_FRAMES // 2 : -_MAX_FRAMES // 2]
    return [
        (file, line, name, linecache.getline(file, line, frame.f_globals).rstrip())
        for frame, file, line, name in frames
    ]


def _text(exc: BaseException, tb: TracebackType | None) -> str:
    try:
        return "".join(traceback.format_exception(type(exc), exc, tb))
    except Exception as problem:  # noqa: BLE001 - formatting calls user code (`__str__`, `__notes__`, loaders)
        return f"{type(exc).__qualname__} (its traceback cannot be shown: {type(problem).__name__})\n"


# ---- the caller's side ----


def _members_first(packed: list[_Packed]) -> list[int]:
    """Positions in an order in which the members of a group come before it. Groups hold no cycles."""
    order: list[int] = []
    done: set[int] = set()
    todo = [(i, False) for i in range(len(packed))]
    while todo:
        i, ready = todo.pop()
        if ready:
            order.append(i)
        elif i not in done:
            done.add(i)
            todo.append((i, True))
            todo += [(m, False) for m in packed[i].members or []]
    return order


def _build_one(packed: _Packed, members: list[BaseException], text: str) -> BaseException:
    fault = packed.fault
    if packed.payload:
        try:
            how, *parts = loads(packed.payload, what=packed.type)
            error = parts[0] if how == "plain" else _rebuild(*parts, members=members)
            if isinstance(error, BaseException):
                return error
            fault = f"it came out as a {type(error).__name__}"
        except DeserializationError as problem:
            fault = str(problem)
        except Exception as problem:  # noqa: BLE001 - user code: `__new__`, `__setstate__`
            fault = f"{type(problem).__name__}: {problem}"
    if members:
        group: BaseException = _GROUP(f"{packed.message} [a {packed.type}]", members)
        return group
    return RemoteError(
        f"{packed.type}: {packed.message}\n\n"
        f"Its own type could not be rebuilt here: {fault}\n\nThe remote traceback:\n{text.rstrip()}"
    )


def _rebuild(
    kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any], *, members: list[BaseException]
) -> BaseException:
    """An exception without its own `__new__` and `__init__`, with those of the class written in C below it."""
    if issubclass(kind, _GROUP):
        args = (*args, members)
    native: Any = next(base for base in kind.__mro__ if _is_native(base))
    error: BaseException = native.__new__(kind, *args)
    native.__init__(error, *args)
    if kind.__setstate__ is not BaseException.__setstate__:
        error.__setstate__(state)
    else:
        for name, value in state.items():
            BaseException.__setattr__(error, name, value)  # a frozen dataclass refuses its own way
    return error


def _is_native(kind: type) -> bool:
    makers = [vars(kind)[name] for name in ("__new__", "__init__") if name in vars(kind)]
    return bool(makers) and not any(isinstance(maker, (FunctionType, staticmethod)) for maker in makers)


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    tb: TracebackType | None = None
    for file, line, name, source in reversed(frames):
        if source:
            _remember_line(file, line, source)
        frame = _raised_in(file, line, name)
        tb = TracebackType(tb, frame.tb_frame, frame.tb_lasti, line)
    return tb


def _raised_in(file: str, line: int, name: str) -> TracebackType:
    """The traceback of an exception that was raised at that place: a frame cannot be made in another way."""
    code = _template().replace(co_filename=file, co_name=name, co_firstlineno=line)
    if sys.version_info >= (3, 11):
        code = code.replace(co_qualname=name)
    try:
        exec(code, {"__name__": "", "__file__": file})
    except StopIteration as error:
        assert error.__traceback__ and error.__traceback__.tb_next
        return error.__traceback__.tb_next
    raise AssertionError("the template raises")


@functools.cache
def _template() -> CodeType:
    """Code that raises on its first line, and knows no columns, so that nothing gets underlined with ^^^^."""
    tree = ast.parse("raise StopIteration")
    for node in ast.walk(tree):
        if isinstance(node, (ast.stmt, ast.expr)) and sys.version_info >= (3, 11):
            node.col_offset = node.end_col_offset = -1
    return compile(tree, "<remote>", "exec")


def _remember_line(file: str, line: int, source: str) -> None:
    """Let tracebacks show a line of a file that exists only where it ran."""
    cached: Any = linecache.cache.get(file)
    known = cached is not None and len(cached) == 4 and cached[1] is None
    if line > 100_000 or file.startswith("<") or (cached and not known) or (not known and Path(file).exists()):
        return
    lines = list(cached[2]) if cached is not None and known else []
    lines += ["\n"] * (line - len(lines))
    lines[line - 1] = source + "\n"
    # Without a modification time `linecache.checkcache` leaves the entry alone.
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
