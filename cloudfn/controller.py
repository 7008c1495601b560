"""The controller: the only one who changes a group's size. Pure: what is remembered, seen and asked goes in; what is to
be remembered, done and answered comes out.

It runs in the cloud's serverless function, packed with a thin handler and nothing else. So it and the modules named
`controller_*` import the standard library and one another only. `controller_run` is the loop around it: it holds what
`decide` needs and carries out what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from cloudfn import controller_answers as answers
from cloudfn import controller_claims as claims
from cloudfn import controller_keys as keys
from cloudfn import controller_ledger as ledger
from cloudfn import controller_machines as machines
from cloudfn import controller_money as money
from cloudfn import controller_requests as requests
from cloudfn.controller_actions import actions
from cloudfn.controller_answers import VERSION, answered, rejected
from cloudfn.controller_facts import Facts
from cloudfn.controller_observed import Action, Beat, Observed
from cloudfn.controller_requests import Caller, Rejected
from cloudfn.controller_state import ASKED, BOOTING, DRAINING, READY, Group, Machine, State, copied

__all__ = ["VERSION", "Ask", "Decision", "answered", "decide", "due", "handle", "rejected"]

FLUX, CALM, REST = 3.0, 50.0, 600.0
"""Seconds between two looks at the cloud: while something changes, while machines run, and while there is nothing.
Looking writes the state, and at rest that would be most of what a month costs."""


@dataclass(frozen=True)
class Ask:
    """A request, who asks, and what the host found out for it.

    Attributes:
        host_key: the public SSH host key that the machine left where only it can write; "" for none.
        beats: last heartbeats, where the answer shows them.
    """

    request: Mapping[str, Any]
    caller: Caller
    host_key: str = ""
    beats: Mapping[str, Beat] | None = None


@dataclass(frozen=True)
class Decision:
    """What `decide` says.

    Attributes:
        answers: one for each request, in their order.
        rows: of the ledger, by day and machine; to be stored before the state is.
        pressing: something has to be done that should not wait for the next look at the cloud.
    """

    state: State
    actions: tuple[Action, ...]
    answers: tuple[dict[str, Any], ...]
    rows: Mapping[str, Mapping[str, ledger.Row]] = field(default_factory=dict)
    pressing: bool = False


def decide(state: State, observed: Observed | None, asks: Sequence[Ask], facts: Facts, now: float) -> Decision:
    """What follows from all that is known. The state that comes in is left as it is.

    Args:
        observed: a look at the cloud; None: none was taken, so no machine is granted or ended, and nothing is done.
        asks: requests to serve.
        now: seconds since the epoch.
    """
    state = copied(state)
    for name in facts.groups:
        state.groups.setdefault(name, Group())
    money.roll(state, facts, now)
    if observed is not None:
        machines.merge(state, observed, facts, now)
    claims.expire(state, now)
    served = [_serve(state, facts, ask, now) for ask in asks]
    if observed is None:
        claims.share(state)
        pressing = any(press for _, press in served) or _lacks(state)
        given = tuple(_answer(state, facts, ask, result, now) for ask, (result, _) in zip(asks, served, strict=True))
        return Decision(state, (), given, pressing=pressing)
    if observed.trouble:
        state.trouble = observed.trouble
        claims.wait(state, now)
    else:
        machines.look_after(state, facts, now, heard=observed.beats is not None)
        claims.grant(state, facts, now)
    rows = {} if observed.beats is None else ledger.book(state, facts, observed.beats, now)
    if observed.beats is not None:
        machines.forget(state, facts, now)
    given = tuple(_answer(state, facts, ask, result, now) for ask, (result, _) in zip(asks, served, strict=True))
    return Decision(state, actions(state, observed, now), given, rows)


def due(state: State, facts: Facts, now: float, *, pressing: bool) -> bool:
    """Whether it is time to look at the cloud and act on it."""
    if state.slow_until > now:
        return False
    if pressing or now - state.observed_at >= (REST if _rests(state) else CALM):
        return True
    changing = any(
        machine.state in (ASKED, BOOTING, DRAINING) or (machine.state == READY and machine.lifecycle != "serving")
        for machine in state.machines.values()
    ) or any(group.target != len(state.live(name)) for name, group in state.groups.items())
    waiting = any(found.has < found.machines for found in state.claims.values())
    return (changing or waiting) and now - state.observed_at >= FLUX


def _rests(state: State) -> bool:
    """Whether there is nothing to look after: nobody wants a machine, none is there, and none can come late."""
    return (
        not state.claims
        and not state.machines
        and not any(
            group.target or group.held or group.settled_at > state.observed_at for group in state.groups.values()
        )
    )


def handle(request: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The answer of a controller that has no state and decides on nothing: health and version; the schedule is taken.
    It never raises for what a request says.

    Args:
        request: JSON object; `kind` says what is asked.
        now: seconds since the epoch.
    """
    kind = request.get("kind")
    if kind == "health":
        return answered(now=now)
    if kind in ("version", "tick"):
        return answered()
    if isinstance(kind, str) and kind in requests.FROM_CALLERS | requests.FROM_MACHINES:
        return rejected("Unimplemented", "This cloud's controller answers for its health and version only, so far.")
    try:
        requests.check(request, Caller(""))
    except Rejected as error:
        return rejected(error.type, str(error))
    raise AssertionError(f"{kind} is known and not served")


