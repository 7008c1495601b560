"""Environment variables for a function that must not be seen in code, plans or logs."""

from __future__ import annotations

import os
import re
from typing import Any, Callable, Mapping, NoReturn, Protocol, Sequence

from cloudfn import execution
from cloudfn.exception import InvalidError, NotFoundError, PermissionDeniedError, UnimplementedError
from cloudfn.spec import SecretSpec, canonical

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")

# Never leaves the process: without it nobody can test a guess at the values against `SecretSpec.id`.
_KEY = os.urandom(32)


class Store(Protocol):
    """Where named secrets are looked up; raises `NotFoundError`. See `cloudfn.secret_store`."""

    @property
    def options(self) -> str: ...

    def get(self, name: str) -> Mapping[str, str]: ...


class Secret:
    """A set of environment variables. Make one by `from_dict`, `from_name`, `from_dotenv` or `from_local_environ`.

    Nothing is read before it is needed. A pickled secret carries no values: they travel by their own road only.
    """

    def __init__(
        self,
        label: str,
        *,
        values: dict[str, str] | None = None,
        load: Callable[[], dict[str, str]] | None = None,
        name: str = "",
        environment_name: str | None = None,
        required_keys: tuple[str, ...] = (),
    ) -> None:
        """Not for users: `label` is the repr; a secret without a `name` has `values`, or `load` to get them."""
        self._label = label
        self._load = load
        self._name = name
        self._environment_name = environment_name
        self._required_keys = required_keys
        self._values = values
        self._id = ""

    @staticmethod
    def from_dict(env_dict: Mapping[str, str | None] = {}) -> Secret:
        """A secret from values at hand; a key whose value is None is left out.

        Raises `InvalidError` where a key or value is not a string; the message never shows a value.
        """
        if not isinstance(env_dict, Mapping):
            raise InvalidError(f"Secret.from_dict: must get a dict of strings, not {type(env_dict).__name__}.")
        values = check_values({k: v for k, v in env_dict.items() if v is not None}, "Secret.from_dict")
        return Secret(f"Secret.from_dict([{', '.join(values)}])", values=values)

    @staticmethod
    def from_name(name: str, *, environment_name: str | None = None, required_keys: Sequence[str] = ()) -> Secret:
        """A secret that was stored with `cloudfn secret create`.

        Args:
            name: its name.
            environment_name: the environment that holds it; None for the one that the app runs in.
            required_keys: keys that it must have; checked before anything runs.

        Raises:
            InvalidError: a name that no stored secret can have.
        """
        if isinstance(required_keys, str) or not all(isinstance(key, str) for key in required_keys):
            raise InvalidError(f"Secret.from_name({name!r}): required_keys must be a list of strings.")
        return Secret(
            f"Secret.from_name({name!r})",
            name=check_name(name),
            environment_name=environment_name,
            required_keys=tuple(required_keys),
        )

    @staticmethod
    def from_dotenv(path: str | os.PathLike[str] | None = None, *, filename: str = ".env") -> Secret:
        """A secret from a .env file, found and read when the app starts.

        Args:
            path: the file or folder to search from, upwards; the working directory when None. `__file__` means "beside
                or above my code".
            filename: the file to look for.
        """
        return Secret("Secret.from_dotenv()", load=lambda: _load_dotenv(path, filename))

    @staticmethod
    def from_local_environ(env_keys: Sequence[str]) -> Secret:
        """A secret from variables of this process; empty in a worker, which gets the values from the app.

        Raises `InvalidError` for a variable that is not set.
        """
        if isinstance(env_keys, str):
            raise InvalidError(f"Secret.from_local_environ({env_keys!r}): must get a list of names, not one string.")
        if not execution.is_local():
            return Secret.from_dict({})
        missing = [key for key in env_keys if key not in os.environ]
        if missing:
            raise InvalidError(
                f"Secret.from_local_environ: not set in this environment: {', '.join(missing)}.",
                hint="Set it before you start, or leave it out of the list.",
            )
        values = {key: os.environ[key] for key in env_keys}
        return Secret(f"Secret.from_local_environ([{', '.join(values)}])", values=values)

    @property
    def spec(self) -> SecretSpec:
        """What may be written down about this secret. Reads a `from_dotenv` file, and raises what that raises."""
        if not self._name and not self._id:
            from hashlib import blake2b

            self._id = blake2b(canonical(self._local_values()), key=_KEY, digest_size=16).hexdigest()
        return SecretSpec(name=self._name, id=self._id, required_keys=self._required_keys)

    def resolve(self, store: Store) -> dict[str, str]:
        """The values.

        Args:
            store: looks up a named secret; not asked for others.

        Raises:
            NotFoundError: the named secret, a key that it must have, or the .env file is not there.
            InvalidError: the .env file cannot be read.
        """
        if not self._name:
            return dict(self._local_values())
        if self._environment_name is not None:
            raise UnimplementedError(
                f"{self}: secrets of another environment ({self._environment_name!r}) are not available.",
                hint="Leave environment_name out to use the secret of the environment that the app runs in.",
            )
        values = dict(store.get(self._name))
        missing = [key for key in self._required_keys if key not in values]
        if missing:
            again = f"cloudfn secret create {self._name}{store.options} --force KEY ..."
            raise NotFoundError(
                f"The secret {self._name!r} lacks the required keys {', '.join(missing)}.",
                hint=f"Store it again with all of its keys: {again}",
            )
        return values

    def _local_values(self) -> dict[str, str]:
        if self._values is None:
            if self._load is None:
                raise InvalidError(f"{self} was pickled: its values have stayed in the process that made it.")
            self._values = self._load()  # once, so that the id and the values belong together
        return self._values

    def __repr__(self) -> str:
        return self._label

    def __getstate__(self) -> dict[str, Any]:
        if self._values is not None:
            _ = self.spec  # makes the id, which a pickled secret keeps and cannot make any more
        return {**self.__dict__, "_load": None, "_values": None}

    # A copy is the same secret: it must not go the way of a pickle, which drops the values.
    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self


