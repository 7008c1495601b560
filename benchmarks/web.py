"""What the gateway costs: requests a second and latency of a trivial endpoint behind `cloudfn serve` and behind plain
uvicorn, both with two worker processes, in turns, in one run. Then the time from an edit to the new answer.

    python -m benchmarks.web [--seconds 5] [--connections 32] [--repeats 5] [--dry]

It writes web.json, and web.md from it, unless `--dry`.

It needs wrk (https://github.com/wg/wrk; on Debian: apt-get install wrk): a client in Python would cost more than what
it measures. All of it shares the machine's cores, the client too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import psutil

from benchmarks import web_page

WORKERS = 2

CODE = """
import cloudfn

app = cloudfn.App("bench-web")
WORD = "world"


def hello():
    return {"hello": WORD}


async def hello_async():
    return {"hello": WORD}


async def bare(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello"})


@app.function(min_containers=2, max_containers=2)
@cloudfn.fastapi_endpoint()
def fastapi():
    return hello()


@app.function(min_containers=2, max_containers=2)
@cloudfn.fastapi_endpoint()
async def fastapi_async():
    return await hello_async()


@app.function(min_containers=2, max_containers=2)
@cloudfn.asgi_app()
def asgi():
    return bare


def plain_fastapi():
    import fastapi

    made = fastapi.FastAPI(openapi_url=None)
    made.get("/")(hello)
    return made


def plain_fastapi_async():
    import fastapi

    made = fastapi.FastAPI(openapi_url=None)
    made.get("/")(hello_async)
    return made
"""
EDITED = """
import cloudfn

app = cloudfn.App("bench-edit")


@app.function()
@cloudfn.fastapi_endpoint()
def edited():
    return {"hello": "world"}
"""
ENDPOINTS = {
    "fastapi": ["bench_web:plain_fastapi", "--factory"],
    "fastapi_async": ["bench_web:plain_fastapi_async", "--factory"],
    "asgi": ["bench_web:bare", "--interface", "asgi3"],
}


class Process:
    """A server that runs in a folder, and all its children."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "CLOUDFN_STATE_DIR": str(folder / "state")},
        )

    def lines(self, count: int) -> list[str]:
        assert self._process.stdout is not None
        return [self._process.stdout.readline() for _ in range(count)]

    def cpu(self) -> float:
        """Seconds of processor time so far, of all its processes."""
        own = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (own, *own.children(recursive=True))]
        return float(sum(t.user + t.system for t in times))

    def own_cpu(self) -> float:
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)

    def end(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def load(url: str, seconds: int, connections: int) -> dict[str, float]:
    """One run of wrk: requests a second and p50, p99 in milliseconds. Raises ValueError where any request failed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if "Non-2xx" in text or "Socket errors" in text or not rate or not float(rate[1]):
        raise ValueError(f"requests to {url} failed:\n{text}")
    found = {"per_second": float(rate[1])}
    for name in ("50", "99"):
        match = re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE)
        assert match, text
        found[f"p{name}_ms"] = float(match[1]) * {"us": 1e-3, "ms": 1.0, "s": 1e3}[match[2]]
    return found


def free_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(url: str, is_right: Callable[[bytes], bool] = bool) -> float:
    """Seconds until an answer is right."""
    began = time.perf_counter()
    while time.perf_counter() - began < 60:
        try:
            with urllib.request.urlopen(url) as answer:
                if is_right(answer.read()):
                    return time.perf_counter() - began
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(url)


def measure(folder: Path, seconds: int, connections: int, repeats: int) -> dict[str, Any]:
    (folder / "state").mkdir()
    program = folder / "bench_web.py"
    program.write_text(CODE)
    served = Process(["cloudfn", "serve", program.name, "--port", "0", "--quiet"], folder)
    uvicorns: list[Process] = []
    try:
        urls = dict(line.strip().split(": ", 1) for line in served.lines(len(ENDPOINTS)))
        targets: dict[str, tuple[str, Process]] = {}
        for name, arguments in ENDPOINTS.items():
            port = free_port()
            command = ["uvicorn", *arguments, "--workers", str(WORKERS), "--port", str(port), "--no-access-log"]
            uvicorns.append(Process(command, folder))
            targets[f"uvicorn {name}"] = (f"http://127.0.0.1:{port}/", uvicorns[-1])
            targets[f"cloudfn {name}"] = (urls[name], served)
        for url, _ in targets.values():
            wait_for(url)
            load(url, 1, connections)
        found: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
        for _ in range(repeats):
            for name, (url, process) in targets.items():
                cpu, own = process.cpu(), process.own_cpu()
                one = load(url, seconds, connections)
                requests = one["per_second"] * seconds
                one["cpu_us"] = (process.cpu() - cpu) / requests * 1e6
                one["gateway_us"] = (process.own_cpu() - own) / requests * 1e6
                found[name].append(one)
    finally:
        for process in (served, *uvicorns):
            process.end()
    return {**_summary(found), "reload_s": _middle(_reloads(folder, repeats))}


def _reloads(folder: Path, repeats: int) -> list[float]:
    """Seconds from an edit to the first answer of the new code, which must import FastAPI in a new worker."""
    program = folder / "bench_edit.py"
    program.write_text(EDITED)
    served = Process(["cloudfn", "serve", program.name, "--port", "0", "--quiet"], folder)
    times = []
    try:
        url = served.lines(1)[0].strip().split(": ", 1)[1]
        wait_for(url)
        for number in range(repeats):
            word = f"number-{number}"
            time.sleep(1)  # as a user would not edit in the midst of a reload
            program.write_text(EDITED.replace("world", word))
            times.append(wait_for(url, lambda body: word.encode() in body))  # noqa: B023 (asked before the next round)
    finally:
        served.end()
    return times


def _summary(found: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    figures = {
        name: {key: _middle([one[key] for one in many]) for key in many[0]} for name, many in sorted(found.items())
    }
    ratios = {
        endpoint: round(
            statistics.median(
                ours["per_second"] / theirs["per_second"]
                for ours, theirs in zip(found[f"cloudfn {endpoint}"], found[f"uvicorn {endpoint}"], strict=True)
            ),
            2,
        )
        for endpoint in ENDPOINTS
    }
    return {"ratio_to_uvicorn": ratios, "figures": figures}


def _middle(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each run of wrk")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dry", action="store_true", help="print the figures and write nothing")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed (on Debian: apt-get install wrk)")
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="cfb-") as scratch:
        result = measure(Path(scratch), given.seconds, given.connections, given.repeats)
    result["machine"] = {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": round(load_before, 1),
    }
    result["versions"] = {name: version(name) for name in ("uvicorn", "fastapi", "uvloop", "httptools")}
    result["given"] = {"connections": given.connections, "seconds": given.seconds, "repeats": given.repeats}
    result["date"] = time.strftime("%Y-%m-%d")
    text = json.dumps(result, indent=2)
    print(text)
    if not given.dry:
        folder = Path(__file__).parent
        (folder / "web.json").write_text(text + "\n")
        (folder / "web.md").write_text(web_page.text(result))


if __name__ == "__main__":
    main()
