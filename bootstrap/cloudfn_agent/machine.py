"""The life of a machine around its agent: heartbeats, idleness, the end, and the dead-man's sign of life.

One task on the agent's loop looks at everything once a second; what waits for the network runs on a thread. What is
decided is in `decide`, which is pure.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import field
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence, TypeVar

from cloudfn_boot.bootstrap import Refused, uptime

from cloudfn.record import dataclass
from cloudfn_agent import notice
from cloudfn_agent.activity import Activity
from cloudfn_agent.notice import Notice

_T = TypeVar("_T")
_FAILURES = (OSError, http.client.HTTPException, Refused, ValueError)
LOOK = 1.0  # seconds between two looks at the agent
NOTICE = 5.0  # seconds between two looks for a notice of the cloud
EARLY = 0.8  # of the dead-man's time: the machine asks before he acts
REFUSED = 30.0  # seconds after which a machine that may not leave asks again
LEAVE_PATIENCE = 60.0  # seconds for which a machine whose leave is granted waits to be ended, before it goes by itself


class Controller(Protocol):
    """Whom the machine asks; see `cloudfn_boot.bootstrap.Cloud`."""

    def ask(self, kind: str, timeout: float = 20.0, **fields: Any) -> dict[str, Any]:
        """Blocks. Raises `Refused`, OSError."""


class Metadata(Protocol):
    """See `cloudfn_boot.bootstrap.Metadata`."""

    def get(self, path: str) -> str:
        """Blocks. Raises `Refused` (404: there is no such thing) and OSError."""


class Watch(Protocol):
    """See `cloudfn_agent.activity.Watch`."""

    def activity(self) -> Activity: ...
    def account(self) -> list[dict[str, Any]]: ...


class Agent(Protocol):
    """The part of the agent that matters here."""

    @property
    def watch(self) -> Watch: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    async def drain(self, seconds: float) -> None: ...
    def shutdown(self, grace: float) -> None: ...


@dataclass(frozen=True)
class Terms:
    """What the controller has told at the start.

    Attributes:
        heartbeat: seconds between two.
        idle_timeout: seconds without an input after which the machine asks to leave.
        deadman: seconds without a heartbeat accepted, and without a running input, after which it goes by itself.
        drain_limit: seconds that running inputs may take when it has to go, where the cloud sets no time.
        boot: seconds by stage.
        host_key: fingerprint of sshd's.
        version: of cloudfn.
    """

    heartbeat: float = 10.0
    idle_timeout: float = 600.0
    deadman: float = 900.0
    drain_limit: float = 600.0
    boot: dict[str, float] = field(default_factory=dict)
    host_key: str = ""
    version: str = ""


def decide(activity: Activity, terms: Terms, now: float, accepted: float, asked: float) -> str:
    """What a machine that serves has to do: "" (nothing), "leave" (nobody needs it), "unheard" (nobody hears it).

    Args:
        now: and all times: monotonic seconds.
        accepted: when the last heartbeat was.
        asked: when it asked to leave and was refused.
    """
    if not activity.idle:
        return ""
    if now - max(accepted, activity.idle_since) > terms.deadman * EARLY:
        return "unheard"
    if now - activity.idle_since >= terms.idle_timeout and now - asked >= REFUSED:
        return "leave"
    return ""


class MachineLife:
    """Looks after a machine until it goes.

    Args:
        on_keys: gets the public keys of those who may come in, with every answer.
        alive: file for the dead-man: takes the uptime of the last sign of life.
        power_off: ends the machine.
    """

    def __init__(
        self,
        agent: Agent,
        controller: Controller,
        metadata: Metadata,
        terms: Terms,
        *,
        on_keys: Callable[[Sequence[str]], None],
        alive: Path,
        power_off: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = "ready"
        self.ended = asyncio.Event()
        self._agent = agent
        self._controller = controller
        self._metadata = metadata
        self._terms = terms
        self._on_keys = on_keys
        self._alive = alive
        self._power_off = power_off
        self._clock = clock
        self._threads = ThreadPoolExecutor(2, "cloudfn-machine")
        self._accepted = self._ready = clock()
        self._asked = float("-inf")
        self._interval = terms.heartbeat
        self._next_beat = 0.0
        self._next_notice = 0.0
        self._beating = asyncio.Lock()
        self._idle_seconds = 0.0
        self._looked = clock()
        self._reason = ""
        self._draining: asyncio.Task[None] | None = None
        self._switched_off = asyncio.Event()

    async def run(self) -> None:
        """Until the machine may end."""
        try:
            while not self.ended.is_set():
                await self.look()
                try:
                    await asyncio.wait_for(self.ended.wait(), LOOK)
                except asyncio.TimeoutError:
                    pass
        finally:
            self._threads.shutdown(wait=False)

    async def look(self) -> None:
        """Do what is due."""
        now = self._clock()
        activity = self._agent.watch.activity()
        if not activity.inputs:
            self._idle_seconds += now - self._looked
        self._looked = now
        if activity.inputs:
            self.sign_of_life()
        if now >= self._next_notice:
            self._next_notice = now + NOTICE
            found = await self._off_loop(lambda: notice.look(self._read_metadata, time.time()))
            if found:
                self.go(found)
        if now >= self._next_beat:
            await self.beat()
        if self._draining is None:
            what = decide(activity, self._terms, now, self._accepted, self._asked)
            if what:
                await self._try_to_leave("idle" if what == "leave" else what)

    def go(self, found: Notice) -> None:
        """The machine's end is certain: finish or give back what runs, and leave. What was told first holds."""
        if self._draining is None:
            self.state, self._reason = "draining", found.reason
            seconds = self._terms.drain_limit if found.seconds is None else max(0.0, found.seconds - 2 * LOOK)
            self._next_beat = 0.0
            self._draining = asyncio.get_running_loop().create_task(self._drain(seconds))

    async def stop(self, seconds: float) -> None:
        """The machine is switched off by somebody: as `go`, and return when it is done."""
        self._switched_off.set()
        self.go(Notice("stopped", seconds))
        assert self._draining is not None
        await self._draining

    async def beat(self) -> bool:
        """Send a heartbeat, and do as its answer says. False when nobody took it."""
        async with self._beating:
            now = self._clock()
            self._next_beat = now + self._interval
            fields = self._report(now)
            try:
                answer = await self._off_loop(lambda: self._controller.ask("heartbeat", **fields))
            except _FAILURES as error:
                print(f"no heartbeat was accepted: {error}", file=sys.stderr, flush=True)
                self._next_beat = now + min(self._interval, 5.0)
                return False
            self._accepted = self._clock()
            self.sign_of_life()
            self._interval = float(answer.get("heartbeat") or self._interval)
            if fields["state"] == self.state:  # else the next one, with the news, is due at once
                self._next_beat = now + self._interval
            self._on_keys([str(key) for key in answer.get("ssh_keys", ())])
        if answer.get("command") == "drain":
            self.go(Notice("drained", None))
        return True

    def sign_of_life(self) -> None:
        """For the dead-man, who ends a machine that shows none."""
        aside = self._alive.with_name(f".{self._alive.name}")
        aside.write_text(f"{uptime():.0f}\n")
        aside.rename(self._alive)

    def _report(self, now: float) -> dict[str, Any]:
        activity = self._agent.watch.activity()
        idle_since = None if activity.inputs else round(time.time() - (now - activity.idle_since), 3)
        return {
            "state": self.state,
            "reason": self._reason,
            "inputs": activity.inputs,
            "idle_since": idle_since,
            "idle_seconds": round(self._idle_seconds, 3),
            "boot": self._terms.boot,
            "host_key": self._terms.host_key,
            "agent_version": self._terms.version,
            "ledger": self._agent.watch.account(),
            "load": {"workers": activity.workers, "waiting": activity.waiting},
        }

    async def _try_to_leave(self, reason: str) -> None:
        """Close the door, look again whether nobody came, ask; and open it again where the answer is no."""
        heard = await self.beat()  # so that the ledger has everything
        if self._draining is not None:  # it is told to go anyway
            return
        if not heard and reason != "unheard":  # nobody could answer, and callers may come meanwhile
            self._asked = self._clock()
            return
        self._agent.pause()
        before = self._agent.watch.activity()
        if not before.idle:
            self._agent.unpause()
            return
        granted = False
        try:
            answer = await self._off_loop(lambda: self._controller.ask("leave", reason=reason))
            granted = bool(answer.get("granted"))
        except _FAILURES as error:
            print(f"nobody could be asked whether this machine may go: {error}", file=sys.stderr, flush=True)
            if reason == "unheard":
                self.end()
                return
        if not granted:
            self._asked = self._clock()
            self._agent.unpause()
            return
        self._draining = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        self.state, self._reason = "draining", "drained"
        await self._drain(self._terms.drain_limit)

    async def _drain(self, seconds: float) -> None:
        await self._agent.drain(seconds)
        await self.beat()
        while True:
            try:
                await self._off_loop(lambda: self._controller.ask("leave", reason=self._reason))
                break
            except _FAILURES as error:
                print(f"the controller was not told of the end: {error}", file=sys.stderr, flush=True)
                if self._clock() - self._accepted > self._terms.deadman or self._switched_off.is_set():
                    break
            await self._wait_to_be_ended(5.0)
        await self._wait_to_be_ended(LEAVE_PATIENCE)
        self.end()

    async def _wait_to_be_ended(self, seconds: float) -> None:
        """Until somebody switches the machine off, or so long."""
        try:
            await asyncio.wait_for(self._switched_off.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def end(self) -> None:
        """Switch the machine off."""
        self.ended.set()
        self._power_off()

    def _read_metadata(self, path: str) -> str | None:
        try:
            return self._metadata.get(path)
        except _FAILURES:  # 404: no notice; and without the service there is none either
            return None

    async def _off_loop(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def open_keys_socket(path: Path, group: int, refresh: Callable[[], Any]) -> Any:
    """Serve sshd's helper: whoever connects is answered one byte once the keys are as the controller knows them.

    Args:
        group: that may connect.
        refresh: asks the controller; a coroutine function. Called no more often than every two seconds.
    """
    last = float("-inf")

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal last
        if time.monotonic() - last > 2.0:
            last = time.monotonic()
            await refresh()
        writer.write(b"1")
        writer.close()

    async def start() -> asyncio.AbstractServer:
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(serve, str(path))
        os.chown(path, 0, group)
        path.chmod(0o660)
        return server

    return start()
