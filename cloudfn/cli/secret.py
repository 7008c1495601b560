"""`cloudfn secret`: create, list and delete named secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, TypeVar

import click

from cloudfn import registry
from cloudfn.exception import AlreadyExistsError, InvalidError, NotFoundError, UnimplementedError, UsageError
from cloudfn.secret import check_name, check_values, read_dotenv

if TYPE_CHECKING:
    from cloudfn.secret_store import SecretStore, StoredSecret

F = TypeVar("F", bound=Callable[..., Any])
PROVIDER = "local"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _of_a_stack(command: F) -> F:
    """`--cloud`, `--app` and `--env`: with any of them it is about the secrets of a stack. The command gets them as
    `cloud`, `app` and `environment`."""
    made: Any = click.option(
        "--env", "environment", help="The stack's environment; default: CLOUDFN_ENVIRONMENT, or main."
    )(command)
    made = click.option("--app", help="Whose stack; default: that of the app that ran from this machine.")(made)
    made = click.option("--cloud", help="The secrets of a stack there (aws), instead of this machine's.")(made)
    return made  # type: ignore[no-any-return]


@click.group()
def secret() -> None:
    """Store the values that functions get by Secret.from_name(NAME).

    Here, they lie in a file of this machine that only you can read. In a cloud, each stack has its own: `cloudfn up`
    takes the first values from here, and with --cloud and --app these commands are about them.
    """


@secret.command(no_args_is_help=True)
@_of_a_stack
@click.argument("name")
@click.argument("keyvalues", metavar="KEY=VALUE...", nargs=-1)
@click.option("--from-dotenv", type=_FILE, help="Take the variables of a .env file.")
@click.option("--from-json", type=_FILE, help="Take the members of a JSON object of strings.")
@click.option("--force", is_flag=True, help="Replace a secret of the same name, with all of its keys.")
def create(
    name: str,
    keyvalues: tuple[str, ...],
    from_dotenv: Path | None,
    from_json: Path | None,
    force: bool,
    cloud: str | None,
    app: str | None,
    environment: str | None,
) -> None:
    """Store a secret under NAME.

    A value on the command line ends up in your shell's history, and other users may see it while the command runs.
    Write just KEY (or KEY=-) instead: you are asked for the value, or it is read from standard input - all of it for
    one such key, a line each for several.

    \b
        cloudfn secret create openai OPENAI_API_KEY
        cloudfn secret create db USER=ann PASSWORD=- < password.txt
        cloudfn secret create site --from-dotenv .env
        cloudfn secret create openai --force --cloud aws --app shop OPENAI_API_KEY
    """
    check_name(name)
    store = _only(_stores(cloud, app, environment))
    if store.is_set(name) and not force:  # before anybody types in a value
        raise AlreadyExistsError(f"There is a secret {name!r} already.", hint="Use --force to replace it.")
    values: dict[str, str] = {}
    given = _split(keyvalues)
    _add(values, {key: value for key, value in given.items() if value is not None})
    if from_dotenv is not None:
        _add(values, read_dotenv(from_dotenv))
    if from_json is not None:
        _add(values, _read_json(from_json))
    asked = [key for key, value in given.items() if value is None]
    _add(values, dict.fromkeys(asked, ""))  # finds a key given twice before anybody types in a value
    values.update(_ask(asked))
    if not values:
        raise UsageError(
            f"There is nothing to store in {name!r}.", hint="Give KEY=VALUE, KEY, --from-dotenv or --from-json."
        )
    store.create(name, check_values(values, f"Secret {name!r}"), force)
    later = " Runs that start from now on get it." if store.options else ""
    click.echo(f"Stored secret {name} ({', '.join(values)}).{later}")


@secret.command("list")
@_of_a_stack
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool, cloud: str | None, app: str | None, environment: str | None) -> None:
    """List the stored secrets and their keys; never their values."""
    stores = _stores(cloud, app, environment)
    stored = [(name, secret) for name, store in stores.items() for secret in store.list()]
    if as_json:
        click.echo(json.dumps([_row(name, secret) for name, secret in stored], indent=2))
    elif not stored:
        click.echo("No secrets. " + ("Store one: cloudfn secret create NAME KEY" if "" in stores else _NONE))
    else:
        _print(stored)


_NONE = "A stack has those that its functions name."


def _row(app: str, secret: StoredSecret) -> dict[str, Any]:
    from datetime import datetime, timezone

    at = secret.created_at
    created = None if at is None else datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="seconds")
    return {
        "name": secret.name,
        "keys": list(secret.keys),
        "created_at": created,
        **({"app": app} if app else {}),
    }


def _print(stored: list[tuple[str, StoredSecret]]) -> None:
    from datetime import datetime

    width = max(len("NAME"), *(len(secret.name) for _, secret in stored))
    several = len({app for app, _ in stored}) > 1
    click.echo(f"{'NAME':{width}}  {'CREATED':16}  KEYS")
    for app, secret in stored:
        at = secret.created_at
        created = "not set" if at is None else datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M")
        of = f"  ({app})" if several else ""
        click.echo(f"{secret.name:{width}}  {created:16}  {', '.join(secret.keys)}{of}".rstrip())


@secret.command()
@_of_a_stack
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool, cloud: str | None, app: str | None, environment: str | None) -> None:
    """Delete the secret NAME of this machine; one of a stack goes with the stack."""
    store = _only(_stores(cloud, app, environment))
    if store.options:
        store.delete(name)  # says why not
    if not yes:
        store.get(name)  # do not ask about what is not there
        click.confirm(f"Delete the secret {name}? Functions that use it will not start any more.", abort=True, err=True)
    store.delete(name)
    click.echo(f"Deleted secret {name}.")


def _stores(cloud: str | None, app: str | None, environment: str | None) -> dict[str, SecretStore]:
    """By app; this machine's under "".

    Raises:
        UnimplementedError: the provider keeps no secrets.
        NotFoundError: no app is known whose stack could be meant.
    """
    from cloudfn.machines import HasMachines
    from cloudfn.secret_store import HasStackSecrets

    if cloud == PROVIDER or not (cloud or app or environment):
        return {"": _local()}
    from cloudfn.client import current

    current.choose(Path.cwd(), environment, cloud)
    provider = current.provider()
    if not isinstance(provider, HasStackSecrets):
        raise UnimplementedError(
            f"The provider {type(provider).__name__} keeps no secrets of stacks.", hint="For those of AWS: --cloud aws"
        )
    known = provider.known_apps() if isinstance(provider, HasMachines) else ()
    apps = [app] if app else known
    if not apps:
        raise NotFoundError("No app has run on machines of a cloud from here yet.", hint="Name it: --app NAME")
    return {name: provider.stack_secrets(name) for name in apps}


def _only(stores: dict[str, SecretStore]) -> SecretStore:
    if len(stores) > 1:
        raise UsageError(f"Several apps have stacks: {', '.join(stores)}.", hint="Name one: --app NAME")
    return next(iter(stores.values()))


def _local() -> SecretStore:
    store: SecretStore | None = getattr(registry.provider(PROVIDER), "secrets", None)
    if store is None:
        raise UnimplementedError(f"The provider {PROVIDER!r} does not store secrets.")
    return store


def _split(keyvalues: tuple[str, ...]) -> dict[str, str | None]:
    """Values by key; None for one that is to be asked for."""
    given: dict[str, str | None] = {}
    for text in keyvalues:
        key, equals, value = text.partition("=")
        if key in given:
            raise UsageError(f"The key {key!r} is given twice.")
        if not key:
            raise UsageError("An argument starts with '=': write KEY=VALUE or KEY.")
        given[key] = None if not equals or value == "-" else value
    return given


def _add(values: dict[str, str], more: dict[str, str]) -> None:
    twice = sorted(values.keys() & more.keys())
    if twice:
        raise UsageError(f"More than one source gives a value for {', '.join(twice)}.")
    values.update(more)


def _ask(keys: list[str]) -> dict[str, str]:
    if not keys:
        return {}
    if sys.stdin.isatty():
        return {key: click.prompt(key, hide_input=True, type=str, err=True) for key in keys}
    text = sys.stdin.read()
    if len(keys) == 1:
        return {keys[0]: _nonempty(keys[0], text.removesuffix("\n").removesuffix("\r"))}
    lines = text.splitlines()
    if len(lines) != len(keys):
        raise UsageError(
            f"Standard input has {len(lines)} lines for {len(keys)} keys ({', '.join(keys)}).",
            hint="Give one line for each, in this order.",
        )
    return {key: _nonempty(key, line) for key, line in zip(keys, lines, strict=True)}


def _nonempty(key: str, value: str) -> str:
    if not value:  # what fed the pipe has most likely failed
        raise UsageError(
            f"The value for {key!r} from standard input is empty.", hint=f"To store an empty value: {key}="
        )
    return value


def _read_json(file: Path) -> dict[str, str]:
    try:
        values = json.loads(file.read_bytes())
    except OSError as error:
        raise NotFoundError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError:
        values = None
    if not isinstance(values, dict):  # raised out here, because the decoder's exception holds the whole text
        raise InvalidError(f"{file} must hold one JSON object with strings for values.")
    return check_values(values, str(file))
