"""Images for the functions of a machine's clients, made by a program that the agent starts and does not know.

`GET /build` with an upgrade. The client sends one line of JSON:

    {"image": ImageSpec, "python": "3.11", "payloads": {digest: sha256}, "secrets": {"0": {name: value}},
     "trees": {digest: {path: {"sha256": ..., "executable": false}}}}

where every `sha256` is a blob that it has uploaded before and `python` is its own minor version. The agent answers
lines of JSON: any number of `{"report": text}`, at last `{"runtime": Runtime}` or
`{"error": {"type", "message", "hint"}}`.
The program gets the same line on its standard input, with `path` in place of each `sha256`, and writes those lines.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from typing import Any, Mapping, Sequence

from cloudfn.door import upgraded
from cloudfn.exception import InvalidError
from cloudfn_agent.blobs import Blobs
from cloudfn_agent.environment import base_environment

_MAX_REQUEST = 16 << 20
_MAX_LINE = 1 << 20
_INTERNAL = "InternalFailure"


class Builds:
    """One build at a time: the steps of an image are other people's code, and all builds share one user.

    Args:
        command: the program, found by its absolute path.

    Attributes:
        busy: builds under way, or waiting for their turn.
    """

    def __init__(self, command: Sequence[str], blobs: Blobs) -> None:
        self._command = command
        self._blobs = blobs
        self._turn = asyncio.Lock()
        self.busy = 0

    async def serve(self, sock: socket.socket, _parameters: Mapping[str, str]) -> None:
        """Take over a connection that asked for `/build`."""
        loop = asyncio.get_running_loop()
        with sock:
            await loop.sock_sendall(sock, upgraded())
            try:
                request = self._located(json.loads(await _read_line(sock)))
            except (ValueError, KeyError, TypeError, AttributeError, InvalidError) as error:
                await _say(sock, _error("InvalidError", f"the agent cannot read what to build: {error}"))
                return
            if self._turn.locked():
                await _say(sock, {"report": "image: waiting for another build on this machine"})
            self.busy += 1
            try:
                async with self._turn:
                    await self._run(sock, request)
            finally:
                self.busy -= 1

    def _located(self, request: dict[str, Any]) -> dict[str, Any]:
        """The request with paths in place of digests. Raises `InvalidError` for a blob that is not here."""

        def find(sha256: str) -> str:
            path = self._blobs.path(sha256)
            if not path.exists():
                raise InvalidError(f"the blob {sha256} was not uploaded")
            return str(path)

        return {
            "image": dict(request["image"]),
            "python": str(request.get("python", "")),
            "secrets": dict(request.get("secrets", {})),
            "payloads": {digest: find(sha256) for digest, sha256 in request.get("payloads", {}).items()},
            "trees": {
                digest: {name: {**file, "path": find(file["sha256"])} for name, file in tree.items()}
                for digest, tree in request.get("trees", {}).items()
            },
        }

    async def _run(self, sock: socket.socket, request: dict[str, Any]) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=base_environment(),
                start_new_session=True,
                limit=_MAX_LINE,
            )
        except OSError as error:
            await _say(sock, _error(_INTERNAL, f"the builder cannot be started: {error}"))
            return
        try:
            await self._relay(sock, process, json.dumps(request).encode() + b"\n")
        finally:  # done, or nobody waits for it any more
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            await process.wait()

    async def _relay(self, sock: socket.socket, process: asyncio.subprocess.Process, request: bytes) -> None:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        said = asyncio.ensure_future(process.stderr.read(_MAX_LINE))
        try:
            process.stdin.write(request)
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):  # its end, and why, comes below
            pass
        final = False
        async for line in process.stdout:
            message = json.loads(line)
            final = "report" not in message
            await _say(sock, message)
        if not final:
            words = (await said).decode("utf-8", "replace")[-2000:]
            await _say(sock, _error(_INTERNAL, f"the builder ended without a result: {words}"))
        else:
            said.cancel()


async def _read_line(sock: socket.socket) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    while not data.endswith(b"\n"):
        part = await loop.sock_recv(sock, 65536)
        if not part or len(data) + len(part) > _MAX_REQUEST:
            raise InvalidError("its line has no end")
        data += part
    return data


async def _say(sock: socket.socket, message: dict[str, Any]) -> None:
    await asyncio.get_running_loop().sock_sendall(sock, json.dumps(message).encode() + b"\n")


def _error(kind: str, text: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": text, "hint": ""}}
