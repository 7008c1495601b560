"""Lambda: what the stack deployed, run from its zip, behind an address that checks signatures."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Callable, Mapping

import pytest
from moto.awslambda.models import FunctionUrlConfig, LambdaFunction, lambda_backends
from moto.core import DEFAULT_ACCOUNT_ID
from moto.scheduler.models import scheduler_backends

from machine_room import authority
from machine_room.cloud_clock import CloudClock
from machine_room.events import Events
from machine_room.identity import Keys, Principal, Refused

CONCURRENCY = 2
"""Runs of one function at the same time."""
_WORKER = Path(__file__).with_name("lambda_worker.py")


class FunctionFailed(Exception):
    """A handler raised, or took too long."""


class Functions:
    """All functions of the account.

    Args:
        host: where their addresses are.
        environment: what a run gets besides its role's keys and its own variables.
    """

    def __init__(
        self, host: str, folder: Path, keys: Keys, events: Events, clock: CloudClock, environment: Mapping[str, str]
    ) -> None:
        self._clock = clock
        self._host, self._folder, self._keys, self._events = host, folder, keys, events
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._running: dict[str, _Function] = {}
        self._servers: dict[str, ThreadingHTTPServer] = {}
        self.facts: dict[str, Any] = {}
        """What the controller's `facts.json` says instead: shorter waits than a plan has."""
        self.down = threading.Event()
        """Set: the controller's address does not answer."""
        self._patches = pytest.MonkeyPatch()
        self._install()

    def _install(self) -> None:
        mine, known = self, FunctionUrlConfig.__init__

        def init(made: FunctionUrlConfig, function: LambdaFunction, config: dict[str, Any]) -> None:
            known(made, function, config)
            made.url = mine._listen(function.function_name, function.region)

        self._patches.setattr(FunctionUrlConfig, "__init__", init)

    def close(self) -> None:
        self._patches.undo()
        for server in self._servers.values():
            server.shutdown()
            server.server_close()
        for function in self._running.values():
            function.close()

    def url(self, name: str) -> str:
        return f"http://{self._host}:{self._servers[name].server_address[1]}/"

    def _listen(self, name: str, region: str) -> str:
        with self._lock:
            if name not in self._servers:
                server = ThreadingHTTPServer((self._host, 0), _handler(self, name, region))
                server.daemon_threads = True
                threading.Thread(target=server.serve_forever, args=(0.1,), name=f"url-{name}", daemon=True).start()
                self._servers[name] = server
        return self.url(name)

    def invoke(self, name: str, event: Any, region: str = "us-east-1") -> Any:
        """The handler's answer to an event.

        Raises:
            FunctionFailed: it raised, or ran out of its time.
        """
        stored = lambda_backends[DEFAULT_ACCOUNT_ID][region].get_function(name)
        code = stored.code_bytes
        said = json.dumps([stored.environment_vars, self.facts], sort_keys=True)
        digest = hashlib.sha256(code + said.encode()).hexdigest()[:16]
        with self._lock:
            function = self._running.get(name)
            if function is None or function.digest != digest:
                if function is not None:
                    function.close()
                environment = {**self._environment, **stored.environment_vars, "AWS_REGION": region}
                environment["AWS_DEFAULT_REGION"] = region
                function = _Function(stored, code, digest, self._folder / name, environment, self._keys)
                function.amend(self.facts)
                self._running[name] = function
        return function.run(event, self._clock.ahead)

    def called(self, name: str, region: str, request: Request) -> tuple[int, str]:
        """What the function's address answers: status and body."""
        try:
            if self.down.is_set():
                self._events.add("unanswered", request.source)
                return 502, '{"Message": "Bad Gateway"}'
            principal = self._keys.verify(request.method, request.url, request.headers, request.body, "lambda")
            self._check(principal, name, region)
        except Refused as refused:
            self._events.add("refused", request.source, code=refused.code)
            return 403, json.dumps({"message": str(refused)})
        event = _event(request, principal)
        try:
            kind = json.loads(request.body).get("kind", "")
        except (ValueError, AttributeError):
            kind = ""
        began = time.monotonic()
        try:
            answer = self.invoke(name, event, region)
        except FunctionFailed as error:
            self._events.add("controller-failed", principal.user_id, request=kind, error=str(error))
            return 502, '{"Message": "Internal Server Error"}'
        body = answer.get("body", "")
        self._events.add(
            "controller", principal.user_id, request=kind, status=answer["statusCode"],
            ms=int(1000 * (time.monotonic() - began)), body=request.body.decode(errors="replace"), answer=body,
        )  # fmt: skip
        return int(answer["statusCode"]), body

    def _check(self, principal: Principal, name: str, region: str) -> None:
        resource = f"arn:aws:lambda:{region}:{DEFAULT_ACCOUNT_ID}:function:{name}"
        context = {
            "aws:userid": principal.user_id,
            "lambda:functionurlauthtype": "AWS_IAM",
            "lambda:invokedviafunctionurl": "true",
            "aws:requestedregion": region,
        }
        for action in ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction"):
            if denied := authority.judge(principal, action, resource, context):
                raise Refused("AccessDeniedException", str(denied))

    def tick(self) -> list[Any]:
        """All schedules, once, now; their functions' answers."""
        answers = []
        for region, backend in list(scheduler_backends[DEFAULT_ACCOUNT_ID].items()):
            groups = list(backend.schedule_groups.values())
            for schedule in [one for group in groups for one in group.schedules.values()]:
                if schedule.state != "ENABLED":
                    continue
                name = schedule.target["Arn"].rpartition(":")[2]
                self._events.add("tick", name)
                try:
                    answers.append(self.invoke(name, json.loads(schedule.target.get("Input") or "{}"), region))
                except FunctionFailed as error:
                    self._events.add("tick-failed", name, error=str(error))
        return answers


