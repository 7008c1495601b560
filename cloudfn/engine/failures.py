"""What the engine's failures mean: what happened, where, and what to do next. What the cloud itself said is put to
`Account.explain`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable, Sequence

from cloudfn.exception import DeploymentError, Error, StackLockedError, StateError

if TYPE_CHECKING:
    from cloudfn.engine.progress import Message, Step

_LOCKED = re.compile(r"the stack is currently locked by|Another update is currently in progress", re.I)
_HOLDER = re.compile(r"created by (?P<user>[^\s@]+)@(?P<host>\S+) \(pid (?P<pid>\d+)\) at (?P<time>\S+)")
_PASSPHRASE = re.compile(
    r"incorrect passphrase|passphrase must be set|unable to find either `?PULUMI_CONFIG_PASSPHRASE", re.I
)
_BACKEND = re.compile(
    r"unable to (open|check|list) |could not list bucket|problem logging in|failed to load checkpoint|no such bucket"
    r"|NoSuchBucket|getting stack: |could not get cloud url|no such host|connection refused|PULUMI_ACCESS_TOKEN"
    r"|unable to create .*backend|read \"\.pulumi|listing \S*\.pulumi|blob \(",
    re.I,
)
_MISSING_PLUGIN = re.compile(r"no resource plugin '([^']+)'", re.I)


def holder(text: str) -> tuple[str, str, int, str] | None:
    """User, host, process id and time of who holds a lock, from the engine's message; None where it does not say."""
    found = _HOLDER.search(text)
    return (found["user"], found["host"], int(found["pid"]), found["time"]) if found else None


def of_backend(text: str, stack: str, url: str, explain: Callable[[str], Error | None]) -> Error:
    """The error of a command that failed before any resource was touched.

    Args:
        text: all that the command wrote.
        explain: see `Account.explain`.
    """
    if _LOCKED.search(text):
        return _locked(text, stack)
    if _PASSPHRASE.search(text):
        return StateError(
            f"The passphrase does not open the secrets in the state of stack {stack} ({url}).",
            hint="Take the one that the stack was made with: the file under cloudfn's configuration folder "
            "(passphrases/), or PULUMI_CONFIG_PASSPHRASE. Nothing was changed.",
        )
    plugin = _MISSING_PLUGIN.search(text)
    if plugin:
        return DeploymentError(
            f"The engine has no plugin {plugin[1]}.", hint=f"Install it: pulumi plugin install resource {plugin[1]}"
        )
    known = explain(text)
    if known is not None:
        return known
    if _BACKEND.search(text):
        return StateError(
            f"The state of stack {stack} in {url} cannot be reached: {last_error(text)}",
            hint="Look at `state` in the settings (cloudfn config show), and at the network. Nothing was changed.",
        )
    return DeploymentError(f"Stack {stack}: the engine failed: {last_error(text)}")


def of_steps(
    stack: str,
    command: str,
    done: Sequence[Step],
    failed: Sequence[Step],
    errors: Sequence[Message],
    explain: Callable[[str], Error | None],
) -> Error:
    """The error of an operation that got to resources: what failed with which reason, what was done, how to go on."""
    reasons = {message.resource: message for message in reversed(errors)}
    lines = []
    for step in failed:
        said = reasons.get(step.name)
        lines.append(f"{step.name} ({step.type}): {_plain(said.text) if said else step.op + ' failed'}")
    if not failed:
        lines = [_plain(message.text) for message in errors] or ["the engine did not say why"]
    counts = f"{len(done)} step{'s' if len(done) != 1 else ''} done before, and in the state"
    known = next((error for error in map(explain, [message.text for message in errors]) if error is not None), None)
    message = f"Stack {stack}: {command} stopped half-way ({counts}).\n" + "\n".join(f"  {text}" for text in lines)
    again = f"Run `cloudfn {command}` again to go on" + (
        ", or `cloudfn down` to remove all." if command == "up" else "."
    )
    if known is None:
        return DeploymentError(message, hint=again)
    return type(known)(f"{known.message}\n{message}", hint=f"{known.hint}\n{again}" if known.hint else again)


def _locked(text: str, stack: str) -> StackLockedError:
    who = holder(text)
    by = f"by {who[0]}@{who[1]} (process {who[2]}) since {who[3]}" if who else "by another operation"
    error = StackLockedError(
        f"Stack {stack} is locked {by}.",
        hint="Wait for it to end. If it is dead, `cloudfn unlock` removes the lock and reads the cloud again.",
    )
    if who:
        error.host, error.pid = who[1], who[2]
    return error


def last_error(text: str) -> str:
    """The engine's own words for what went wrong: the last line that says error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or ["it said nothing"])[-1].removeprefix("error:").strip()


def _plain(text: str) -> str:
    """The provider's reason, without the tail that names the resource again."""
    text = re.sub(r"^\d+ errors? occurred:\s*\*?\s*", "", text.strip())
    return " ".join(text.split())
