"""Values to bytes and back: pickle protocol 5 with cloudpickle's reach, and errors that name the attribute at fault.

Buffers of 64 KiB and more (numpy arrays, mostly) travel beside the pickle instead of in it, so nobody copies them.
"""

from __future__ import annotations

import functools
import pickle
import time
from itertools import islice
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from cloudfn.exception import DeserializationError, SerializationError
from cloudfn.wire import MAX_BUFFERS

OUT_OF_BAND = 64 * 1024  # bytes; below this a buffer of its own costs more than the copy
_LARGE = 64 * 1024  # bytes of pickle after which a pickler's memo table is worth less than a new one

# Values that plain pickle writes as cloudpickle does, without what it costs to get a pickler of ours ready.
ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})

_HINT = (
    "Make it inside the function (or in an `@enter` method), or leave it out of the object's state with `__getstate__`."
)


class Encoder:
    """A reusable pickler, for one thread at a time. Nothing is shared between two `dumps`.

    Args:
        in_band: keep buffers of every size in the pickle.
    """

    def __init__(self, *, in_band: bool = False) -> None:
        self._in_band = in_band
        self._busy = False
        self._renew()

    def dumps(self, obj: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
        """The pickle of `obj` and the buffers that go beside it.

        Raises:
            SerializationError: without the path to what is at fault, which costs; `explain_arguments` or `explain`
                find it when somebody wants to know.
        """
        if type(obj) in ATOMS:
            return pickle.dumps(obj, 5), []
        if self._busy:  # a `__reduce__` that pickles: the outer pickle is half-way
            return Encoder(in_band=self._in_band).dumps(obj)
        self._busy = True  # until all is clean again, so that an exception from outside leaves nothing behind
        try:
            self._dump(obj)
            data = b"".join(self._parts)
            buffers = self._buffers[:]
            if len(data) > _LARGE:
                self._renew()  # clearing a memo costs as much as its largest size so far
            else:
                self._clear_memo()
                self._parts.clear()
                self._buffers.clear()
                if self._pickler.globals_ref:
                    self._pickler.globals_ref = {}
        except Exception as error:  # `__reduce__` and `__getstate__` are user code: they raise anything
            self._renew()
            self._busy = False
            raise SerializationError(_why(obj, error), hint=_HINT) from error
        except BaseException:
            self._renew()
            self._busy = False
            raise
        self._busy = False
        return data, buffers

    def _renew(self) -> None:
        parts: list[bytes] = []
        buffers: list[pickle.PickleBuffer] = []

        def keep(buffer: pickle.PickleBuffer) -> bool:
            if buffer.raw().nbytes < OUT_OF_BAND or len(buffers) >= MAX_BUFFERS:
                return True
            buffers.append(buffer)
            return False

        import cloudpickle  # 30 ms, which `import cloudfn` must not pay

        pickler = cloudpickle.Pickler(_Sink(parts), 5, buffer_callback=None if self._in_band else keep)
        self._pickler = pickler
        # cloudpickle's own `dump` only rewords a RecursionError.
        self._dump: Callable[[object], None] = functools.partial(pickle.Pickler.dump, pickler)
        self._clear_memo: Callable[[], None] = pickler.clear_memo
        self._parts = parts
        self._buffers = buffers


class _Sink:
    """What a pickler takes for a file: a list of what was written."""

    def __init__(self, parts: list[bytes]) -> None:
        self.write = parts.append


def dumps(obj: object, what: str = "") -> tuple[bytes, list[pickle.PickleBuffer]]:
    """One pickle, and the buffers that go beside it.

    Args:
        what: how an error calls the value, "result of train()".

    Raises:
        SerializationError: naming the attribute at fault.
    """
    return _dumps(Encoder(), obj, what)


def dumps_in_band(obj: object, what: str = "") -> bytes:
    """As `dumps`, all in one."""
    if type(obj) in ATOMS:  # a new pickler would cost ten times as much
        return pickle.dumps(obj, 5)
    return _dumps(Encoder(in_band=True), obj, what)[0]


def _dumps(encoder: Encoder, obj: object, what: str) -> tuple[bytes, list[pickle.PickleBuffer]]:
    try:
        return encoder.dumps(obj)
    except SerializationError as error:
        raise SerializationError(explain(obj, what), hint=error.hint) from error.__cause__


def loads(data: Any, buffers: Iterable[Any] = (), what: str = "") -> Any:
    """The value of a pickle. Arrays are views of `buffers`: writable where the buffer is a bytearray.

    Args:
        data: bytes, or anything that shows its bytes.
        buffers: what `dumps` returned beside them, in order.
        what: how an error calls the value, "argument of train()".

    Raises:
        DeserializationError: naming the module or the name that is missing, and on which side.
    """
    try:
        if buffers:
            return pickle.loads(data, buffers=buffers)  # noqa: S301 - the peer has proved that it may run code here
        return pickle.loads(data)  # noqa: S301
    except Exception as error:  # `__setstate__` and imports are user code: they raise anything
        raise _load_error(what or "a value", error) from error


def _load_error(what: str, error: Exception) -> DeserializationError:
    from cloudfn import execution

    side = "in the worker" if execution.in_worker else "here"
    if isinstance(error, ModuleNotFoundError):
        hint = (
            f"Add it to the function's image, as in `Image.debian_slim().uv_pip_install({error.name!r})`."
            if execution.in_worker
            else "Install it on this machine too, or return plain values from the function."
        )
        return DeserializationError(f"{what} needs module {error.name!r}, which is not installed {side}", hint=hint)
    if isinstance(error, (AttributeError, ImportError)):
        return DeserializationError(
            f"{what} needs a name that is not there {side}: {error}",
            hint="Does the calling side have another version of that package than the worker?",
        )
    return DeserializationError(f"{what} cannot be unpickled {side}: {type(error).__name__}: {_text(error)}")


# ---- what is at fault: runs after a failure only, so it may be slow ----

_MAX_DEPTH = 40
_MAX_CHILDREN = 10_000  # looked at in one container
_MAX_SECONDS = 3.0
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes, bytearray})