def check_name(name: str) -> str:
    """`name`, if a stored secret may have it. Raises `InvalidError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidError(
            f"{name!r} cannot be the name of a secret.",
            hint="Names have 1 to 64 letters, digits, dots, dashes or underscores.",
        )
    return name


def check_values(values: Mapping[Any, Any], where: str) -> dict[str, str]:
    """A copy of `values`, if they can be environment variables.

    Raises `InvalidError` that starts with `where` and names the key, never the value.
    """
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidError(f"{where}: keys must be strings, not {type(key).__name__}.")
        if not key or "=" in key or "\0" in key:
            raise InvalidError(f"{where}: {key!r} cannot be the name of an environment variable.")
        if not isinstance(value, str):
            raise InvalidError(f"{where}: the value of {key!r} must be a string, not {type(value).__name__}.")
        if "\0" in value:
            raise InvalidError(f"{where}: the value of {key!r} holds a null character, which no variable can.")
    return dict(values)


def read_dotenv(file: str | os.PathLike[str]) -> dict[str, str]:
    """The variables of a .env file; a key without a value is empty.

    Raises `NotFoundError`, `PermissionDeniedError` or `InvalidError`, none of which shows what is in the file.
    """
    from dotenv import dotenv_values

    try:
        with open(file, encoding="utf-8-sig") as stream:
            values = dotenv_values(stream=stream)
    except OSError as error:
        _refuse_file(file, error)
    except UnicodeDecodeError:
        values = None
    if values is None:  # raised out here, because the other exception holds the bytes of the file
        raise InvalidError(f"{os.fspath(file)} is not UTF-8 text.")
    return check_values({key: value or "" for key, value in values.items()}, os.fspath(file))


def _refuse_file(file: str | os.PathLike[str], error: OSError) -> NoReturn:
    message = f"{os.fspath(file)} cannot be read: {error.strerror}."
    if isinstance(error, FileNotFoundError):
        raise NotFoundError(message) from error
    if isinstance(error, PermissionError):
        raise PermissionDeniedError(message) from error
    raise InvalidError(message) from error


def _load_dotenv(path: str | os.PathLike[str] | None, filename: str) -> dict[str, str]:
    from pathlib import Path

    start = Path.cwd() if path is None else Path(path).absolute()
    if not start.exists():
        raise NotFoundError(f"Secret.from_dotenv: {start} does not exist.")
    folder = start if start.is_dir() else start.parent
    for candidate in (folder, *folder.parents):
        if (candidate / filename).is_file():
            return read_dotenv(candidate / filename)
    raise NotFoundError(
        f"Secret.from_dotenv: there is no {filename} in {folder} or above it.",
        hint="Create the file, or say where to search: Secret.from_dotenv(__file__).",
    )