class Request:
    """An HTTP request to a function's address."""

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: bytes, source: str) -> None:
        self.method, self.url, self.headers, self.body, self.source = method, url, headers, body, source


class _Function:
    """One version of a function, and the processes that are warm."""

    def __init__(
        self, stored: LambdaFunction, code: bytes, digest: str, folder: Path, environment: dict[str, str], keys: Keys
    ) -> None:
        self.digest = digest
        self._timeout = float(stored.timeout)
        self._handler, self._role, self._keys = stored.handler, stored.role, keys
        self._name, self._arn = stored.function_name, stored.function_arn
        self._environment = environment
        self._folder = folder / digest
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        zipfile.ZipFile(io.BytesIO(code)).extractall(self._folder)
        self._log = (folder / "log").open("ab")
        self._slots = threading.Semaphore(CONCURRENCY)
        self._warm: list[_Process] = []
        self._lock = threading.Lock()
        self._closed = False

    def amend(self, facts: Mapping[str, Any]) -> None:
        path = self._folder / "facts.json"
        if facts and path.exists():
            path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))

    def run(self, event: Any, ahead: float) -> Any:
        with self._slots:
            with self._lock:
                process = self._warm.pop() if self._warm else None
            if process is None:
                # Lambda gives each environment keys of the function's role.
                role = self._keys.role(self._role, self._name)
                command = [sys.executable, "-I", str(_WORKER), str(self._folder), self._handler, self._arn]
                process = _Process(command, {**self._environment, **role.environment}, self._log)
            answer = process.ask({"event": event, "ahead": ahead}, self._timeout)
            with self._lock:
                keep = answer is not None and not self._closed
                if keep:
                    self._warm.append(process)
            if not keep:
                process.close()
        if answer is None:
            raise FunctionFailed(f"{self._name} has died or took more than {self._timeout:.0f} s: see its log")
        if "error" in answer:
            raise FunctionFailed(f"{answer['error']['errorType']}: {answer['error']['errorMessage']}")
        return answer["answer"]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            warm, self._warm = self._warm, []
        for process in warm:
            process.close()


class _Process:
    def __init__(self, command: list[str], environment: dict[str, str], log: Any) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, asked: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=seconds)
        except (OSError, queue.Empty):
            return None
        found: dict[str, Any] | None = json.loads(line) if line else None
        return found

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _event(request: Request, principal: Principal) -> dict[str, Any]:
    """Payload format 2.0: https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html"""
    now = time.time()
    headers = {name.lower(): value for name, value in request.headers.items()}
    host = headers.get("host", "")
    try:
        body, encoded = request.body.decode(), False
    except UnicodeDecodeError:
        body, encoded = base64.b64encode(request.body).decode(), True
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": DEFAULT_ACCOUNT_ID,
            "apiId": "room",
            "authentication": None,
            "authorizer": {
                "iam": {
                    "accessKey": principal.access_key,
                    "accountId": DEFAULT_ACCOUNT_ID,
                    "callerId": principal.user_id,
                    "cognitoIdentity": None,
                    "principalOrgId": None,
                    "userArn": principal.arn,
                    "userId": principal.user_id,
                }
            },
            "domainName": host,
            "domainPrefix": "room",
            "http": {
                "method": request.method,
                "path": "/",
                "protocol": "HTTP/1.1",
                "sourceIp": request.source,
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(1000 * now),
        },
        "body": body,
        "isBase64Encoded": encoded,
    }


def _handler(functions: Functions, name: str, region: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = f"http://{self.headers.get('Host', '')}{self.path}"
            request = Request(self.command, url, dict(self.headers.items()), body, self.client_address[0])
            status, text = functions.called(name, region, request)
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            """To nobody."""

    return Handler


class Clock:
    """The schedule that wakes functions, played every so many seconds while it is on."""

    def __init__(self, tick: Callable[[], Any], seconds: float) -> None:
        self._tick = tick
        self.seconds = seconds
        self._changed = threading.Condition()
        self._on = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="schedule", daemon=True)
        self._thread.start()

    def start(self) -> None:
        with self._changed:
            self._on = True
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._on = False
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(70)

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._on:
                    self._changed.wait()
                    continue
                if not self._changed.wait(self.seconds) and self._on and not self._closed:
                    self._changed.release()
                    try:
                        self._tick()
                    finally:
                        self._changed.acquire()


def environment(endpoint: str) -> dict[str, str]:
    """What a function's process gets of this machine's."""
    return {"AWS_ENDPOINT_URL": endpoint, "PATH": os.environ["PATH"], "AWS_CONFIG_FILE": os.devnull}
