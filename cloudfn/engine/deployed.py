"""What is deployed, for `cloudfn plan`: one small file of the state, read without the engine, soon or not at all."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cloudfn import clouds
from cloudfn.cloud import Cloud
from cloudfn.engine import backend, checkpoint
from cloudfn.exception import Error, StateError
from cloudfn.plan_spec import Plan
from cloudfn.settings import Settings

LIMIT = 1.2
"""Seconds that a plan waits for it, beside its own work."""


@dataclass(frozen=True)
class Deployed:
    """What was found.

    Attributes:
        plan: the deployed one; None where nothing is deployed, or where that is not known.
        unknown: why it is not known; "" where it is.
    """

    plan: Plan | None = None
    unknown: str = ""


class Look:
    """Looks on a thread of its own, from its creation on.

    Args:
        settings: of the environment: where its state is.
        stack: its name.
        cloud: says whether there may be credentials at all.
        limit: seconds.
    """

    def __init__(self, settings: Settings, stack: str, cloud: Cloud, limit: float = LIMIT) -> None:
        self._what = (settings, stack, cloud)
        self._limit = limit
        self._end = time.monotonic() + limit
        self._found: list[Deployed | BaseException] = []
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="cloudfn-deployed", daemon=True).start()

    def result(self) -> Deployed:
        """What was found until the limit."""
        if not self._ended.wait(max(0.0, self._end - time.monotonic())):
            return Deployed(unknown=f"{self._what[2].title} gave no answer within {self._limit:g} s")
        (found,) = self._found
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self) -> None:
        try:
            self._found.append(look(*self._what))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            self._found.append(error)
        finally:
            self._ended.set()


def look(settings: Settings, stack: str, cloud: Cloud) -> Deployed:
    """The deployed plan; nothing is made, and whatever stands in the way is said, not raised."""
    try:
        if settings.state.backend == "pulumi" or settings.state.url.startswith(("http:", "https:")):
            return Deployed(unknown="the state is in Pulumi Cloud, which only the engine reads")
        found = _in_folder(settings, stack) if is_folder(settings) else _in_bucket(settings, stack, cloud)
        if found is None:
            return Deployed()
        if isinstance(found, str):
            return Deployed(unknown=found)
        plan = checkpoint.plan_of(found)
    except Error as error:
        return Deployed(unknown=error.message.splitlines()[0].rstrip("."))
    return Deployed(plan) if plan else Deployed(unknown="its last `up` did not come to its end")


def is_folder(settings: Settings) -> bool:
    """Whether the state lies in a folder, so that nobody must be asked."""
    url = settings.state.url
    return url.startswith("file:") if url else settings.state.backend == "file"


def _in_folder(settings: Settings, stack: str) -> bytes | None:
    url = urlsplit(settings.state.url)
    folder = Path(unquote(url.netloc + url.path)).expanduser() if url.scheme else backend.folder()
    for path in checkpoint.paths(stack):
        try:
            return (folder / path).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise StateError(f"The state in {folder} cannot be read: {error.strerror}.") from error
    return None


def _in_bucket(settings: Settings, stack: str, cloud: Cloud) -> bytes | str | None:
    if not cloud.has_credentials():
        return f"there are no credentials of {cloud.title} on this machine"
    account = clouds.account(cloud.name)
    for path in checkpoint.paths(stack):
        content = account.read_state(settings, path)
        if content is not None:
            return content
    return None
