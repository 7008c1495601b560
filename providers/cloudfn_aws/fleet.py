"""Where AWS's machines are, for roads and for people."""

from __future__ import annotations

import shutil
from typing import Any, Mapping

from cloudfn.descriptor import Descriptor
from cloudfn.exception import ConnectionError, NotFoundError
from cloudfn.machines import MachineInfo
from cloudfn.road.destination import Destination
from cloudfn_aws import network

ADMIN = "cloudfn-admin"
"""Who may log in to a machine for a shell; the road itself knows the user of `Destination`."""
CLI = "aws"


def destination(stack: Descriptor, said: Mapping[str, Any], user: str = "") -> Destination:
    """The way to a machine that the controller told of.

    Raises:
        NotFoundError: the helper that leads there is not installed here.
        ConnectionError: the machine is not so far that it could be reached.
    """
    name = str(said["id"])
    if not said.get("host_key"):
        raise ConnectionError(f"{name} has not published its SSH host key yet")
    words: dict[str, Any] = {"user": user} if user else {}
    if port := said.get("ssh_port"):
        words["port"] = int(port)
    if stack.road == "helper":
        words["proxy"] = tunnel(name, str(said.get("region") or stack.region), words.get("port", network.SSH))
    elif not said.get("address"):
        raise ConnectionError(f"{name} has no address yet")
    return Destination(name, str(said["host_key"]), str(said.get("address") or ""), **words)


def tunnel(machine: str, region: str, port: int) -> tuple[str, ...]:
    """The command whose input and output are a connection to a machine's SSH server, through Systems Manager.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-getting-started-enable-ssh-connections.html
    """
    missing = [program for program in (network.HELPER, CLI) if shutil.which(program) is None]
    if missing:
        raise NotFoundError(
            f"This stack's machines are reached through AWS Systems Manager, and {' and '.join(missing)} "
            f"{'are' if len(missing) > 1 else 'is'} not installed here.",
            hint="Install it (https://docs.aws.amazon.com/systems-manager/latest/userguide/"
            'session-manager-working-with-install-plugin.html), or set network.road = "ssh" and run `cloudfn up`.',
        )
    return (
        *(CLI, "ssm", "start-session", "--region", region, "--target", machine),
        *("--document-name", "AWS-StartSSHSession", "--parameters", f"portNumber={port}"),
    )


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
