"""Classes of an app, and handles on their instances."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Collection, Mapping, NoReturn, Sequence

from cloudfn import known_apps, parameters, partial_function
from cloudfn.client.target import Target
from cloudfn.exception import ExecutionError, InvalidError, InvalidTypeError
from cloudfn.function import Function
from cloudfn.partial_function import CLS, PartialFunction

if TYPE_CHECKING:
    from cloudfn.definition import Definition
    from cloudfn.known_apps import Owner
    from cloudfn.options import Options
    from cloudfn.retries import Retries
    from cloudfn.secret import Secret


class Cls:
    """What `@app.cls()` makes of a class: call it for a handle, `Model(size=3).predict.remote(x)`.

    Attributes of the class itself can be read from it, and it can be subclassed. A Cls can be pickled: as a reference.
    """

    def __init__(
        self,
        app: Owner,
        tag: str,
        *,
        methods: Mapping[str, bool],
        schema: parameters.Schema,
        user_cls: type | None = None,
        options: Options | None = None,
        partial: PartialFunction[..., Any, Any] | None = None,
        overrides: Mapping[str, Any] | None = None,
        web: Collection[str] = (),
    ) -> None:
        """Not for users.

        Args:
            methods: names of what can be called, and whether each is a generator.
            schema: the parameters; empty for a class without any or with its own constructor.
            user_cls: the user's class; None where this process only has a reference.
            options: as decorated; None for a reference.
            partial: what `@concurrent` said.
            overrides: see `Target`.
            web: names of the methods that are web functions.
        """
        self._app = app
        self._tag = tag
        self._methods = methods
        self._schema = schema
        self._user_cls = user_cls
        self._options = options
        self._partial = partial
        self._overrides = overrides
        self._web = web
        self.__name__ = getattr(user_cls, "__name__", tag)
        self.__qualname__ = getattr(user_cls, "__qualname__", tag)
        self.__module__ = getattr(user_cls, "__module__", "")
        self.__doc__ = getattr(user_cls, "__doc__", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Obj:
        """A handle on the instance with these parameters; nothing runs.

        Raises:
            InvalidError: positional arguments where there are `parameter()` fields.
            InvalidTypeError: a parameter is missing, unknown or of a wrong type.
            SerializationError: an argument of an own constructor cannot be pickled.
        """
        args, kwargs = self._bind(args, kwargs)
        return Obj(self, args, kwargs, _pack(args, kwargs, self._tag))

    def _handle_for(self, instance: object) -> Obj:
        """The handle that stands for a real instance."""
        args, kwargs = parameters.arguments_of(instance)
        return self(*args, **kwargs)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments in one form, however they were passed: equal instances share their workers."""
        if self._schema:
            kwargs = parameters.bind(self._schema, self._tag, args, kwargs)
        elif self._user_cls is not None:
            try:
                bound = inspect.signature(self._user_cls).bind(*args, **kwargs)
            except TypeError as error:
                raise InvalidTypeError(f"{self._tag}(): {error}.") from None
            except ValueError:  # written in C, without a signature
                return args, dict(sorted(kwargs.items()))
            args, kwargs = bound.args, bound.kwargs
        return args, dict(sorted(kwargs.items()))

    def with_options(
        self,
        *,
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        gpu: str | list[str] | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        volumes: Mapping[Any, Any] = {},
        retries: int | Retries | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        timeout: int | None = None,
        region: str | Sequence[str] | None = None,
        cloud: str | None = None,
        routing_region: str | None = None,
    ) -> Cls:
        """The same class with other options, in workers of its own. See `Function.with_options`."""
        given = dict(locals())
        del given["self"]
        from cloudfn import options

        return self._variant(options.overrides(given, self._app.label))

    def with_concurrency(self, *, max_inputs: int, target_inputs: int | None = None) -> Cls:
        """The same class as if under `@concurrent(...)`, in workers of its own."""
        return self._variant(partial_function.concurrency_overrides(max_inputs, target_inputs))

    def with_batching(self, *, max_batch_size: int, wait_ms: int) -> Cls:
        """The same class with all its methods as if under `@batched(...)`, in workers of its own."""
        return self._variant(partial_function.batching_overrides(max_batch_size, wait_ms))

    def _variant(self, overrides: Mapping[str, Any]) -> Cls:
        from cloudfn.options import merge

        return Cls(
            self._app,
            self._tag,
            methods=self._methods,
            schema=self._schema,
            user_cls=self._user_cls,
            options=self._options,
            partial=self._partial,
            overrides=merge(self._overrides, overrides),
            web=self._web,
        )

    @classmethod
    def from_name(
        cls,
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: object = None,
    ) -> Cls:
        """A class of a deployed app. Arguments and errors as `Function.from_name`."""
        from cloudfn.deployed_app import DeployedApp, check_lookup

        check_lookup("Cls.from_name", app_name, version=version, environment_name=environment_name, client=client)
        app = DeployedApp(app_name)
        return from_description(app, app.find(name, is_class=True))

    def get_user_cls(self) -> type:
        """The user's own class. Raises `ExecutionError` where this process does not have it."""
        if self._user_cls is None:
            raise ExecutionError(
                f"The code of the class '{self._tag}' is not in this process: here it is only a reference.",
                hint="Call its methods by .remote(), or keep the class in a module that both sides import.",
            )
        return self._user_cls

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_user_cls", "_methods"):  # not there before `__init__`
            raise AttributeError(name)
        if name in self._methods:
            return UnboundMethod(self._tag, name)
        if self._user_cls is None:
            raise AttributeError(f"'{self._tag}' has no method {name!r}; its code is not in this process.")
        return getattr(self._user_cls, name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.get_user_cls(),)

    def __instancecheck__(self, instance: object) -> bool:
        if isinstance(instance, Obj):
            return instance._cls._tag == self._tag and instance._cls._app.label == self._app.label
        return self._user_cls is not None and isinstance(instance, self._user_cls)

    @property
    def __cloudfn_definition__(self) -> Definition:
        from cloudfn.definition import Definition

        members = partial_function.find(self.get_user_cls())
        return Definition(
            target=self.get_user_cls(),
            methods={name: member.raw for name, member in members.items() if member.is_callable},
            enter=tuple(member.raw for member in members.values() if member.hook == "enter"),
            exit=tuple(member.raw for member in members.values() if member.hook == "exit"),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        if self._app.is_deployed:
            return _restore_deployed, (self._app, self._tag, dict(self._methods), dict(self._schema), self._overrides)
        return _restore, (self._app.label, self._tag, dict(self._methods), dict(self._schema), self._overrides)

    def __repr__(self) -> str:
        return f"Cls({self._tag!r})"


def from_description(app: Owner, described: Mapping[str, Any]) -> Cls:
    """A class of a deployed app, from what its host says of it."""
    from cloudfn.deployed_app import schema_from_json

    methods, schema = dict(described["methods"]), schema_from_json(described["schema"])
    return Cls(app, described["tag"], methods=methods, schema=schema, web=tuple(described.get("web", ())))


def _restore_deployed(
    app: Owner, tag: str, methods: dict[str, bool], schema: parameters.Schema, overrides: Mapping[str, Any] | None
) -> Cls:
    return Cls(app, tag, methods=methods, schema=schema, overrides=overrides)


def _restore(
    label: str, tag: str, methods: dict[str, bool], schema: parameters.Schema, overrides: Mapping[str, Any] | None
) -> Cls:
    """The class of this name where this process has it, else a reference."""
    app = known_apps.find(label)
    cls: Cls | None = app.registered_classes.get(tag)
    if cls is None:
        return Cls(app, tag, methods=methods, schema=schema, overrides=overrides)
    return cls._variant(overrides) if overrides else cls


def make(app: Owner, obj: Any, options: Options) -> Cls:
    """A Cls of what `@app.cls()` decorates, checked.

    Raises:
        InvalidTypeError: it is no class.
        InvalidError: its methods, parameters or constructor cannot work.
    """
    partial = obj if isinstance(obj, PartialFunction) else None
    user_cls = partial.raw if partial else obj
    if isinstance(user_cls, Cls):
        raise InvalidError(f"The class '{user_cls._tag}' is decorated with `@app.cls()` twice.")
    if not isinstance(user_cls, type):
        raise InvalidTypeError(
            f"`@app.cls()` needs a class, not {type(user_cls).__name__} ({user_cls!r}).",
            hint="For functions there is `@app.function()`.",
        )
    members = partial_function.find(user_cls)
    for name, member in members.items():
        if member.max_inputs is not None:
            raise InvalidError(
                f"`@concurrent` cannot stand on the method '{user_cls.__name__}.{name}'.",
                hint="All methods share a worker: put it on the class, below `@app.cls()`.",
            )
        if member.web is not None:
            partial_function.check_web(member, options, bool(member.is_generator), is_method=True)
    schema = parameters.install_constructor(user_cls)
    if any(member.web for member in members.values()):
        _check_default(user_cls, schema)
    methods = {
        name: partial_function.is_generator(member.raw) if member.is_generator is None else member.is_generator
        for name, member in members.items()
        if member.is_callable
    }
    cls = Cls(
        app,
        user_cls.__name__,
        methods=methods,
        schema=schema,
        user_cls=user_cls,
        options=options,
        partial=partial,
        web=tuple(name for name, member in members.items() if member.web),
    )
    setattr(user_cls, CLS, cls)
    return cls


def _check_default(user_cls: type, schema: parameters.Schema) -> None:
    """Raises `InvalidError` for a class with web functions of which no instance can be made without arguments: requests
    have none, and a stranger must not make workers by naming some."""
    needed = [name for name, parameter in schema.items() if parameter.required]
    if not schema:
        try:
            inspect.signature(user_cls).bind()
        except TypeError as error:
            needed = [str(error)]
        except ValueError:  # written in C, without a signature
            pass
    if needed:
        raise InvalidError(
            f"Web functions of '{user_cls.__name__}' cannot answer: an instance needs arguments ({', '.join(needed)}).",
            hint="Give each a default: requests go to the instance without arguments.",
        )


class Obj:
    """A handle on an instance. Methods are Functions; any other attribute is that of a local instance, made for it."""

    def __init__(self, cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any], packed: bytes) -> None:
        self._cls = cls
        self._args = args
        self._kwargs = kwargs
        self._packed = packed
        self._local: LocalInstance | None = None

    def __getattr__(self, name: str) -> Any:
        if (
            name.startswith("__") or name == "_cls"
        ):  # protocols ask for these; and `_cls` is not there before `__init__`
            raise AttributeError(name)
        cls = self._cls
        if name not in cls._methods:
            return getattr(self._instance().value, name)
        target = Target(cls._app.label, cls._tag, name, self._packed, cls._overrides, cls._methods[name])
        member = inspect.getattr_static(cls._user_cls, name) if cls._user_cls is not None else None
        raw = member.raw if isinstance(member, PartialFunction) else None
        function: Function[..., Any, Any] = Function(cls._app, target, raw=raw, obj=self, is_web=name in cls._web)
        self.__dict__[name] = function
        return function

    def _call_local(self, raw: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._instance().call(raw, args, kwargs)

    def _instance(self) -> LocalInstance:
        if self._local is None:
            from cloudfn.local_instance import LocalInstance

            definition = self._cls.__cloudfn_definition__
            value = definition.target(*self._args, **self._kwargs)
            self._local = LocalInstance(value, definition.enter, definition.exit)
        return self._local

    def _variant(self, overrides: Mapping[str, Any]) -> Obj:
        return Obj(self._cls._variant(overrides), self._args, self._kwargs, self._packed)

    def __reduce__(self) -> tuple[Any, ...]:
        return Obj, (self._cls, self._args, self._kwargs, self._packed)

    def __repr__(self) -> str:
        shown = [*map(repr, self._args), *(f"{name}={value!r}" for name, value in self._kwargs.items())]
        return f"{self._cls._tag}({', '.join(shown)})"


if TYPE_CHECKING:
    from cloudfn.local_instance import LocalInstance


class UnboundMethod:
    """`Model.predict`, where `Model().predict` was meant."""

    def __init__(self, cls: str, name: str) -> None:
        self._message = f"'{cls}.{name}' is a method of instances."
        self._hint = f"Make one first: {cls}().{name}.remote(...)"

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise InvalidError(self._message, hint=self._hint)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):
            raise AttributeError(name)
        raise InvalidError(self._message, hint=self._hint)


def _pack(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> bytes:
    """`(args, kwargs)` pickled, equal bytes for equal simple values; b"" for none."""
    if not args and not kwargs:
        return b""
    if all(map(_is_simple, (*args, *kwargs.values()))):
        import io
        import pickle

        # Without its memo a pickler writes the same bytes whether two equal strings are one object or two.
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=5)
        pickler.fast = True
        pickler.dump((args, kwargs))
        return buffer.getvalue()
    from cloudfn.serialization import dumps_in_band

    return dumps_in_band((args, kwargs), f"the parameters of '{name}'")


def _is_simple(value: Any) -> bool:
    if type(value) in (tuple, list):
        return all(map(_is_simple, value))
    return value is None or type(value) in (str, int, float, bool, bytes)