class _Step(NamedTuple):
    """One step towards the fault: text to add to the path, or, with an owner, a name that a function refers to."""

    text: str
    owner: str = ""


class _Found(NamedTuple):
    steps: list[tuple[_Step, object]]
    value: object
    error: Exception


def explain(obj: object, what: str = "") -> str:
    """One sentence that says which part of `obj` cannot be pickled, as in
    "result of train(): [3]['x'] is a _thread.lock, which cannot be pickled".

    Args:
        what: how the sentence calls the value.
    """
    return _explain(obj, what, "")


def explain_arguments(
    function: str,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    error: BaseException,
    *,
    parameters: Sequence[str] = (),
) -> SerializationError:
    """The error to raise when the arguments of a call could not be pickled.

    Args:
        function: name of the called function.
        error: what `Encoder.dumps` raised.
        parameters: names of the positional parameters, where the caller knows them.
    """
    named = [(f"{i + 1}", "", value) for i, value in enumerate(args)]
    for i, name in enumerate(parameters[: len(args)]):
        named[i] = (f"'{name}'", name, args[i])
    named += [(f"'{name}'", name, value) for name, value in kwargs.items()]
    for label, name, value in named:
        if _Walk().error_of(value):
            what = f"argument {label} of {function}()"
            return SerializationError(_explain(value, what, name), hint=_HINT)
    return SerializationError(f"arguments of {function}(): {error}", hint=_HINT)


