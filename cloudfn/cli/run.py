"""`cloudfn run`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator

import click

from cloudfn.cli import importer, runnable
from cloudfn.events import AppState, Event, Events, FunctionState
from cloudfn.exception import ExecutionError

PATIENCE = 2.0
"""Seconds that a program has to notice that its app was stopped, before it is ended."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")
@click.option("-q", "--quiet", is_flag=True, help="Only what the program prints, warnings and errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, everything else on stderr.")
@click.option("-d", "--detach", is_flag=True, help="Let the run go on when this terminal closes.")
@click.option("--cloud", metavar="NAME", help="Where to run (local, aws); default: the provider of cloudfn.toml.")
@click.option("--env", "environment", metavar="NAME", help="The environment; default: CLOUDFN_ENVIRONMENT, or main.")
@click.argument("reference", metavar="FILE[::FUNCTION]")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGUMENTS]...")
@click.pass_context
def run(
    ctx: click.Context,
    is_module: bool,
    quiet: bool,
    as_json: bool,
    detach: bool,
    cloud: str | None,
    environment: str | None,
    reference: str,
    arguments: tuple[str, ...],
) -> None:
    """Run a file's local entrypoint, or one function of it.

    What comes after FILE goes to the function: `cloudfn run FILE --help` lists its options, made from its signature.
    FUNCTION is a local entrypoint, a function, a Class.method, or one of these after an app's name (second.main).
    """
    if detach:
        from cloudfn.cli.detach import run_detached

        flags = [flag for flag, given in (("-m", is_module), ("-q", quiet), ("--json", as_json)) if given]
        flags += [*(["--cloud", cloud] if cloud else []), *(["--env", environment] if environment else [])]
        raise click.exceptions.Exit(run_detached([*flags, reference, *arguments]))
    where = importer.Reference.parse(reference, is_module)
    from cloudfn.client import current
    from cloudfn.output import show

    current.choose(Path.cwd() if where.is_module else Path(where.target).parent, environment, cloud)

    with _terminable(), _document(as_json) as document, show(quiet=quiet) as events:
        events.add(document.count)
        app, name = importer.find_app(importer.load(where), where)
        chosen = importer.choose(app, name, where.target)
        call = runnable.prepare(app, chosen, arguments, ctx)
        with app.run(), _stoppable(app.label, events):
            result = call()
            is_entrypoint = chosen in app.registered_entrypoints
            document.result = _shown(result, printed=not (is_entrypoint or as_json))


def _shown(result: Any, *, printed: bool) -> Any:
    """The result, printed where wanted; what a generator yields comes as it is made."""
    if not isinstance(result, Iterator):
        if printed and result is not None:
            print(result, flush=True)
        return result
    items = []
    for item in result:
        if printed:
            print(item, flush=True)
        else:
            items.append(item)
    return items


class Document:
    """What `--json` prints. `calls` counts inputs by function."""

    def __init__(self) -> None:
        self.result: Any = None
        self.calls: dict[str, dict[str, int]] = {}
        self._started = time.monotonic()

    def count(self, event: Event) -> None:
        if isinstance(event, FunctionState):
            self.calls[event.function] = {"done": event.done, "failed": event.failed}

    def text(self, error: BaseException | None = None) -> str:
        rest = {"calls": self.calls, "seconds": round(time.monotonic() - self._started, 3)}
        if error is not None:
            return json.dumps({"error": {"type": type(error).__name__, "message": str(error)}, **rest})
        try:
            return json.dumps({"result": self.result, **rest}, allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps({"result_repr": repr(self.result), **rest})


@contextmanager
def _document(as_json: bool) -> Iterator[Document]:
    """Keeps stdout for the document alone: whatever else is written there, native code's output too, goes to stderr."""
    document = Document()
    if not as_json:
        yield document
        return
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)  # for good: what is printed at exit must not follow the document
    with open(stdout, "w", encoding="utf-8") as out:
        try:
            yield document
        except click.exceptions.Exit:
            raise
        except BaseException as error:  # the document tells of any end, which then goes its way
            print(document.text(error), file=out)
            raise
        print(document.text(), file=out)


@contextmanager
def _stoppable(app: str, events: Events) -> Iterator[None]:
    """Ends the program when somebody else stops its app, also where it makes no call that would fail of it."""
    timers: list[threading.Timer] = []
    ours = threading.get_ident()

    def watch(event: Event) -> None:
        if isinstance(event, AppState) and event.state == "stopping":
            timers.append(threading.Timer(PATIENCE, signal.pthread_kill, (ours, signal.SIGTERM)))
            timers[-1].daemon = True
            timers[-1].start()

    events.add(watch)
    try:
        yield
    except SystemExit:
        if not timers:
            raise
    finally:
        events.remove(watch)
        for timer in timers:
            timer.cancel()
    if timers:
        raise ExecutionError(f"the app {app} was stopped", hint="By `cloudfn stop`, or by a signal to its agent.")


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the program as an exit does, with all clean-up."""

    def stop(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
