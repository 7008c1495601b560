"""First program on a machine, carried whole in its user data: says hello, fetches the agent by its digest, starts it.

Standard library only, Python 3.9 or newer. What fails here is reported to the controller, and the machine powers off.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import http.client
import io
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote, urlsplit

METADATA = "http://169.254.169.254"
RUN = Path("/run/cloudfn")
AGENTS = Path("/opt/cloudfn/agent")
MOST_STARTS = 5  # of the agent, before the machine is given up
PATIENCE = 120.0  # seconds that credentials and controller may take to be there


class Refused(Exception):
    """An answer that says no; `status` is HTTP's, `date` the other side's."""

    def __init__(self, status: int, text: str, date: str | None = None) -> None:
        super().__init__(f"{status}: {text[:500]}")
        self.status = status
        self.date = date
        # Rights, roles and lists of machines take a while until everybody knows them.
        self.may_pass = status >= 500 or status in (401, 403, 404, 408, 429) or "UnknownMachine" in text


def uptime() -> float:
    """Seconds since the kernel began; no clock that is set can move it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _birth() -> float:
    """When this machine began: in a container that is when its first process did."""
    if not Path("/run/systemd/container").exists():
        return 0.0
    ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    return ticks / os.sysconf("SC_CLK_TCK")


def fetch(
    method: str, url: str, body: bytes = b"", headers: dict[str, str] | None = None, timeout: float = 20.0
) -> bytes:
    """An answer's body. Raises OSError, `http.client.HTTPException` or `Refused`."""
    at = urlsplit(url)
    host, port = at.hostname or "", at.port
    connection: http.client.HTTPConnection
    if at.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=ssl.create_default_context())
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, at.path + (f"?{at.query}" if at.query else ""), body or None, headers or {})
        answer = connection.getresponse()
        data = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise Refused(answer.status, data.decode("utf-8", "replace"), answer.headers.get("Date"))
    return data


class Metadata:
    """The instance metadata service, version 2; and from it the machine's credentials, renewed before they expire."""

    def __init__(self, url: str = METADATA) -> None:
        self._url = url
        self._token = ""
        self._keys: dict[str, Any] = {}
        self._until = 0.0
        self._lock = threading.Lock()

    def get(self, path: str) -> str:
        """Raises `Refused` (404: there is no such thing) and OSError."""
        for _ in range(2):
            if not self._token:
                ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}
                self._token = fetch("PUT", f"{self._url}/latest/api/token", b"", ttl, 5.0).decode()
            token = {"X-aws-ec2-metadata-token": self._token}
            try:
                return fetch("GET", f"{self._url}/latest/{path}", b"", token, 5.0).decode()
            except Refused as error:
                if error.status != 401:
                    raise
                self._token = ""
        raise Refused(401, "the metadata service takes no token")

    def credentials(self) -> dict[str, Any]:
        """`AccessKeyId`, `SecretAccessKey`, `Token`. Raises as `get`."""
        with self._lock:
            if time.monotonic() >= self._until:
                role = self.get("meta-data/iam/security-credentials/").split()[0]
                self._keys = json.loads(self.get(f"meta-data/iam/security-credentials/{role}"))
                self._until = time.monotonic() + _lifetime(self._keys.get("Expiration", ""))
            return self._keys

    def forget_credentials(self) -> None:
        """They were refused: get new ones next time."""
        with self._lock:
            self._until = 0.0


def _lifetime(expiration: str) -> float:
    """Seconds for which credentials are kept here: a third of what they have left, five minutes at most."""
    end = datetime.datetime.strptime(expiration, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    return min(300.0, max(0.0, end.timestamp() - time.time()) / 3)


def signed(
    method: str, url: str, body: bytes, keys: dict[str, Any], region: str, service: str, now: float
) -> dict[str, str]:
    """Headers of a request with AWS's signature, version 4.

    Args:
        url: with a path that is quoted already, and no query.
        now: epoch seconds.
    """
    at = urlsplit(url)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    digest = hashlib.sha256(body).hexdigest()
    headers = {"host": at.netloc, "x-amz-content-sha256": digest, "x-amz-date": stamp}
    if keys.get("Token"):
        headers["x-amz-security-token"] = keys["Token"]
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    request = "\n".join((method, at.path or "/", "", lines, names, digest))
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{keys['SecretAccessKey']}".encode()
    for part in (*scope.split("/"), text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys['AccessKeyId']}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    )
    return headers


class Cloud:
    """Controller and bucket, asked with the machine's own credentials.

    Args:
        config: of the user data: `controller_url`, `region`, `bucket`; `endpoints` where these are not AWS's own.
    """

    def __init__(self, config: dict[str, Any], metadata: Metadata) -> None:
        self._config = config
        self._metadata = metadata
        self._skew = 0.0

    def ask(self, kind: str, timeout: float = 20.0, **fields: Any) -> dict[str, Any]:
        """The controller's answer. Raises `Refused`, also for an answer that is not ok, and OSError."""
        body = json.dumps({"kind": kind, **fields}).encode()
        url = self._config["controller_url"].rstrip("/") + "/"
        answer: dict[str, Any] = json.loads(self._send("POST", url, body, "lambda", timeout))
        if not answer.get("ok"):
            error = answer.get("error", {})
            raise Refused(400, f"the controller refuses {kind}: {error.get('type')}: {error.get('message')}")
        return answer

    def put(self, key: str, data: bytes) -> None:
        """Write an object into the bucket. Raises as `ask`."""
        bucket, region = self._config["bucket"], self._config["region"]
        end = self._config.get("endpoints", {}).get("s3", "").rstrip("/")
        base = f"{end}/{bucket}" if end else f"https://{bucket}.s3.{region}.amazonaws.com"
        self._send("PUT", f"{base}/{quote(key)}", data, "s3", 20.0)

    def _send(self, method: str, url: str, body: bytes, service: str, timeout: float) -> bytes:
        for last in (False, True):
            keys = self._metadata.credentials()
            headers = signed(method, url, body, keys, self._config["region"], service, time.time() + self._skew)
            headers["content-type"] = "application/json"
            try:
                return fetch(method, url, body, headers, timeout)
            except Refused as error:
                if last or error.status not in (400, 401, 403):
                    raise
                self._metadata.forget_credentials()
                self._skew = _skew(error.date)  # a clock that is wrong makes a wrong signature
        raise AssertionError