def _explain(obj: object, what: str, path: str) -> str:
    walk = _Walk()
    error = walk.error_of(obj)
    if error is None:
        return f"{what or 'the value'} could not be pickled at first, but can be now: does something else change it?"
    found = walk.find(obj, error, 0) or _Found([], obj, error)
    clauses = [what] if what else []
    if not path and isinstance(obj, type):
        path = obj.__qualname__
    for step, value in found.steps:
        if step.owner:
            clauses.append(f"{step.owner} refers to '{step.text}' ({_type_name(value)})")
            path = step.text
        else:
            path += step.text
    if found.steps and found.steps[-1][0].owner:
        clauses[-1] += f", which cannot be pickled{_reason(found.value, found.error)}"
    elif path or not clauses:
        clauses.append(_why(found.value, found.error, path))
    else:
        clauses[-1] = _why(found.value, found.error, clauses[-1])
    return ": ".join(clauses)


def _why(value: object, error: BaseException, subject: str = "") -> str:
    if isinstance(value, FunctionType):
        said = f"function {value.__qualname__}() cannot be pickled"
        return (f"{subject}: {said}" if subject else said) + _reason(value, error)
    kind = _type_name(value)
    kind = f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
    said = f"{subject} is {kind}, which cannot be pickled" if subject else f"{kind} cannot be pickled"
    return said + _reason(value, error)


def _reason(value: object, error: BaseException) -> str:
    """What the error adds to "cannot be pickled", if anything."""
    if isinstance(error, RecursionError):
        return ": it is nested deeper than pickle can follow, or its `__reduce__` never ends"
    if isinstance(error, MemoryError):
        return ": there is no memory for a second copy of it"
    text = _text(error)
    if any(f"cannot pickle '{name}'" in text for name in (_type_name(value), type(value).__name__)):
        return ""
    return f" ({type(error).__name__}: {text})"


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


