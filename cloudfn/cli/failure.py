"""How an error reaches the user: ours as a message and a hint, one of user code with the user's own traceback."""

from __future__ import annotations

import os
import re
import sys
import traceback
from pathlib import Path

import click

from cloudfn.exception import Error, InvalidError, UsageError

STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep
OURS = ("cloudfn", "cloudfn_local", "cloudfn_aws", "cloudfn_gcp", "cloudfn_agent", "cloudfn_stacks")
"""Packages whose frames tell the user nothing. `CLOUDFN_TRACEBACK=1` shows them all the same."""
_COPY = re.compile(r"/runtime/[0-9a-f]{32}/cloudfn\w*/")
BETWEEN = (
    "click",
    "boto3",
    "botocore",
    "google.auth",
    "googleapiclient",
    "grpc",
    "httplib2",
    "paramiko",
    "pulumi",
    "urllib3",
)
"""Packages whose frames stand between ours and user code, or below ours: libraries that we call. Like those of asyncio
and importlib they say nothing of the user's code."""


def report(error: BaseException, *, ran_user_code: bool) -> int:
    """Print an error to stderr and return the exit code.

    Args:
        error: what ended the command.
        ran_user_code: whether it may come from user code; if not, an unknown error is a fault of cloudfn.
    """
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if isinstance(error, BrokenPipeError) and not _user_frames(error):
        # The reader of our output has gone (`cloudfn ps | head`). Nothing may be written at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, Error) and not _wants_everything():
        return _show(error)
    is_theirs = ran_user_code and (isinstance(error, SyntaxError) or bool(_user_frames(error)))
    if is_theirs and not _wants_everything():
        click.echo(user_traceback(error), err=True, nl=False)
        return 1
    traceback.print_exception(type(error), error, error.__traceback__)
    if not is_theirs:
        click.echo("This is a fault of cloudfn itself.", err=True)
    return 1


def user_traceback(error: BaseException) -> str:
    """The traceback of an error and of what led to it, without the frames that run user code."""
    whole = traceback.TracebackException(type(error), error, error.__traceback__)
    _filter(whole, set())
    text = "".join(whole.format())
    # A syntax error of the user's file has no frame left, and shows the place by itself.
    return text.replace("Traceback (most recent call last):\n", "", 1) if not whole.stack else text


def _filter(part: traceback.TracebackException, seen: set[int]) -> None:
    if id(part) in seen:
        return
    seen.add(id(part))
    frames = [frame for frame in part.stack if not _is_ours(frame.filename)]
    while frames and _is_between(frames[0].filename):
        del frames[0]
    part.stack = traceback.StackSummary.from_list(frames)
    for other in (part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())):
        if other is not None:
            _filter(other, seen)


def _show(error: Error) -> int:
    frames = _user_frames(error)
    if error.__cause__ is not None and _user_frames(error.__cause__):  # the user's own code made a worker fail
        click.echo(user_traceback(error.__cause__), err=True, nl=False)
    click.secho("error: ", fg="red", bold=True, err=True, nl=False)
    click.echo(error.message, err=True)
    if frames:
        click.echo(f"  at {frames[-1].filename}:{frames[-1].lineno}", err=True)
    if error.hint:
        click.echo(error.hint, err=True)
    is_command_line = isinstance(error, UsageError) or (isinstance(error, InvalidError) and not frames)
    return 2 if is_command_line else 1


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not _is_ours(frame.filename) and not _is_between(frame.filename)]


def _is_ours(filename: str) -> bool:
    # Workers run from a copy of ours, in a folder of the cache that bears its digest.
    return filename.startswith(_folders(OURS)) or re.search(_COPY, filename) is not None


def _is_between(filename: str) -> bool:
    is_standard = filename.startswith(("<frozen ", STANDARD_LIBRARY)) and "site-packages" not in filename
    return is_standard or filename.startswith(_folders(BETWEEN))


def _folders(packages: tuple[str, ...]) -> tuple[str, ...]:
    loaded = (getattr(sys.modules.get(name), "__file__", None) for name in packages)
    return tuple(str(Path(file).parent) + os.sep for file in loaded if file)


def _wants_everything() -> bool:
    return os.environ.get("CLOUDFN_TRACEBACK", "") not in ("", "0")
