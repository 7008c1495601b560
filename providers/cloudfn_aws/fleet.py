"""Where AWS's machines are, for roads and for people."""

from __future__ import annotations

from functools import partial
from typing import Any, Mapping

from cloudfn.descriptor import Descriptor
from cloudfn.exception import ConnectionError
from cloudfn.machines import MachineInfo
from cloudfn.road.destination import Destination
from cloudfn_aws import network
from cloudfn_aws.session_manager import SessionManager

ADMIN = "cloudfn-admin"
"""Who may log in to a machine for a shell; the road itself knows the user of `Destination`."""


def destination(stack: Descriptor, sessions: SessionManager, said: Mapping[str, Any], user: str = "") -> Destination:
    """The way to a machine that the controller told of.

    Raises:
        NotFoundError: the helper that leads there is not installed here.
        VersionError: it is too old.
        ConnectionError: the machine is not so far that it could be reached.
    """
    name = str(said["id"])
    if not said.get("host_key"):
        raise ConnectionError(f"{name} has not published its SSH host key yet")
    words: dict[str, Any] = {"user": user} if user else {}
    if port := said.get("ssh_port"):
        words["port"] = int(port)
    if stack.road == "helper":
        region = str(said.get("region") or stack.region)
        words["proxy"] = sessions.proxy(name, region)
        words["ticket"] = partial(sessions.ticket, name, region, words.get("port", network.SSH))
    elif not said.get("address"):
        raise ConnectionError(f"{name} has no address yet")
    return Destination(name, str(said["host_key"]), str(said.get("address") or ""), **words)


def info(stack: Descriptor, said: Mapping[str, Any]) -> MachineInfo:
    """A machine of the controller's answers."""
    return MachineInfo(
        id=str(said["id"]),
        app=stack.app,
        environment=stack.environment,
        group=str(said.get("group") or ""),
        region=str(said.get("region") or stack.region),
        state=str(said.get("state") or ""),
        zone=str(said.get("zone") or ""),
        type=str(said.get("type") or ""),
        market=str(said.get("market") or ""),
        address=str(said.get("address") or ""),
        started=_number(said.get("started")),
        ready_at=_number(said.get("ready_at")),
        inputs=int(said.get("inputs") or 0),
        usd_per_hour=_number(said.get("usd_per_hour")),
        usd_so_far=_number(said.get("usd_so_far")),
        agent_version=str(said.get("agent_version") or ""),
        boot={str(stage): float(seconds) for stage, seconds in (said.get("boot") or {}).items()},
    )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