class _Walk:
    """A search for the innermost part that fails by itself, bounded in depth, width and time."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + _MAX_SECONDS
        self._failing: dict[int, object] = {}  # by id; holds them, so that no id is used again

    def error_of(self, value: object) -> Exception | None:
        try:
            Encoder().dumps(value)
        except SerializationError as error:
            cause = error.__cause__
            return cause if isinstance(cause, Exception) else error
        return None

    def find(self, value: object, error: Exception, depth: int) -> _Found | None:
        """The fault inside of `value`, which fails; None when everything in it leads back to where we came from."""
        if isinstance(error, (RecursionError, MemoryError)):
            return _Found([], value, error)
        self._failing[id(value)] = value
        circular = False
        for step, child in islice(_parts_of(value), _MAX_CHILDREN):
            if type(child) in _PLAIN:
                continue
            if depth >= _MAX_DEPTH or time.monotonic() > self._deadline:
                break
            if id(child) in self._failing:
                circular = True
                continue
            child_error = self.error_of(child)
            if child_error is None:
                continue
            found = self.find(child, child_error, depth + 1)
            if found is not None:
                return _Found([(step, child), *found.steps], found.value, found.error)
            circular = True
        return None if circular else _Found([], value, error)


def _parts_of(value: object) -> Iterator[tuple[_Step, object]]:
    """What cloudpickle would look into."""
    if isinstance(value, FunctionType):
        yield from _parts_of_function(value)
    elif isinstance(value, type):
        yield from ((_Step(f".{name}"), v) for name, v in list(vars(value).items()) if name not in _CLASS_SLOTS)
        yield from ((_Step(f".__bases__[{i}]"), base) for i, base in enumerate(value.__bases__) if base is not object)
    elif isinstance(value, MethodType):
        yield _Step(""), value.__func__
        yield _Step(".__self__"), value.__self__
    elif isinstance(value, functools.partial):
        yield _Step(".func"), value.func
        yield from ((_Step(f".args[{i}]"), v) for i, v in enumerate(value.args))
        yield from ((_Step(f".keywords[{k!r}]"), v) for k, v in value.keywords.items())
    elif isinstance(value, ModuleType):
        yield from ((_Step(f".{name}"), v) for name, v in list(vars(value).items()))
    elif isinstance(value, CellType):
        yield from _content(value, _Step(".cell_contents"))
    else:
        yield from _items_of(value)
        if type(value) not in _CONTAINERS:
            yield from _state_of(value)


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset})
_CLASS_SLOTS = frozenset({"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__"})


def _items_of(value: object) -> Iterator[tuple[_Step, object]]:
    if isinstance(value, dict):
        for key, item in list(dict.items(value)):
            yield _Step(f"[{_short(key)}]"), item
            yield _Step(f" key {_short(key)}"), key
    elif isinstance(value, (list, tuple)):
        yield from ((_Step(f"[{i}]"), item) for i, item in enumerate(value))
    elif isinstance(value, (set, frozenset)):
        yield from ((_Step(f" element {_short(item)}"), item) for item in list(value))


def _parts_of_function(function: FunctionType) -> Iterator[tuple[_Step, object]]:
    owner = f"function {function.__qualname__}()"
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        yield from _content(cell, _Step(name, owner))
    scope = function.__globals__
    yield from ((_Step(name, owner), scope[name]) for name in sorted(_global_names(code)) if name in scope)
    defaults = function.__defaults__ or ()
    names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    yield from ((_Step(name, owner), default) for name, default in zip(names, defaults, strict=True))
    yield from ((_Step(name, owner), default) for name, default in (function.__kwdefaults__ or {}).items())
    label = f"{function.__qualname__}."
    yield from ((_Step(label + name), v) for name, v in vars(function).items())
    yield from ((_Step(f"{label}__annotations__[{name!r}]"), v) for name, v in function.__annotations__.items())


def _content(cell: CellType, step: _Step) -> Iterator[tuple[_Step, object]]:
    try:
        yield step, cell.cell_contents
    except ValueError:  # empty: the variable has no value yet
        return


def _global_names(code: CodeType) -> set[str]:
    """Global names that the code and the functions inside of it use."""
    import dis

    names = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _global_names(constant)
    return names


def _state_of(value: object) -> Iterator[tuple[_Step, object]]:
    """What an object reduces to: its attributes, whatever way it keeps them."""
    import cloudpickle

    yield _Step(".__class__"), type(value)
    reducer = cloudpickle.Pickler.dispatch_table.get(type(value))
    try:
        reduced = reducer(value) if reducer else value.__reduce_ex__(5)
    except Exception as error:  # noqa: BLE001 - user code, and already known to fail
        yield from _suspects(value, error)
        return
    if not isinstance(reduced, tuple):
        return
    _, args, state, items, pairs = (*reduced, None, None, None, None)[:5]
    if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):  # (attributes, slots)
        yield from ((_Step(f".{name}"), v) for part in state for name, v in (part or {}).items())
    elif isinstance(state, dict):
        yield from ((_Step(f".{name}" if isinstance(name, str) else f"[{name!r}]"), v) for name, v in state.items())
    elif state is not None:
        yield _Step(".__getstate__()"), state
    yield from ((_Step(f".__reduce__()[1][{i}]"), v) for i, v in enumerate(args or ()) if not isinstance(v, type))
    if not isinstance(value, (list, dict)):
        yield from ((_Step(f"[{i}]"), item) for i, item in enumerate(items or ()))
        yield from ((_Step(f"[{_short(key)}]"), item) for key, item in pairs or ())


def _suspects(value: object, error: Exception) -> Iterator[tuple[_Step, object]]:
    """Attributes that fail with the very error of the object's own `__reduce__` or `__getstate__`."""
    walk = _Walk()
    for name, attribute in list(getattr(value, "__dict__", {}).items()):
        if type(attribute) not in _PLAIN and _text(walk.error_of(attribute)) == _text(error):
            yield _Step(f".{name}"), attribute


def _short(value: object) -> str:
    text = _text(value, repr)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(value: object, form: Callable[[object], str] = str) -> str:
    try:
        return form(value)
    except Exception:  # noqa: BLE001 - user code
        return f"<{_type_name(value)}>"
