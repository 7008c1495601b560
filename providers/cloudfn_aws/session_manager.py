"""The way to a machine's SSH server through AWS Systems Manager: we open a session, AWS's own program carries it.

https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-getting-started-enable-ssh-connections.html
has the AWS CLI open the session. We do, so that nobody needs the CLI, and what AWS says of a failure arrives here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from cloudfn.exception import ConnectionError, NotFoundError, VersionError
from cloudfn.road.destination import Ticket
from cloudfn_aws import errors
from cloudfn_aws.network import HELPER

if TYPE_CHECKING:
    from boto3 import Session
    from mypy_boto3_ssm.client import SSMClient

DOCUMENT = "AWS-StartSSHSession"
_RESPONSE = "AWS_SSM_START_SESSION_RESPONSE"
"""Variable in which the program takes the session, token and all; as an argument it takes the variable's name."""
_TOO_OLD = (1, 2, 339, 0)  # the last release that took the token as an argument only
_INSTALL = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)
# Whoever waits for a machine tries again, and whoever ends must not wait long; the default of boto3 is minutes.
_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"total_max_attempts": 2})
_LATER = ("ThrottlingException", "InternalServerError", "ServiceUnavailable")


class SessionManager:
    """Sessions on the machines of one stack. Thread-safe.

    Args:
        role: policy that callers need.
    """

    def __init__(self, session: Session, role: str) -> None:
        self._session = session
        self._role = role
        self._lock = threading.Lock()
        self._clients: dict[str, SSMClient] = {}

    def proxy(self, machine: str, region: str) -> tuple[str, ...]:
        """The command whose input and output are a connection to a machine's SSH server, with `ticket` in its
        environment.

        Raises:
            NotFoundError: AWS's program is not installed here.
            VersionError: it is too old.
        """
        program = helper()
        endpoint = self._client(region).meta.endpoint_url
        # The empty word is the profile: the program finds the credentials as we do.
        return (program, _RESPONSE, region, "StartSession", "", json.dumps({"Target": machine}), endpoint)

    def ticket(self, machine: str, region: str, port: int) -> Ticket:
        """Opens a session, for one connection.

        Raises:
            ConnectionError: the machine is not connected to Systems Manager (yet), or AWS cannot answer now.
            PermissionDeniedError: we may not.
        """
        request: dict[str, Any] = {
            "Target": machine,
            "DocumentName": DOCUMENT,
            "Parameters": {"portNumber": [str(port)]},
        }
        with errors.translated(f"the way to {machine} through Systems Manager", self._role):
            try:
                said = self._client(region).start_session(**request)
            except ClientError as error:
                code = str(error.response.get("Error", {}).get("Code"))
                if code == "TargetNotConnected":
                    raise ConnectionError(
                        f"{machine} is not connected to AWS Systems Manager.",
                        hint="Its agent connects within a minute of the boot. It must be in the machine's image, and "
                        f"have a way out to ssmmessages.{region}.amazonaws.com.",
                    ) from error
                if code in _LATER:
                    raise ConnectionError(f"AWS Systems Manager cannot open the way to {machine}: {error}") from error
                raise
        response = json.dumps({name: said[name] for name in ("SessionId", "StreamUrl", "TokenValue")})
        hint = (
            f"The policy {self._role} must allow ssmmessages:OpenDataChannel (`cloudfn up` brings it up to date), and "
            f"this computer must reach ssmmessages.{region}.amazonaws.com by HTTPS."
        )
        return Ticket({_RESPONSE: response}, partial(self._end, region, said["SessionId"]), hint)

    def _end(self, region: str, id: str) -> None:
        """Else it would stay for minutes: the program just goes, and the SSH server never hears of it."""
        try:
            self._client(region).terminate_session(SessionId=id)
        except (BotoCoreError, ClientError):  # AWS ends it after a while
            return

    def _client(self, region: str) -> SSMClient:
        with self._lock:
            if region not in self._clients:
                self._clients[region] = self._session.client("ssm", region_name=region, config=_CONFIG)
            return self._clients[region]


def helper() -> str:
    """The path of AWS's program. Raises as `SessionManager.proxy`."""
    program = shutil.which(HELPER)
    if program is None:
        raise NotFoundError(
            f"This stack's machines are reached through AWS Systems Manager, and {HELPER} is not installed here.",
            hint=f'Install it ({_INSTALL}), or set network.road = "ssh" and run `cloudfn up`.',
        )
    version = _version(program)
    if version <= _TOO_OLD:
        raise VersionError(
            f"{program} is of version {'.'.join(map(str, version)) or 'unknown'}, which would show the token of each "
            "session to everybody on this computer.",
            hint=f"Install a newer one: {_INSTALL}",
        )
    return program


@lru_cache
def _version(program: str) -> tuple[int, ...]:
    done = subprocess.run([program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stdout.strip()
    return tuple(map(int, said.split("."))) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})*", said) else ()
