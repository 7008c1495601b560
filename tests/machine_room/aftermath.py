"""What must hold after every fault, whatever it was."""

from __future__ import annotations

import builtins

from cloudfn import exception
from machine_room.stack import Client, Stack

LONGEST = 90.0
"""Seconds within which the last machine must be gone: claims of a dead client, a machine's idle time, its drain."""
_ACCURACY = 0.01
"""Part of what a machine is billed for that the ledger may be wrong by."""


def assert_all_is_well(stack: Stack) -> None:
    """Every input has a result or a typed error, no machine remains, and the ledger says what the bill says."""
    for client in stack.clients:
        if not client.killed:
            for call in client.calls:
                assert_answered(client, call)
            client.close()
    stack.room.wait_until(stack.is_at_zero, LONGEST, "machines outlive what they were for")
    assert stack.ask("machines")["asked"] == {}
    assert_ledger_agrees(stack)


def assert_answered(client: Client, call: int) -> None:
    """A result, or an error that says by its type what is wrong."""
    outcome = client.outcome(call)
    if "error" in outcome:
        kind = getattr(exception, outcome["error"], None) or getattr(builtins, outcome["error"], None)
        assert kind is not None and kind not in (exception.Error, exception.InternalFailure, Exception), outcome
        assert outcome["text"], outcome


def assert_ledger_agrees(stack: Stack) -> None:
    """For each machine there was: seconds in the ledger, and seconds on the bill."""
    room = stack.room
    names = {group["name"] for group in stack.outputs["groups"].values()}
    bill: dict[str, float] = {}
    for instance in room.instances.all():
        if instance.autoscaling_group.name in names:  # type: ignore[attr-defined]
            started, ended = room.instances.seconds(instance.id)
            bill[instance.id] = ended - started
    ledger: dict[str, float] = {}

    def agrees() -> bool:
        ledger.clear()
        for row in stack.ask("ledger", since=stack.since, until=room.today()).get("rows", ()):
            ledger[row["machine"]] = ledger.get(row["machine"], 0.0) + row["seconds"]
        return ledger.keys() == bill.keys() and all(
            abs(ledger[id] - seconds) <= _ACCURACY * seconds for id, seconds in bill.items()
        )

    try:
        room.wait_until(agrees, 20)  # a run that acts at this moment books for all, and lets nobody else
    except TimeoutError:
        raise AssertionError(f"the ledger says {ledger}, the bill {bill}") from None
