"""The loop around `controller.decide`, the same on every cloud: remember, look, decide, write down, act.

State is one object under conditional writes, so of two runs that decide at once one loses, and decides again. Only one
run at a time may look and act (`State.acting`); others take in their request and leave the rest to it. What is to be
done is written down before it is done, and done until the cloud shows it: a run that dies in between is made up for by
the next.

Heartbeats of machines that change nothing go into objects of their own, so a thousand machines do not queue for one.
"""

from __future__ import annotations

import json
import random
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Mapping, Protocol, Sequence

from cloudfn import controller, controller_ledger, controller_requests, controller_state
from cloudfn.controller import Ask
from cloudfn.controller_backoff import pause
from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import Action, Beat, Observed
from cloudfn.controller_requests import Caller, Rejected
from cloudfn.controller_state import Acting, State

STATE = "state/controller.json"
KEY = "state/environment.key"
BEATS = "state/beats/"
LEDGER = "state/ledger/"
TRIES = 40
"""Attempts to write the state, each against whoever came first."""
LEASE = 70.0
"""Seconds for which a run may act: longer than it can live."""
ROUNDS = 4
"""Looks that one run takes, while requests of others make that worthwhile."""
MOST_BYTES = 4_000_000
"""Of an answer with rows of the ledger; the rest is asked for again."""
MOST_DAYS = 400
READERS = 16
"""Objects that are read at a time."""


class Unavailable(Exception):
    """The cloud does not answer, or refuses: it wants to be asked less often, or a right is missing. Its words."""


class Store(Protocol):
    """The stack's bucket."""

    def read(self, name: str) -> tuple[bytes, str] | None:
        """An object and the tag of its version; None if there is none."""

    def write(self, name: str, data: bytes, tag: str | None) -> bool:
        """Write an object if its version still has that tag (None: if there is none); else False."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object, whatever is there."""

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""

    def tags(self, prefix: str) -> Mapping[str, str]:
        """Tags of all objects whose names begin so."""


class Cloud(Protocol):
    """Groups and machines."""

    def observe(self, machines: Sequence[str]) -> Observed:
        """Look at all groups, without heartbeats. Raises `Unavailable`.

        Args:
            machines: those that are known, for the cloud to say when they ended.
        """

    def act(self, action: Action) -> None:
        """Do it, or leave it for the next time if the cloud does not take it now. Raises `Unavailable`."""

    def identify(self, machine: str, request: Mapping[str, Any]) -> None:
        """Raises `Rejected` where a hello's signed identity is not that machine's."""

    def agent_url(self, sha256: str) -> str:
        """Where a machine gets the agent's code from, for a few minutes."""


