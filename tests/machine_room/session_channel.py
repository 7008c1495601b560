"""The machine's side of a session: what the agent of Systems Manager does with one, from the handshake to its end."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from typing import Callable

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from machine_room import session_frame
from machine_room.session_frame import Frame

_RESEND_AFTER = 0.2
"""Seconds without an acknowledgement."""
_RESEND_EVERY = 0.1
_AGENT_VERSION = "3.3.3572.0"


class Channel:
    """Carries one connection to a machine's port. It outlives the websocket, which may come again.

    Args:
        session: its ID.
        dial: connects to the port, from inside the machine.
        on_end: called once, when it is over for good.
    """

    def __init__(self, session: str, port: str, dial: Callable[[], socket.socket], on_end: Callable[[], None]) -> None:
        self._session, self._port, self._dial, self._on_end = session, port, dial, on_end
        self._lock = threading.RLock()
        self._active = threading.Condition(self._lock)
        self._socket: ServerConnection | None = None
        self._near: socket.socket | None = None
        self._said = self._heard = 0  # numbers of the next frames
        self._unconfirmed: dict[int, tuple[Frame, float]] = {}
        self._early: dict[int, Frame] = {}
        self._ended = False

    def serve(self, websocket: ServerConnection) -> None:
        """Until the websocket is gone. A later one takes the place of an earlier one."""
        with self._lock:
            before, self._socket = self._socket, websocket
            self._active.notify_all()
            if before is None and not self._said:
                threading.Thread(target=self._resend, name=f"resend-{self._session}", daemon=True).start()
                self._say(session_frame.HANDSHAKE_REQUEST, json.dumps(self._handshake()).encode())
        if before is not None:
            with contextlib.suppress(OSError):
                before.socket.shutdown(socket.SHUT_RDWR)
        try:
            for data in websocket:
                assert isinstance(data, bytes), data
                self._take(session_frame.parse(data))
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                if self._socket is websocket:
                    self._socket = None

    def drop(self) -> None:
        """Cuts the websocket without a word."""
        with self._lock:
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.socket.shutdown(socket.SHUT_RDWR)

    def end(self, reason: str = "") -> None:
        """It is over for good, and the plugin is told why."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._active.notify_all()
            said = {
                "MessageType": session_frame.CLOSED,
                "SessionId": self._session,
                "SchemaVersion": 1,
                "Output": reason,
            }
            self._send(Frame(session_frame.CLOSED, 0, json.dumps(said).encode()))
            if self._near is not None:
                with contextlib.suppress(OSError):
                    self._near.shutdown(socket.SHUT_RDWR)
        self._on_end()

    def _handshake(self) -> object:
        action = {"SessionType": "Port", "Properties": {"portNumber": self._port}}
        actions = [{"ActionType": "SessionType", "ActionParameters": action}]
        return {"AgentVersion": _AGENT_VERSION, "RequestedClientActions": actions}

    # -- from the plugin ---------------------------------------------------------------------------------------------

    def _take(self, frame: Frame) -> None:
        with self._lock:
            if frame.kind == session_frame.ACKNOWLEDGE:
                self._unconfirmed.pop(frame.json()["AcknowledgedMessageSequenceNumber"], None)
                return
            assert frame.kind == session_frame.INPUT, frame
            self._send(session_frame.acknowledgement(frame))
            if frame.number >= self._heard:  # else it came again: the acknowledgement was lost
                self._early[frame.number] = frame
            while self._heard in self._early:
                self._process(self._early.pop(self._heard))
                self._heard += 1

    def _process(self, frame: Frame) -> None:
        if frame.payload_type == session_frame.HANDSHAKE_RESPONSE:
            said = frame.json()
            assert not said["Errors"] and [action["ActionStatus"] for action in said["ProcessedClientActions"]] == [
                1
            ], said
            self._begin()
        elif frame.payload_type == session_frame.DATA and self._near is not None:
            with contextlib.suppress(OSError):  # the pump notices too
                self._near.sendall(frame.payload)

    def _begin(self) -> None:
        try:
            self._near = self._dial()
        except OSError as error:
            self.end(f"Unable to connect to specified port: {error}")
            return
        self._say(session_frame.HANDSHAKE_COMPLETE, b'{"HandshakeTimeToComplete": 1000000, "CustomerMessage": ""}')
        threading.Thread(target=self._pump, name=f"session-{self._session}", daemon=True).start()

    # -- to the plugin -----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        assert self._near is not None
        with self._near as near, contextlib.suppress(OSError):
            while data := near.recv(session_frame.LARGEST):
                with self._lock:
                    while self._socket is None and not self._ended:  # nobody is there: it does not read on
                        self._active.wait()
                    self._say(session_frame.DATA, data)
                time.sleep(0.001)  # as the agent does, and the plugin the other way: hence a megabyte a second
        self.end()

    def _say(self, payload_type: int, payload: bytes) -> None:
        frame = Frame(session_frame.OUTPUT, self._said, payload, payload_type)
        self._said += 1
        self._unconfirmed[frame.number] = (frame, time.monotonic())
        self._send(frame)

    def _send(self, frame: Frame) -> None:
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):  # it is sent again
                self._socket.send(frame.packed())

    def _resend(self) -> None:
        """The oldest frame that was not acknowledged, again and again."""
        with self._lock:
            while not self._ended:
                first = next(iter(self._unconfirmed.values()), None)
                if first is not None and time.monotonic() - first[1] > _RESEND_AFTER:
                    self._send(first[0])
                self._active.wait(_RESEND_EVERY)
