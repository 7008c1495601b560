"""How each figure is taken from outside of the process that uses a system."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from typing import Any, Callable

from benchmarks import environment, processes

Values = dict[str, float]
PATIENCE = 240.0  # seconds that one measure of one system may take


class Failed(Exception):
    """A system gave no figure; the message says why."""


class LeftOut(Exception):
    """A system has no such thing to measure."""


def measure(name: str, system: str, package: str, quick: bool) -> Values:
    """One repeat of one measure of one system, in processes of its own."""
    return OUTSIDE[name](system, package, quick) if name in OUTSIDE else inside(name, system, quick)


def inside(name: str, system: str, quick: bool) -> Values:
    """Ask a fresh host process; weigh it before it ends where memory is the question."""
    with tempfile.TemporaryFile("w+") as noise:
        host = start([*HOST, system], noise)
        try:
            out, ended = host.stdout, host.stdin
            assert out and ended
            ended.write(json.dumps({"measure": name, "quick": quick}) + "\n")
            ended.flush()
            reply = json.loads(read_line(host, noise))
            if "left_out" in reply:
                raise LeftOut
            if "error" in reply:
                raise Failed(reply["error"])
            values: Values = reply["values"]
            return {**values, **processes.weigh(processes.descendants())} if name == "memory" else values
        finally:
            finish(host)


def first_result(system: str, package: str, quick: bool) -> Values:
    """From `python script.py` to the line that holds the first result."""
    times = []
    for _ in range(2 if quick else 3):
        with tempfile.TemporaryFile("w+") as noise:
            began = time.perf_counter()
            host = start([*HOST, system, "--first"], noise)
            try:
                if read_line(host, noise).strip() != "41":
                    raise Failed("the first result is wrong")
                times.append(time.perf_counter() - began)
            finally:
                finish(host)
    return {"ms": 1000 * min(times)}


def import_time(system: str, package: str, quick: bool) -> Values:
    """Time of the import statement alone, in a fresh interpreter; for the floor, an interpreter that does nothing."""
    if not package:
        return help_time(system, package, quick)
    code = f"import time; t = time.perf_counter(); import {package}; print(time.perf_counter() - t)"
    command = [str(environment.PYTHON), "-c", code]
    return {"ms": 1000 * min(float(output_of(command)) for _ in range(2 if quick else 5))}


def help_time(system: str, package: str, quick: bool) -> Values:
    """`cloudfn --help`, the whole process; for the floor, an interpreter that does nothing."""
    commands = {
        "floor": [str(environment.PYTHON), "-c", "pass"],
        "cloudfn": [str(environment.VENV / "bin" / "cloudfn"), "--help"],
    }
    if system not in commands:
        raise LeftOut
    times = []
    for _ in range(3 if quick else 5):
        began = time.perf_counter()
        output_of(commands[system])
        times.append(time.perf_counter() - began)
    return {"ms": 1000 * min(times)}


HOST = [str(environment.PYTHON), "-m", "benchmarks.host"]
OUTSIDE: dict[str, Callable[[str, str, bool], Values]] = {
    "cold": first_result,
    "import": import_time,
    "help": help_time,
}


def start(command: list[str], noise: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=environment.ROOT,
        env=environment.variables(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=noise,
        text=True,
    )


def read_line(host: subprocess.Popen[str], noise: Any) -> str:
    """The host's next line. Raises `Failed`, with the end of what it printed, when it ends or hangs instead."""
    from select import select

    assert host.stdout
    ready, _, _ = select([host.stdout], [], [], PATIENCE)
    line = host.stdout.readline() if ready else ""
    if line:
        return line
    noise.seek(0)
    last = " | ".join(noise.read().strip().splitlines()[-3:])
    raise Failed(f"{'ended' if ready else f'no answer in {PATIENCE:.0f} s'}: {last[-500:]}")


def finish(host: subprocess.Popen[str]) -> None:
    """Close its input, which ends it, and see that nothing stays behind to disturb the next system."""
    assert host.stdin and host.stdout
    try:
        host.stdin.close()
    except BrokenPipeError:
        pass
    try:
        host.wait(timeout=60)
    except subprocess.TimeoutExpired:
        print(f"benchmarks: {host.args!r} did not end by itself", flush=True)
        host.kill()
        host.wait()
    host.stdout.close()
    if killed := processes.end_leftovers():
        print(f"benchmarks: {killed} processes outlived {host.args!r} and were killed", flush=True)


def output_of(command: list[str]) -> str:
    done = subprocess.run(command, cwd=environment.ROOT, env=environment.variables(), capture_output=True, text=True)
    if done.returncode:
        raise Failed(" | ".join(done.stderr.strip().splitlines()[-3:])[-500:])
    return done.stdout
