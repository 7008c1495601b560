"""An App: functions and classes that run together."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Callable, Collection, Mapping, Sequence, TypeVar

from cloudfn import cls as classes
from cloudfn import known_apps, options, web_urls
from cloudfn.client.target import Target
from cloudfn.cls import Cls
from cloudfn.exception import ConflictError, InvalidError, InvalidTypeError, UnimplementedError
from cloudfn.function import Function
from cloudfn.local_entrypoint import LocalEntrypoint
from cloudfn.options import Options
from cloudfn.parameters import parameter
from cloudfn.parentheses import needs_parentheses
from cloudfn.partial_function import PartialFunction, check_web
from cloudfn.partial_function import is_generator as generates

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform

    from cloudfn.app_run import AppRun
    from cloudfn.client.session import Session
    from cloudfn.function import FunctionDecorator
    from cloudfn.image import Image
    from cloudfn.known_apps import Owner
    from cloudfn.retries import Retries
    from cloudfn.schedule import Schedule
    from cloudfn.secret import Secret
    from cloudfn.spec import AppSpec
else:

    def dataclass_transform(**_: Any) -> Any:
        return lambda function: function


C = TypeVar("C", bound=type)
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


class App:
    """A group of functions and classes.

    Args:
        name: 1 to 64 letters, digits, dashes, dots and underscores. Without one the app is known by its file's name.
        tags: metadata, kept with the app.
        image: for functions that name none; `Image.debian_slim()` where there is none either.
        secrets: for all functions, before their own.
        volumes: for all functions, by path; a function's own wins over one on the same path.
        include_source: whether the functions' source files go to the workers.

    Raises:
        InvalidError: an argument that can never work.
    """

    is_deployed = False

    def __init__(
        self,
        name: str | None = None,
        *,
        tags: dict[str, str] | None = None,
        image: Image | None = None,
        secrets: Sequence[Secret] = [],
        volumes: Mapping[Any, Any] = {},
        include_source: bool = True,
    ) -> None:
        self._name = None if name is None else _check_name("app", name)
        self.label = self._name or _file_label(sys._getframe(1).f_globals)
        self.image: Image | None = options.check_image(image)
        self.tags = dict(tags or {})
        self.sessions: list[Session] = []
        self.web_urls: Mapping[str, str] = web_urls.of_worker()  # set by whoever serves it, see `known_apps.Owner`
        self._secrets = options.check_secrets(secrets)
        self._include_source = include_source
        self._volumes = options.check_volumes(volumes, "App")
        self._functions: dict[str, Function[..., Any, Any]] = {}
        self._classes: dict[str, Cls] = {}
        self._entrypoints: dict[str, LocalEntrypoint] = {}
        known_apps.remember(self)

    @property
    def name(self) -> str | None:
        """The name that was given. (`label` is what the app is known by in any case.)"""
        return self._name

    @property
    def registered_functions(self) -> dict[str, Function[..., Any, Any]]:
        """The app's functions by name, without the methods of classes."""
        return self._functions

    @property
    def registered_classes(self) -> dict[str, Cls]:
        """The app's classes by name."""
        return self._classes

    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint]:
        """The app's local entrypoints by name."""
        return self._entrypoints

    @needs_parentheses("@app.function", positional=1)
    def function(
        self,
        *,
        image: Image | None = None,
        schedule: Schedule | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | list[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[Any, Any] = {},
        volumes: Mapping[Any, Any] = {},
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        proxy: Any = None,
        retries: int | Retries | None = None,
        timeout: int = 300,
        startup_timeout: int | None = None,
        name: str | None = None,
        is_generator: bool | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: dict[str, Any] | None = None,
        _experimental_restrict_output: bool = False,
        max_inputs: int | None = None,
        concurrency_limit: int | None = None,
        keep_warm: int | None = None,
        container_idle_timeout: int | None = None,
        allow_concurrent_inputs: int | None = None,
    ) -> FunctionDecorator:
        """Make a function of the app.

        Args:
            image: what its workers have installed; the app's where None.
            schedule: when it runs by itself, while the app runs or is deployed.
            env: environment variables; one whose value is None is left out.
            secrets: more environment variables, after the app's.
            gpu: a GPU ("T4", "H100:8", "any"), or a list of them to fall back along.
            serialized: send the code by value, which allows functions inside of functions.
            cpu: cores reserved, or (reserved, hard limit).
            memory: MiB reserved, or (reserved, hard limit).
            ephemeral_disk: MiB of scratch disk.
            min_containers: workers that are kept even when idle.
            max_containers: at most so many workers.
            buffer_containers: idle workers to keep on top while there is work.
            scaledown_window: seconds that an idle worker lives, 2 to 3600.
            retries: how often a failed input is run again, or a `Retries`.
            timeout: seconds that one input may run, at most 86400.
            startup_timeout: seconds that a worker may take to start; `timeout` where None, but 60 at least.
            name: its name in the app; the function's own where None.
            is_generator: True where it is no generator function itself but answers a generator.
            cloud, region, nonpreemptible: where it may run; recorded.
            volumes: a `Volume` or a `CloudBucketMount` by the absolute path where workers see it.
            single_use_containers: a new worker for each input.
            include_source: as for the app, which decides where None.
            concurrency_limit, keep_warm, container_idle_timeout, allow_concurrent_inputs, max_inputs: old names of
                max_containers, min_containers, scaledown_window, `@concurrent` and single_use_containers=True.

        Raises:
            InvalidError: an argument or a function that can never work; a name that is taken.
            ConflictError: an old and a new name for the same thing.
            UnimplementedError: an argument for something that is not available.
        """
        chosen = self._options(locals(), "@app.function")
        name = None if name is None else _check_name("function", name)

        def decorate(obj: Any) -> Any:
            _check_concurrency(obj, chosen)
            made = self._make_function(obj, chosen, name, is_generator)
            self._add(self._functions, made.tag, made)
            return made

        return decorate

    @dataclass_transform(field_specifiers=(parameter,), kw_only_default=True)
    @needs_parentheses("@app.cls", positional=1)
    def cls(
        self,
        *,
        image: Image | None = None,
        env: dict[str, str | None] | None = None,
        secrets: Collection[Secret] | None = None,
        gpu: str | list[str] | None = None,
        serialized: bool = False,
        network_file_systems: Mapping[Any, Any] = {},
        volumes: Mapping[Any, Any] = {},
        cpu: float | tuple[float, float] | None = None,
        memory: int | tuple[int, int] | None = None,
        ephemeral_disk: int | None = None,
        min_containers: int | None = None,
        max_containers: int | None = None,
        buffer_containers: int | None = None,
        scaledown_window: int | None = None,
        proxy: Any = None,
        retries: int | Retries | None = None,
        timeout: int = 300,
        startup_timeout: int | None = None,
        cloud: str | None = None,
        region: str | Sequence[str] | None = None,
        routing_region: str | None = None,
        nonpreemptible: bool = False,
        enable_memory_snapshot: bool = False,
        block_network: bool = False,
        restrict_modal_access: bool = False,
        single_use_containers: bool = False,
        i6pn: bool | None = None,
        include_source: bool | None = None,
        experimental_options: dict[str, Any] | None = None,
        _experimental_restrict_output: bool = False,
        max_inputs: int | None = None,
        concurrency_limit: int | None = None,
        keep_warm: int | None = None,
        container_idle_timeout: int | None = None,
        allow_concurrent_inputs: int | None = None,
    ) -> Callable[[C], C]:
        """Make a class of the app, whose methods share workers. Arguments and errors as in `function`."""
        chosen = self._options(locals(), "@app.cls")

        def decorate(obj: Any) -> Any:
            _check_concurrency(obj, chosen)
            made = classes.make(self, obj, chosen)
            self._add(self._classes, made.__name__, made)
            return made

        return decorate

    @needs_parentheses("@app.local_entrypoint", positional=1)
    def local_entrypoint(self, *, name: str | None = None) -> Callable[[Callable[..., Any]], LocalEntrypoint]:
        """Make a function that `cloudfn run` starts on this machine.

        Args:
            name: its name; the function's own where None.
        """
        name = None if name is None else _check_name("local entrypoint", name)

        def decorate(raw: Callable[..., Any]) -> LocalEntrypoint:
            if isinstance(raw, (Function, Cls, PartialFunction)) or not callable(raw):
                raise InvalidError(f"`@app.local_entrypoint()` needs a plain function, not {raw!r}.")
            tag = name or raw.__qualname__
            if tag in self._entrypoints and not _is_interactive():
                raise InvalidError(_taken("local entrypoints", tag, self._entrypoints[tag], raw))
            self._entrypoints[tag] = LocalEntrypoint(self, raw, tag)
            return self._entrypoints[tag]

        return decorate

    def run(
        self,
        *,
        name: str | None = None,
        client: Any = None,
        detach: bool = False,
        interactive: bool = False,
        environment_name: str | None = None,
    ) -> AppRun:
        """Run the app for as long as a block lasts: `with app.run():`, or `async with app.run():`.

        Nothing is shown unless the block is inside of `with cloudfn.enable_output():`.

        Args:
            name: what this run is called; the app's name where None.

        Raises:
            UnimplementedError: any of the other arguments, which are there for compatibility.
        """
        refused = {"client": client, "detach": detach, "interactive": interactive, "environment_name": environment_name}
        for argument, value in refused.items():
            if value:
                raise UnimplementedError(f"app.run({argument}=...) is not available yet.", hint="Leave it out.")
        from cloudfn.app_run import AppRun

        return AppRun(self, None if name is None else _check_name("app", name))

    def include(self, /, other_app: App, inherit_tags: bool = True) -> App:
        """Take in another app's functions and classes: they run when this app runs.

        Args:
            inherit_tags: take its tags too; one's own win.

        Raises:
            InvalidError: both apps have something of the same name.
        """
        if not isinstance(other_app, App):
            raise InvalidTypeError(f"include() needs an App, not {type(other_app).__name__}.")
        for tag, function in other_app._functions.items():
            self._add(self._functions, tag, function)
        for tag, cls in other_app._classes.items():
            self._add(self._classes, tag, cls)
        if inherit_tags:
            self.tags = {**other_app.tags, **self.tags}
        return self

    def spec(self) -> AppSpec:
        """The app as plain data; needs no running app and reads no secret's value."""
        from cloudfn.collect import spec

        return spec(self)

    def owners(self) -> list[Owner]:
        """This app and those whose functions it includes."""
        found: dict[int, Owner] = {id(self): self}
        items: list[Any] = [*self._functions.values(), *self._classes.values()]
        for item in items:
            found[id(item._app)] = item._app
        return list(found.values())

    @staticmethod
    def lookup(
        name: str, *, client: Any = None, environment_name: str | None = None, create_if_missing: bool = False
    ) -> App:
        """A deployed app; its functions and classes are in `registered_functions` and `registered_classes`.

        Args:
            name: its name.
            client, environment_name, create_if_missing: accepted for compatibility; must be left out.

        Raises:
            NotFoundError: no such app is deployed.
        """
        from cloudfn import function
        from cloudfn.deployed_app import DeployedApp, check_lookup

        missing = create_if_missing or None
        check_lookup("App.lookup", name, client=client, environment_name=environment_name, create_if_missing=missing)
        deployed = DeployedApp(name)
        before = known_apps.find(name)
        app = App(name, tags=dict(deployed.tags))
        if isinstance(before, App):
            known_apps.remember(before)  # the one whose code is here stays the one that references find
        app.sessions, app.is_deployed = deployed.sessions, True
        for tag, described in deployed.functions.items():
            if described["is_class"]:
                app._classes[tag] = classes.from_description(deployed, described)
            else:
                app._functions[tag] = function.from_description(deployed, described)
        return app

    def deploy(
        self,
        *,
        name: str | None = None,
        environment_name: str | None = None,
        tag: str = "",
        client: Any = None,
        strategy: str = "rolling",
    ) -> App:
        """Hand the app to this machine's host, which keeps it running without this process.

        A new version takes over at once: what waits runs on it, what has begun ends on the version before.

        Args:
            name: what it is deployed as; the app's own name where None.
            tag: a word on this version, shown by `cloudfn app history`.
            strategy: only "rolling".
            environment_name, client: accepted for compatibility; must be None.

        Raises:
            ImageBuildError, InvalidError, NotFoundError, SerializationError: as when it is run.
            ResourceUnavailableError: the host could not be started.
        """
        from cloudfn.deploy import deploy
        from cloudfn.deployed_app import check_lookup

        name = self.label if name is None else _check_name("app", name)
        check_lookup("app.deploy", name, environment_name=environment_name, client=client)
        if strategy != "rolling":
            raise InvalidError(f"app.deploy(strategy={strategy!r}): there is only 'rolling'.")
        deploy(self, name, tag)
        return self

    def _options(self, given: Mapping[str, Any], where: str) -> Options:
        given = {name: value for name, value in given.items() if name not in ("self", "name", "is_generator")}
        if given["include_source"] is None:
            given["include_source"] = self._include_source
        # 4: past this method, the decorator and its check for parentheses lies the user's line.
        chosen = options.parse(given, where, stacklevel=4)
        volumes = options.check_volumes({**self._volumes, **chosen.volumes}, where)
        return replace(chosen, secrets=(*self._secrets, *chosen.secrets), volumes=volumes)

    def _make_function(
        self, obj: Any, chosen: Options, name: str | None, is_generator: bool | None
    ) -> Function[..., Any, Any]:
        partial = obj if isinstance(obj, PartialFunction) else None
        raw = partial.raw if partial else obj
        _check_function(raw, partial, chosen.serialized, name)
        if is_generator is None:
            is_generator = generates(raw) if partial is None or partial.is_generator is None else partial.is_generator
        if is_generator and chosen.retries:
            raise InvalidError(f"Generator functions cannot be retried ('{raw.__name__}').", hint="Leave retries out.")
        if partial is not None and partial.web is not None:
            check_web(partial, chosen, is_generator, is_method=False)
        if chosen.schedule is not None and not _is_nullary(raw):
            raise InvalidError(f"'{raw.__name__}' has a schedule, so it must be callable without arguments.")
        tag = name or raw.__qualname__.rpartition("<locals>.")[2]
        target = Target(self.label, tag, is_generator=is_generator)
        return Function(self, target, raw=raw, options=chosen, partial=partial)

    def _add(self, registry: dict[str, Any], tag: str, item: Any) -> None:
        known = self._functions.get(tag) or self._classes.get(tag)
        if known is item:
            return
        if known is not None:
            # In a notebook a cell is run again after an edit; anywhere else it is a slip that hides a function.
            if not _is_interactive():
                raise InvalidError(
                    _taken("functions or classes", tag, known, item),
                    hint="Rename one, or pass `name=` to the decorator.",
                )
            self._functions.pop(tag, None)
            self._classes.pop(tag, None)
        registry[tag] = item

    def __reduce__(self) -> tuple[Any, ...]:
        return known_apps.find, (self.label,)

    def __repr__(self) -> str:
        return f"App({self.label!r})"


def _check_concurrency(obj: Any, chosen: Options) -> None:
    if isinstance(obj, PartialFunction) and obj.max_inputs is not None and chosen.scaling.max_inputs > 1:
        raise ConflictError(
            f"allow_concurrent_inputs={chosen.scaling.max_inputs} and `@concurrent` on '{obj.__name__}' say the same.",
            hint="Keep `@concurrent`.",
        )


def _check_function(
    raw: Any, partial: PartialFunction[..., Any, Any] | None, serialized: bool, name: str | None
) -> None:
    """Raise for what `@app.function()` cannot be put on."""
    if isinstance(raw, type):
        raise InvalidTypeError(
            f"`@app.function()` cannot be used on the class '{raw.__name__}'.", hint="Use `@app.cls()`."
        )
    if isinstance(raw, (Function, Cls)):
        raise InvalidError(f"{raw!r} is decorated already.", hint="Keep one of the `@app` decorators.")
    if isinstance(raw, LocalEntrypoint):
        raise InvalidError(f"The local entrypoint '{raw.name}' runs on this machine: it cannot be a function too.")
    if not callable(raw) or not hasattr(raw, "__qualname__"):
        raise InvalidTypeError(f"`@app.function()` needs a function, not {type(raw).__name__} ({raw!r}).")
    if partial is not None and (partial.hook or "method" in partial.decorators):
        raise InvalidError(
            f"`@{partial.decorators[-1]}()` on '{raw.__name__}' is for methods of a class.", hint=_METHOD_HINT
        )
    outer, _, inner = raw.__qualname__.rpartition("<locals>.")
    if "." in inner:
        raise InvalidError(f"`@app.function()` cannot be used on the method '{inner}'.", hint=_METHOD_HINT)
    if outer and not serialized:
        raise InvalidError(
            f"'{inner}' is defined inside of {outer.rstrip('.')}(), where a worker cannot import it.",
            hint="Move it to the top level of its module, or pass `serialized=True`. A decorator of your own below "
            "`@app.function()` should use functools.wraps.",
        )
    if inner == "<lambda>" and not (serialized and name):
        raise InvalidError(
            f"A lambda has no name to import it by ({location(raw)}).", hint="Pass `serialized=True` and a `name`."
        )


_METHOD_HINT = """Put `@app.cls()` on the class and `@cloudfn.method()` on the method:
    @app.cls()
    class Model:
        @cloudfn.method()
        def predict(self, x): ..."""


def _is_nullary(raw: Callable[..., Any]) -> bool:
    import inspect

    return all(
        p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        for p in inspect.signature(raw).parameters.values()
    )


def _check_name(what: str, name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidError(f"The {what}'s name must be a string, not {type(name).__name__}.")
    if not 1 <= len(name) <= 64 or not set(name) <= _NAME_CHARACTERS:
        raise InvalidError(
            f"{name!r} is no name for a {what}.",
            hint="Names have 1 to 64 letters, digits, dashes, dots and underscores.",
        )
    return name


def _file_label(variables: Mapping[str, Any]) -> str:
    """A name for an app without one, from the file that made it; the same in every process that imports it."""
    stem = (variables.get("__file__") or "app").replace("\\", "/").rpartition("/")[2].partition(".")[0]
    return "".join(c if c in _NAME_CHARACTERS else "-" for c in stem)[:64] or "app"


def _is_interactive() -> bool:
    import builtins

    return hasattr(builtins, "__IPYTHON__") or hasattr(sys, "ps1")


def _taken(what: str, tag: str, old: Any, new: Any) -> str:
    return f"Two {what} of the app are called '{tag}': {location(old)} and {location(new)}."


def location(item: Any) -> str:
    """Where something was defined, "file.py:12"."""
    raw = getattr(item, "_user_cls", None) or getattr(item, "_raw", None) or getattr(item, "raw", None) or item
    if isinstance(raw, type):
        members = (getattr(member, "raw", member) for member in vars(raw).values())
        codes = [member.__code__ for member in members if hasattr(member, "__code__")]
        codes = [code for code in codes if code.co_name != "__init__" or len(codes) == 1]
        file = getattr(sys.modules.get(raw.__module__), "__file__", None) or raw.__module__
        line = getattr(raw, "__firstlineno__", None) or min((code.co_firstlineno for code in codes), default=None)
        return f"{file}:{line}" if line else str(file)
    import inspect

    code = getattr(inspect.unwrap(raw), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(raw)