# -- requests ----------------------------------------------------------------------------------------------------------


def _serve(state: State, facts: Facts, ask: Ask, now: float) -> tuple[Any, bool]:
    """Take in a request: what it is about, or its rejection; and whether it makes something press."""
    try:
        kind = requests.check(ask.request, ask.caller)
        if kind in requests.FROM_MACHINES:
            return _serve_machine(state, facts, kind, ask, now)
        if kind == "claim":
            found = claims.claim(state, facts, ask.request, ask.caller, now)
            return found, False
        if kind == "release":
            claims.release(state, ask.request, ask.caller)
        elif kind == "key":
            return keys.add(state, ask.request, ask.caller, now), False
        elif kind == "revoke":
            return keys.revoke(state, ask.request), False
        return None, kind == "ledger" or (kind == "tick" and not _rests(state))
    except Rejected as error:
        return error, False


def _serve_machine(state: State, facts: Facts, kind: str, ask: Ask, now: float) -> tuple[Any, bool]:
    machine = state.machines.get(ask.caller.machine)
    if machine is None:
        raise Rejected("UnknownMachine", f"{ask.caller.machine} is no machine of the stack {facts.stack} (yet).")
    if kind == "hello":
        machines.hello(state, machine, ask.caller.role_id, now)
        return machine, False
    if kind == "heartbeat":
        requests.state(ask.request)
        requests.integer(ask.request, "inputs", 0)
        counted = machine.counts
        said = {**ask.request, "boot": requests.stages(ask.request)}
        machine.role_id = ask.caller.role_id
        machines.heartbeat(state, machine, said, ask.host_key, now)
        return machine, counted and not machine.counts  # that it is ready is taken in with the next look
    if kind == "report":
        text = requests.text(ask.request, "text", "", most=100_000)[-requests.TEXT :]
        stage = requests.text(ask.request, "stage", "boot", most=100)
        why = f"it failed to start, at {stage}"
        machines.stop(state, machine, why, now, failed=not machine.ready_at, text=f"{text}\n" if text else why)
        machine.left = True
        return machine, True
    return _leave(state, machine, requests.text(ask.request, "reason", "idle"), now)


def _leave(state: State, machine: Machine, reason: str, now: float) -> tuple[tuple[bool, str], bool]:
    """A machine that has nothing to do asks to go: granted if no claim counts on it, or it has to go anyway."""
    if not machine.counts:
        machine.left = True
        return (True, machine.why), True
    if reason == "idle" and claims.share(state).get(machine.group, 0) < 1:
        return (False, "a claim counts on it"), False
    machines.stop(state, machine, reason, now)
    machine.left = True
    return (True, reason), True


def _lacks(state: State) -> bool:
    """Whether a claim was raised, or asks for more, since the cloud was last looked at."""
    return any(
        found.has < found.machines and found.state != "refused" and found.raised >= state.observed_at
        for found in state.claims.values()
    )


def _answer(state: State, facts: Facts, ask: Ask, result: Any, now: float) -> dict[str, Any]:
    if isinstance(result, Rejected):
        return rejected(result.type, str(result))
    kind = ask.request["kind"]
    if kind == "health":
        return answered(now=now)
    if kind == "claim":
        return answers.claim(state, facts, result, now)
    if kind == "machines":
        return answers.machines(state, facts, ask.beats, now)
    if kind == "key":
        return answered(fingerprint=result)
    if kind == "keys":
        return answers.keys(state)
    if kind == "revoke":
        return answered(revoked=result)
    if kind == "hello":
        return answers.hello(state, facts, result)
    if kind in ("heartbeat", "report"):
        return answers.heartbeat(state, facts, result)
    if kind == "leave":
        return answered(granted=result[0], reason=result[1])
    return answered()
