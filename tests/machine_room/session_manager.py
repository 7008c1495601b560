"""Session Manager of AWS Systems Manager, as far as SSH goes through it: its API, its data channels, and the agents on
the machines, which are reached from inside. What a room does to a machine's link is nothing to them.

AWS documents the API; the data channel is as the plugin's and the agent's published sources have it.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Callable, Mapping
from urllib.parse import urlsplit

from moto.core import DEFAULT_ACCOUNT_ID
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve

from machine_room import authority
from machine_room.events import Events
from machine_room.faults import Faults
from machine_room.identity import Keys, Principal, Refused
from machine_room.instances import Instances
from machine_room.network import in_namespace
from machine_room.session_channel import Channel

ACTIONS = ("StartSession", "ResumeSession", "TerminateSession")
_DOCUMENT = "AWS-StartSSHSession"
_HELD_OPEN = (
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenDataChannel",
)
"""What a machine's agent does to be reachable."""
_PATH = "/v1/data-channel/"


@dataclass
class Session:
    """One session.

    Attributes:
        owner: who started it.
        token: opens its data channel, once; each time that it is resumed there is a new one.
    """

    id: str
    machine: str
    region: str
    owner: Principal
    token: str
    channel: Channel

    @property
    def arn(self) -> str:
        return f"arn:aws:ssm:{self.region}:{DEFAULT_ACCOUNT_ID}:session/{self.id}"