def _skew(date: str | None) -> float:
    if not date:
        return 0.0
    then = datetime.datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=datetime.timezone.utc)
    apart = then.timestamp() - time.time()
    return apart if abs(apart) > 60 else 0.0


def persist(work: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Try until it works, with pauses that grow; raises the last error after `seconds`, and a plain no at once."""
    end, pause = time.monotonic() + seconds, 0.2
    while True:
        try:
            return work()
        except (OSError, http.client.HTTPException, Refused, ValueError) as error:
            if isinstance(error, Refused) and not error.may_pass:
                raise
            if time.monotonic() > end:
                raise
        time.sleep(pause)
        pause = min(pause * 1.6, 5.0)


class Boot:
    """Brings the machine from its user data to a running agent, and notes how long each stage took."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.metadata = Metadata(config.get("endpoints", {}).get("metadata", METADATA))
        self.cloud = Cloud(config, self.metadata)
        self.stages: dict[str, float] = {"boot": round(uptime() - _birth(), 3)}
        self.stage = "identity"
        self._since = uptime()

    def enter(self, stage: str) -> None:
        now = uptime()
        self.stages[self.stage] = round(now - self._since, 3)
        self.stage, self._since = stage, now

    def run(self) -> None:
        """Ends as the agent."""
        sha256 = self.config["agent_sha256"]
        folder = AGENTS / sha256
        document = persist(lambda: self.metadata.get("dynamic/instance-identity/document"))
        signature = persist(lambda: self.metadata.get("dynamic/instance-identity/rsa2048"))
        self.enter("hello")
        hello = persist(
            lambda: self.cloud.ask(
                "hello",
                identity_document=document,
                signature=signature,
                boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
                agent_sha256="" if folder.exists() else sha256,
            )
        )
        key = (RUN / "ssh_host_ed25519_key.pub").read_bytes()
        persist(lambda: self.cloud.put(f"machines/{hello['principal']}/host_key", key))
        self.enter("fetch")
        if not folder.exists():
            install(persist(lambda: fetch("GET", hello["agent"]["url"], timeout=120.0)), sha256, folder)
        self.enter("agent")
        given = {"config": self.config, "hello": hello, "stages": self.stages, "since": self._since}
        pipe = os.memfd_create("cloudfn", 0)  # the environment's key is in it: never in a file, an argument, a variable
        os.write(pipe, json.dumps(given).encode())
        os.lseek(pipe, 0, 0)
        os.dup2(pipe, 0)
        code = "import sys; sys.path[:0] = sys.argv[1:]; from cloudfn_agent.machine_main import main; main()"
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", code, f"{folder}/runtime", f"{folder}/host"])


def install(archive: bytes, sha256: str, folder: Path) -> None:
    """Unpack the agent, if it is the one that the stack has named. Raises ValueError."""
    found = hashlib.sha256(archive).hexdigest()
    if found != sha256:
        raise ValueError(f"the agent that was fetched has the SHA-256 {found}, and the stack names {sha256}")
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(aside)
    aside.rename(folder)


def give_up(boot: Boot | None, text: str) -> None:
    """Say what went wrong to whoever waits for this machine, and power off."""
    print(text, file=sys.stderr, flush=True)
    if boot:
        try:
            persist(lambda: boot.cloud.ask("report", stage=boot.stage, text=text[-4000:]), 30.0)
        except Exception as error:  # noqa: BLE001 - the machine goes off whatever it is
            print(f"it could not be reported either: {error}", file=sys.stderr, flush=True)
    subprocess.run(["systemctl", "poweroff"], check=False)


def main() -> None:
    boot = None
    try:
        boot = Boot(json.loads(Path(sys.argv[1]).read_text()))
        if len(sys.argv) > 2:  # the user data failed before it came to start us; that is its log
            boot.stage = "user data"
            give_up(boot, Path(sys.argv[2]).read_text(errors="replace"))
            return
        starts = RUN / "starts"
        number = len(starts.read_text()) if starts.exists() else 0
        starts.write_text("x" * (number + 1))
        if number >= MOST_STARTS:
            boot.stage = "agent"
            log = subprocess.run(["journalctl", "-u", "cloudfn-agent", "-n", "60", "-o", "cat"], capture_output=True)
            raise RuntimeError(f"the agent ended {number} times:\n{log.stdout.decode('utf-8', 'replace')}")
        boot.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for this machine
        detail = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-6:])
        give_up(boot, re.sub(r"https?://\S+\?\S+", "(a signed address)", detail))
        sys.exit(1)


if __name__ == "__main__":
    main()