class Controller:
    """One process of the function; serves many requests, one at a time.

    Args:
        clock: seconds since the epoch.
        sleep: waits so many seconds.
    """

    def __init__(
        self, store: Store, cloud: Cloud, facts: Facts, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._store = store
        self._cloud = cloud
        self._facts = facts
        self._clock = clock
        self._sleep = sleep
        self._beats: dict[str, tuple[str, Beat]] = {}
        self._known: tuple[str, State] | None = None

    def serve(self, request: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        """The answer to a request, as JSON values. What a request says wrong is answered, never raised."""
        try:
            kind = controller_requests.check(request, caller)
            if kind == "health":
                return controller.answered(now=self._clock())
            if kind == "version":
                return controller.answered()
            if kind == "hello":
                self._cloud.identify(caller.machine, request)
            answer = self._decided(kind, request, caller)
            return self._completed(kind, request, answer) if answer["ok"] else answer
        except Rejected as error:
            return controller.rejected(error.type, str(error))
        except controller_state.NewerState:
            return controller.rejected(
                "Outdated", "A newer cloudfn keeps this stack's state: run `cloudfn up` with it."
            )

    # -- decisions

    def _decided(self, kind: str, request: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
        ask = Ask(
            request, caller, self._host_key(kind, request, caller), self._read_beats() if kind == "machines" else None
        )
        if kind == "heartbeat":
            self._keep_beat(request, caller)
        run = secrets.token_hex(8)
        for attempt in range(TRIES):
            state, tag = self._load()
            now = self._clock()
            decision = controller.decide(state, None, (ask,), self._facts, now)
            (answer,) = decision.answers
            unknown = not answer["ok"] and answer["error"]["type"] == "UnknownMachine"
            free = decision.state.acting is None or decision.state.acting.until <= now
            acts = free and controller.due(
                decision.state, self._facts, now, pressing=decision.pressing or (unknown and attempt == 0)
            )
            if acts:
                decision.state.acting = Acting(run, now + LEASE)
            if decision.state != state and not self._store.write(STATE, controller_state.to_text(decision.state), tag):
                self._lost(attempt)
                continue
            return self._act(run, ask, kind) if acts else answer
        raise Rejected("Busy", "Too many requests at a time. Ask again in a few seconds.")

    def _act(self, run: str, ask: Ask, kind: str) -> dict[str, Any]:
        """Look and act, now that it is this run's turn; then let go of that."""
        answer = controller.rejected("Busy", "Another run took over. Ask again in a few seconds.")
        for round_ in range(ROUNDS):
            observed = self._observe(kind)
            decision = self._written(run, partial(self._decide_and_book, observed, ask))
            if decision is None:
                return answer
            (answer,) = decision.answers
            trouble = observed.trouble or self._carry_out(decision)
            self._forget_beats(decision.state)
            last = round_ == ROUNDS - 1
            done = self._written(run, partial(self._let_go, trouble, last))
            if done is None or done.state.acting is None:
                return answer
        return answer

    def _observe(self, kind: str) -> Observed:
        known = [id for id, machine in self._load()[0].machines.items() if not machine.booked]
        try:
            observed = self._cloud.observe(known)
        except Unavailable as error:
            return Observed(self._clock(), trouble=str(error) or "the cloud does not answer")
        return replace(observed, beats=self._read_beats()) if kind in ("tick", "ledger") else observed

    def _carry_out(self, decision: controller.Decision) -> str:
        """Do what was decided. Returns what hindered it; what is left is decided on again."""
        acting = decision.state.acting
        try:
            for action in decision.actions:
                if acting is None or self._clock() > acting.until - 5:
                    break
                self._cloud.act(action)
        except Unavailable as error:
            return str(error) or "the cloud does not answer"
        return ""

    def _decide_and_book(self, observed: Observed, ask: Ask, state: State) -> controller.Decision:
        decision = controller.decide(state, observed, (ask,), self._facts, self._clock())
        for day, rows in decision.rows.items():
            self._book(day, rows)
        return decision

    def _let_go(self, trouble: str, last: bool, state: State) -> controller.Decision:
        """Somebody else may act, unless a request that came meanwhile makes it worthwhile to go on."""
        now = self._clock()
        decision = controller.decide(state, None, (), self._facts, now)
        state = decision.state
        state.trouble = trouble[:300]
        state.slow = state.slow + 1 if trouble else 0
        state.slow_until = now + pause(state.slow, 2.0, 60.0, "slow") if trouble else 0.0
        if last or trouble or not decision.pressing:
            state.acting = None
        return decision

    def _written(self, run: str, change: Callable[[State], controller.Decision]) -> controller.Decision | None:
        """What `change` decides, once that is written down; None if it is not this run's turn any more."""
        for attempt in range(TRIES):
            state, tag = self._load()
            if state.acting is None or state.acting.run != run:
                return None
            decision = change(state)
            if decision.state == state or self._store.write(STATE, controller_state.to_text(decision.state), tag):
                return decision
            self._lost(attempt)
        return None

    def _load(self) -> tuple[State, str | None]:
        """The state, which is not to be changed, and its tag. One that this process has read already is not read
        again: most requests of a large stack change nothing."""
        found = self._store.read(STATE)
        if found is None:
            return State(), None
        data, tag = found
        if self._known is None or self._known[0] != tag:
            self._known = tag, controller_state.from_text(data)
        return self._known[1], tag

    def _lost(self, attempt: int) -> None:
        self._sleep(random.uniform(0.005, 0.03) * min(attempt + 1, 10))

    # -- heartbeats

    def _keep_beat(self, request: Mapping[str, Any], caller: Caller) -> None:
        said = {name: request.get(name) for name in ("inputs", "idle_since", "idle_seconds", "ledger", "state")}
        data = json.dumps({"at": self._clock(), "said": said}).encode()
        if len(data) > 200_000:
            raise Rejected("InvalidRequest", "A heartbeat may have 200 KB.")
        self._store.put(f"{BEATS}{caller.machine}.json", data)

    def _read_beats(self) -> dict[str, Beat]:
        """Those that changed since this process read them last are read."""
        tags = self._store.tags(BEATS)
        new = [name for name, tag in tags.items() if self._beats.get(name, ("",))[0] != tag]
        with ThreadPoolExecutor(READERS) as readers:
            for name, found in zip(new, readers.map(self._store.read, new), strict=True):
                if found is not None:
                    beat = json.loads(found[0])
                    self._beats[name] = (found[1], Beat(beat["at"], beat["said"]))
        self._beats = {name: kept for name, kept in self._beats.items() if name in tags}
        return {name.removeprefix(BEATS).removesuffix(".json"): beat for name, (_, beat) in self._beats.items()}

    def _forget_beats(self, state: State) -> None:
        for name in list(self._beats):
            if name.removeprefix(BEATS).removesuffix(".json") not in state.machines:
                self._store.delete(name)
                del self._beats[name]

    def _host_key(self, kind: str, request: Mapping[str, Any], caller: Caller) -> str:
        """Read when a heartbeat names it: from where only that machine can write."""
        if kind != "heartbeat" or not request.get("host_key"):
            return ""
        found = self._store.read(f"machines/{caller.principal}/host_key")
        return _host_key(found[0]) if found else ""

    # -- what else an answer holds

    def _completed(self, kind: str, request: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
        if kind in ("hello", "key"):
            answer["key"] = self._environment_key()
        if kind == "hello":
            sha256 = request.get("agent_sha256")
            answer["agent"] = None
            if isinstance(sha256, str) and len(sha256) == 64 and all(letter in "0123456789abcdef" for letter in sha256):
                answer["agent"] = {"url": self._cloud.agent_url(sha256), "sha256": sha256}
        if kind == "ledger":
            answer.update(self._ledger(request))
        return answer

    def _environment_key(self) -> str:
        """Made once; of two that make it at once, one wins."""
        found = self._store.read(KEY)
        if found is None:
            self._store.write(KEY, secrets.token_hex(32).encode(), None)
            found = self._store.read(KEY)
        if found is None:
            raise Rejected("Busy", "The environment's key could not be read. Ask again.")
        return found[0].decode()

    def _book(self, day: str, rows: Mapping[str, controller_ledger.Row]) -> None:
        """Put rows into the day's object, over those of the same machines."""
        name = f"{LEDGER}{day}.json"
        for attempt in range(TRIES):
            found = self._store.read(name)
            kept = json.loads(found[0]) if found else {}
            data = json.dumps({**kept, **rows}, sort_keys=True).encode()
            if (found and data == found[0]) or self._store.write(name, data, found[1] if found else None):
                return
            self._lost(attempt)
        raise Rejected("Busy", "The ledger could not be written. Ask again in a few seconds.")

    def _ledger(self, request: Mapping[str, Any]) -> dict[str, Any]:
        since, until = controller_requests.day(request, "since"), controller_requests.day(request, "until")
        names = sorted(
            name
            for name in self._store.tags(LEDGER)
            if since <= name.removeprefix(LEDGER).removesuffix(".json") <= until
        )[:MOST_DAYS]
        rows: list[Any] = []
        size = 0
        for name in names:
            found = self._store.read(name)
            if found is None:
                continue
            size += len(found[0])
            if rows and size > MOST_BYTES:
                return {"rows": rows, "next": name.removeprefix(LEDGER).removesuffix(".json")}
            rows.extend(json.loads(found[0]).values())
        return {"rows": rows, "next": ""}


def _host_key(data: bytes) -> str:
    """The public key as OpenSSH writes it, without a comment; "" for anything else."""
    words = data[:2000].decode("ascii", "replace").split()
    return f"ssh-ed25519 {words[1]}" if len(words) >= 2 and words[0] == "ssh-ed25519" else ""