class SessionManager:
    """Plays it for the machines of a room.

    Attributes:
        sessions: those that are not over, by ID.
        dial: connects to a port of a machine, as its agent does.
    """

    def __init__(self, host: str, keys: Keys, instances: Instances, events: Events, faults: Faults) -> None:
        self._keys, self._instances, self._events, self._faults = keys, instances, events, faults
        self.sessions: dict[str, Session] = {}
        self.dial: Callable[[str, int], socket.socket] = self._dial
        self._server = serve(self._serve, host, 0, process_request=self._admit, compression=None, ping_interval=None)
        self._address = f"ws://{host}:{self._server.socket.getsockname()[1]}"
        threading.Thread(target=self._server.serve_forever, name="sessions", daemon=True).start()

    def close(self) -> None:
        for session in list(self.sessions.values()):
            session.channel.end()
        self._server.shutdown()

    # -- the API -----------------------------------------------------------------------------------------------------

    def answer(self, action: str, environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
        """What an API call brings.

        Raises:
            Refused: AWS would refuse it.
        """
        try:
            return self._answer(action, environ, body)
        except Refused as refused:
            self._events.add("session-refused", action, code=refused.code, text=str(refused))
            raise

    def _answer(self, action: str, environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
        headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
        headers |= {"Content-Type": environ.get("CONTENT_TYPE", ""), "Content-Length": str(len(body))}
        url = f"http://{environ['HTTP_HOST']}{environ['PATH_INFO']}"
        who = self._keys.verify(environ["REQUEST_METHOD"], url, headers, body, "ssm")
        region = environ["HTTP_AUTHORIZATION"].partition("Credential=")[2].split("/")[2]
        request = json.loads(body)
        if action == "StartSession":
            return self._start(who, region, request)
        session = self.sessions.get(request["SessionId"])
        if session is None:
            raise Refused("DoesNotExistException", f"Session {request['SessionId']} does not exist")
        self._judge(who, f"ssm:{action}", session.arn, region, {_OWNER: session.owner.user_id})
        if action == "ResumeSession":
            session.token = secrets.token_urlsafe(64)
            self._events.add("session-resumed", session.machine, session=session.id)
            return self._said(session)
        session.channel.end()
        return {"SessionId": session.id}

    def _start(self, who: Principal, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        machine, document = str(request["Target"]), str(request.get("DocumentName"))
        tags = self._tags(machine)
        self._judge(
            who, "ssm:StartSession", f"arn:aws:ec2:{region}:{DEFAULT_ACCOUNT_ID}:instance/{machine}", region, tags
        )
        checked = {"ssm:sessiondocumentaccesscheck": "true"}
        self._judge(who, "ssm:StartSession", f"arn:aws:ssm:{region}::document/{document}", region, checked)
        if document != _DOCUMENT:
            raise Refused("InvalidDocument", f"Document with name {document} does not exist.")
        if not self._connected(machine, region):
            raise Refused("TargetNotConnected", f"{machine} is not connected.")
        (port,) = request["Parameters"]["portNumber"]
        # It begins with the name of the user, or of the role's session.
        id = f"{who.user or who.user_id.partition(':')[2]}-{secrets.token_hex(9)[:17]}"
        channel = Channel(id, port, lambda: self.dial(machine, int(port)), lambda: self._over(id))
        session = self.sessions[id] = Session(id, machine, region, who, secrets.token_urlsafe(64), channel)
        self._events.add("session-started", machine, session=id, user=who.user or who.role)
        return self._said(session)

    def _said(self, session: Session) -> dict[str, Any]:
        url = f"{self._address}{_PATH}{session.id}?role=publish_subscribe"
        return {"SessionId": session.id, "StreamUrl": url, "TokenValue": session.token}

    def _over(self, id: str) -> None:
        session = self.sessions.pop(id)
        self._events.add("session-ended", session.machine, session=id)

    def _tags(self, machine: str) -> dict[str, str]:
        if machine not in self._instances.machines:
            return {}
        tags = self._instances.find(machine).get_tags()
        return {f"aws:resourcetag/{tag['key']}".lower(): tag["value"] for tag in tags}

    def _connected(self, machine: str, region: str) -> bool:
        """Whether the machine's agent would be: it is up, and its role allows it."""
        if machine not in self._instances.machines or machine in self._faults.unconnected:
            return False
        instance = self._instances.find(machine)
        held = self._instances.credentials(instance)
        context = {"aws:requestedregion": region}
        return (
            instance.state == "running"
            and held is not None
            and not any(authority.judge(held, action, "*", context) for action in _HELD_OPEN)
        )

    def _judge(self, who: Principal, action: str, resource: str, region: str, more: Mapping[str, str]) -> None:
        context = {"aws:userid": who.user_id, "aws:requestedregion": region, **more}
        if who.user:
            context["aws:username"] = who.user
        if denied := authority.judge(who, action, resource, context):
            raise Refused("AccessDeniedException", str(denied))

    def _dial(self, machine: str, port: int) -> socket.socket:
        namespace = self._instances.machines[machine].link.namespace
        return in_namespace(namespace, lambda: socket.create_connection(("127.0.0.1", port)))

    # -- data channels -----------------------------------------------------------------------------------------------

    def _admit(self, websocket: ServerConnection, request: Request) -> Response | None:
        """A signature is asked for, as of late by AWS: https://github.com/aws/session-manager-plugin, 1.2.764.0."""
        headers = dict(request.headers.raw_items())
        url = f"http://{headers.get('Host')}{request.path}"
        try:
            who = self._keys.verify("GET", url, headers, b"", "ssmmessages")
            session = self._session(request.path)
            self._judge(who, "ssmmessages:OpenDataChannel", session.arn, session.region, {})
        except Refused as refused:
            self._events.add("session-refused", "OpenDataChannel", code=refused.code, text=str(refused))
            return websocket.respond(HTTPStatus.FORBIDDEN, f"{refused.code}: {refused}\n")
        return None

    def _session(self, path: str) -> Session:
        session = self.sessions.get(urlsplit(path).path.removeprefix(_PATH))
        if session is None:
            raise Refused("DoesNotExistException", f"There is no session at {path}")
        return session

    def _serve(self, websocket: ServerConnection) -> None:
        assert websocket.request is not None
        session = self._session(websocket.request.path)
        opening = json.loads(websocket.recv())
        token, session.token = session.token, ""
        if not token or not secrets.compare_digest(opening["TokenValue"], token):
            self._events.add("session-refused", "OpenDataChannel", code="token")
            return
        self._events.add("session-opened", session.machine, session=session.id, client=opening["ClientVersion"])
        session.channel.serve(websocket)


_OWNER = "ssm:resourcetag/aws:ssmmessages:session-id"
"""A tag that AWS gives each session: the ID of who started it."""
