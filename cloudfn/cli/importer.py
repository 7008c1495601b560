"""Loads the user's file or module, and finds the app and what to run in it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Iterable

from cloudfn.exception import InvalidError, NotFoundError, UsageError

if TYPE_CHECKING:
    from cloudfn.app import App


@dataclass(frozen=True)
class Reference:
    """`FILE[::NAME]`, or with `-m` `MODULE[::NAME]`.

    Attributes:
        target: path of a file, or a dotted module name.
        name: of a function, entrypoint, `Class.method` or app in it; "" for none.
        is_module: whether `target` is a module.
    """

    target: str
    name: str = ""
    is_module: bool = False

    @classmethod
    def parse(cls, text: str, is_module: bool = False) -> Reference:
        """Raises `UsageError` for what can be no reference."""
        target, separator, name = text.partition("::")
        if not target or (separator and not name):
            raise UsageError(f"{text!r} is no reference.", hint="Give FILE or FILE::FUNCTION.")
        stem, colon, rest = target.rpartition(":")
        if colon and not Path(target).exists():
            raise UsageError(f"{text!r} is no reference.", hint=f"Did you mean {stem}::{rest}?")
        return cls(target, name, is_module)


def load(reference: Reference) -> ModuleType:
    """Import what a reference points to. Errors of the user's own code come through as they are.

    Raises:
        NotFoundError: there is no such file or module.
        UsageError: it is no Python file.
        InvalidError: its name cannot be that of a module.
    """
    return _load_module(reference.target) if reference.is_module else _load_file(reference.target)


def look_at(reference: Reference) -> ModuleType:
    """As `load`, to see what is there and run nothing: a script that runs its app, outside of any function, is imported
    down to that line. What stands above it is all that such a file can declare.

    Raises:
        InvalidError: also where that line is not in the file itself, but in a module that it imports.
    """
    from cloudfn.app_run import RunReached, imported_only

    token = imported_only.set(True)
    try:
        return load(reference)
    except RunReached:
        raise InvalidError(
            f"{reference.target} runs an app while it is imported.",
            hint='Put `with app.run():` below `if __name__ == "__main__":`.',
        ) from None
    finally:
        imported_only.reset(token)


def _load_module(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        raise UsageError(f"{name!r} is a file, not a module.", hint="Leave -m out.")
    _put_first(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise NotFoundError(
                f"There is no module {name!r}: {error.name!r} was not found.",
                hint="Modules are looked for in the current folder and in the installed packages.",
            ) from error
        raise


def _load_file(target: str) -> ModuleType:
    path = _existing(target)
    folder, name = _module_name(path)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    if known is not None or name.partition(".")[0] in sys.stdlib_module_names:
        raise InvalidError(
            f"{target} would be imported as {name!r}, but there is another module of this name.",
            hint="Rename the file (or its package): functions are imported by name on other machines.",
        )
    _put_first(folder)
    if "." in name:
        return importlib.import_module(name)
    # By its path: a package of the same name beside the file would be found first.
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    from cloudfn.app_run import RunReached

    try:
        spec.loader.exec_module(module)
    except RunReached as reached:
        frames = [frame for frame, _ in traceback.walk_tb(reached.__traceback__)]
        if frames[-2].f_code.co_filename != str(path):  # the last one is of `app.run()` itself
            sys.modules.pop(name, None)
            raise
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _existing(target: str) -> Path:
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"{target} is a folder.", hint="Give one Python file in it, or a package with -m.")
    if not path.exists():
        folder = path.parent
        names = [file.name for file in folder.glob("*.py")] if folder.is_dir() else []
        near = get_close_matches(path.name, names, n=1)
        hint = f"Did you mean {folder / near[0]}?" if near else ""
        if not hint and path.suffix != ".py":
            hint = f"To run a module: cloudfn run -m {target}"
        raise NotFoundError(f"There is no file {target}.", hint=hint)
    if path.suffix != ".py":
        raise UsageError(f"{target} is no Python file: its name does not end in .py.")
    return path.resolve()


def _module_name(path: Path) -> tuple[Path, str]:
    """The folder that must be on `sys.path`, and the name under which the file is imported from there."""
    if "." in path.stem:
        raise InvalidError(f"{path.name} cannot be imported: a module's name has no dots.", hint="Rename the file.")
    parts = [] if path.stem == "__init__" else [path.stem]
    folder = path.parent
    while (folder / "__init__.py").exists() and "." not in folder.name:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts) or path.stem


def _put_first(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))


def find_app(module: ModuleType, reference: Reference) -> tuple[App, str]:
    """The app of a module and the name of what to run in it ("" where the reference names none).

    A name that is an app's variable, or begins with it ("second.main"), chooses among several apps.

    Raises:
        UsageError: there is no app, or several and nothing says which.
    """
    from cloudfn.app import App

    apps = {name: value for name, value in vars(module).items() if isinstance(value, App)}
    if not apps:
        raise UsageError(
            f"There is no App in {reference.target}.", hint='Make one at the top of the file: app = cloudfn.App("name")'
        )
    first, _, rest = reference.name.partition(".")
    if first in apps:
        return apps[first], rest
    if "app" in apps:
        return apps["app"], reference.name
    if len({id(app) for app in apps.values()}) > 1:
        example = f"{reference.target}::{min(apps)}" + (f".{reference.name}" if reference.name else "")
        raise UsageError(
            f"There are several apps in {reference.target}: {', '.join(sorted(apps))}.",
            hint=f"Name one (cloudfn run {example}), or call the one to run `app`.",
        )
    return next(iter(apps.values())), reference.name


def choose(app: App, name: str, target: str) -> str:
    """The name of what to run: the named one, else the only local entrypoint, else the only function.

    Raises:
        UsageError: there is none, or several and nothing says which.
    """
    entrypoints, functions, methods = list(app.registered_entrypoints), _functions(app), _methods(app)
    every = [*entrypoints, *functions, *methods]
    web = _web_functions(app)
    if name in web or (not name and web and not every):
        raise UsageError(
            f"'{name or web[0]}' of {target} is a web function: it answers requests and cannot be run.",
            hint=f"Serve it: cloudfn serve {target}",
        )
    if name in entrypoints or name in functions or name in methods:
        return name
    if name:
        own = [method for method in methods if method.partition(".")[0] == name]
        if len(own) == 1:
            return own[0]
        near = own or get_close_matches(name, every, n=1)
        what = f"Which method of {name!r} of {target}?" if own else f"There is no {name!r} in {target}."
        suggestion = f"Did you mean {target}::{near[0]}?\n" if near and not own else ""
        raise UsageError(what, hint=suggestion + _listed("There are" if not own else "It has", own or every))
    candidates = entrypoints or [*functions, *methods]
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise UsageError(f"The app in {target} has nothing to run.", hint="Decorate a function with @app.function().")
    what = "local entrypoints" if entrypoints else "functions and no local entrypoint"
    raise UsageError(
        f"{target} has several {what}.",
        hint=_listed("Name one of", [f"{target}::{candidate}" for candidate in candidates]),
    )


def _functions(app: App) -> list[str]:
    return [tag for tag, function in app.registered_functions.items() if "." not in tag and not function._is_web]


def _methods(app: App) -> list[str]:
    from cloudfn.cli.runnable import methods

    classes = app.registered_classes.items()
    return [f"{tag}.{method}" for tag, cls in classes for method in methods(cls) if method not in cls._web]


def _web_functions(app: App) -> list[str]:
    functions = [tag for tag, function in app.registered_functions.items() if function._is_web]
    return [*functions, *(f"{tag}.{method}" for tag, cls in app.registered_classes.items() for method in cls._web)]


def _listed(intro: str, names: Iterable[str]) -> str:
    return f"{intro}: {', '.join(names) or 'none'}"
