"""`cloudfn secret`: create, list and delete named secrets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cloudfn import registry
from cloudfn.exception import AlreadyExistsError, InvalidError, NotFoundError, UnimplementedError, UsageError
from cloudfn.secret import check_name, check_values, read_dotenv

if TYPE_CHECKING:
    from cloudfn.secret_store import SecretStore

PROVIDER = "local"
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def secret() -> None:
    """Store the values that functions get by Secret.from_name(NAME)."""


@secret.command(no_args_is_help=True)
@click.argument("name")
@click.argument("keyvalues", metavar="KEY=VALUE...", nargs=-1)
@click.option("--from-dotenv", type=_FILE, help="Take the variables of a .env file.")
@click.option("--from-json", type=_FILE, help="Take the members of a JSON object of strings.")
@click.option("--force", is_flag=True, help="Replace a secret of the same name, with all of its keys.")
def create(
    name: str, keyvalues: tuple[str, ...], from_dotenv: Path | None, from_json: Path | None, force: bool
) -> None:
    """Store a secret under NAME.

    A value on the command line ends up in your shell's history, and other users may see it while the command runs.
    Write just KEY (or KEY=-) instead: you are asked for the value, or it is read from standard input - all of it for
    one such key, a line each for several.

    \b
        cloudfn secret create openai OPENAI_API_KEY
        cloudfn secret create db USER=ann PASSWORD=- < password.txt
        cloudfn secret create site --from-dotenv .env
    """
    check_name(name)
    store = _store()
    if not force and any(stored.name == name for stored in store.list()):  # before anybody types in a value
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
    click.echo(f"Stored secret {name} ({', '.join(values)}).")


@secret.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List the stored secrets and their keys; never their values."""
    from datetime import datetime, timezone

    stored = _store().list()
    if as_json:
        rows = [
            {
                "name": s.name,
                "keys": list(s.keys),
                "created_at": datetime.fromtimestamp(s.created_at, timezone.utc).isoformat(timespec="seconds"),
            }
            for s in stored
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not stored:
        click.echo("No secrets. Store one: cloudfn secret create NAME KEY")
        return
    width = max(len("NAME"), *(len(s.name) for s in stored))
    click.echo(f"{'NAME':{width}}  {'CREATED':16}  KEYS")
    for s in stored:
        created = datetime.fromtimestamp(s.created_at).strftime("%Y-%m-%d %H:%M")
        click.echo(f"{s.name:{width}}  {created}  {', '.join(s.keys)}")


@secret.command()
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def delete(name: str, yes: bool) -> None:
    """Delete the secret NAME."""
    store = _store()
    if not yes:
        store.get(name)  # do not ask about what is not there
        click.confirm(f"Delete the secret {name}? Functions that use it will not start any more.", abort=True, err=True)
    store.delete(name)
    click.echo(f"Deleted secret {name}.")


def _store() -> SecretStore:
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
