"""What workers print arrives live, whole and in order, also when they die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cloudfn
from agent.conftest import Seen
from agent.processes import wait_until
from cloudfn.events import Log
from cloudfn.exception import FunctionTimeoutError, WorkerDiedError


def test_output_is_live(seen: Seen, tmp_path: Path) -> None:
    """Each kind is seen while the function still runs: it waits for us to say so."""
    app = cloudfn.App("live")

    @app.function(serialized=True)
    def speak(folder: str) -> None:
        import ctypes
        import os
        import subprocess
        import sys
        import time
        from pathlib import Path

        def wait(name: str) -> None:
            while not Path(f"{folder}/{name}").exists():
                time.sleep(0.002)

        print("a line")
        wait("line")
        print("part", end="")
        wait("partial")
        print("\r 10%", end="")
        print("\r 20%", end="")
        wait("progress")
        sys.stderr.write("to stderr, flushed")
        sys.stderr.flush()
        wait("stderr")
        os.write(1, b"os.write ")
        wait("descriptor")
        libc = ctypes.CDLL(None)
        libc.puts(b"libc puts")
        libc.fflush(None)
        wait("native")
        subprocess.run(["echo", "from a child"], check=True)
        wait("child")

    expected = {
        "line": "a line\n",
        "partial": "part",
        "progress": "\r 10%\r 20%",
        "stderr": "to stderr, flushed",
        "descriptor": "os.write ",
        "native": "libc puts\n",
        "child": "from a child\n",
    }
    with app.run():
        call = speak.spawn(str(tmp_path))
        for name, text in expected.items():
            wait_until(lambda text=text: text in seen.text(), f"{text!r} of {name} (seen: {seen.text()!r})")
            (tmp_path / name).touch()
        call.get(timeout=20)


def test_order_holds_across_the_two_streams(seen: Seen) -> None:
    app = cloudfn.App("order")

    @app.function(serialized=True)
    def speak(count: int) -> None:
        import sys

        for i in range(count):
            print(f"{i}", file=sys.stderr if i % 3 == 0 else sys.stdout)

    with app.run():
        speak.remote(300)
    assert seen.text().split() == [str(i) for i in range(300)]
    assert seen.text("stderr").split() == [str(i) for i in range(0, 300, 3)]


def test_output_of_imports_keeps_its_order_too(seen: Seen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers made while a module is imported hold streams from before the fork."""
    import importlib

    (tmp_path / "early_output.py").write_text(
        "import logging, sys, cloudfn\n"
        "app = cloudfn.App('early')\n"
        "log = logging.getLogger('early')\n"
        "log.addHandler(logging.StreamHandler(sys.stderr))\n"
        "if not cloudfn.is_local():\n"
        "    print('imported, no end of line', end='')\n"
        "@app.function(max_containers=1)\n"
        "def speak(count):\n"
        "    for i in range(count):\n"
        "        log.warning('%d', i) if i % 2 else print(i)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module: Any = importlib.import_module("early_output")
    with module.app.run():
        module.speak.remote(100)
    assert seen.text(function="speak").split() == [str(i) for i in range(100)]
    assert seen.text().count("imported") == 1


def test_a_burst_of_ten_megabytes_is_whole(seen: Seen) -> None:
    app = cloudfn.App("burst")

    @app.function(serialized=True)
    def burst() -> None:
        for i in range(100_000):
            print(f"{i:0100d}")

    with app.run():
        burst.remote()
        burst.remote()
    text = seen.data("stdout").split(b"\n")
    assert len(text) == 200_001
    assert text[:-1] == [b"%0100d" % i for i in range(100_000)] * 2


def test_bytes_that_are_no_text(seen: Seen) -> None:
    app = cloudfn.App("bytes")

    @app.function(serialized=True)
    def speak() -> None:
        import os
        import sys

        os.write(1, bytes(range(256)))
        sys.stdout.buffer.write(b"\xff\xfe raw")
        print("\udcff lone surrogate")
        print("gr\u00fc\u00dfe")

    with app.run():
        speak.remote()
    data = seen.data("stdout")
    assert bytes(range(256)) in data
    assert b"\xff\xfe raw" in data
    assert b"\\udcff lone surrogate\n" in data
    assert "gr\u00fc\u00dfe".encode() in data


def test_nothing_is_lost_when_the_worker_dies(seen: Seen) -> None:
    app = cloudfn.App("dies")

    @app.function(serialized=True, timeout=0.5)
    def speak(way: str) -> None:
        import ctypes
        import os
        import sys
        import time

        print(f"{way} last line")
        print(f"{way} last words", end="")
        print(f"{way} last error", file=sys.stderr)
        if way == "exit":
            os._exit(1)
        if way == "segfault":
            ctypes.string_at(0)
        time.sleep(1000)

    with app.run():
        for way in ("exit", "segfault", "timeout"):
            with pytest.raises((WorkerDiedError, FunctionTimeoutError)):
                speak.remote(way)
    for way in ("exit", "segfault", "timeout"):
        assert f"{way} last line\n{way} last words" in seen.text("stdout")
        assert f"{way} last error\n" in seen.text("stderr")


def test_output_of_hooks_and_atexit(seen: Seen) -> None:
    app = cloudfn.App("hooks")

    @app.cls(serialized=True)
    class Speaker:
        @cloudfn.enter()
        def load(self) -> None:
            import atexit

            atexit.register(print, "at exit")
            print("entering")

        @cloudfn.method()
        def ping(self) -> None:
            pass

        @cloudfn.exit()
        def leave(self) -> None:
            print("leaving", end="")

    with app.run():
        Speaker().ping.remote()
    assert seen.text("stdout").startswith("entering\n")
    assert seen.text("stdout").endswith("leavingat exit\n")


def test_user_code_may_do_what_it_likes_with_its_streams(seen: Seen) -> None:
    app = cloudfn.App("streams")

    @app.function(serialized=True, max_containers=1)
    def misuse(way: str) -> int:
        import contextlib
        import io
        import os
        import sys

        if way == "close":
            sys.stdout.close()
        elif way == "none":
            sys.stdout = None  # type: ignore[assignment]
        elif way == "redirect":
            with contextlib.redirect_stdout(io.StringIO()):
                print("to nowhere")
            print("to somewhere")
        elif way == "logging":
            print("still works", file=sys.stderr)
        return os.getpid()

    with app.run():
        assert len({misuse.remote(way) for way in ("redirect", "close", "none", "logging")}) == 1
    assert "to nowhere" not in seen.text()
    assert "to somewhere\n" in seen.text("stdout")
    assert "still works\n" in seen.text("stderr")


def test_lines_of_several_threads_stay_whole(seen: Seen) -> None:
    app = cloudfn.App("threads")

    @app.function(serialized=True)
    def speak(count: int) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def say(name: int) -> None:
            for i in range(count):
                print("thread", name, "line", i)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(say, range(4)))

    with app.run():
        speak.remote(200)
    lines = seen.text("stdout").splitlines()
    assert sorted(lines) == sorted(f"thread {name} line {i}" for name in range(4) for i in range(200))
    for name in range(4):
        mine = [line for line in lines if line.startswith(f"thread {name} ")]
        assert mine == [f"thread {name} line {i}" for i in range(200)]


def test_output_while_only_workers_call(seen: Seen) -> None:
    app = cloudfn.App("nested")

    @app.function(serialized=True)
    def inner(value: int) -> int:
        print(f"inner {value}")
        return value

    @app.function(serialized=True)
    def outer() -> int:
        print("outer")
        return sum(inner.map(range(3)))

    with app.run():
        assert outer.remote() == 3
    assert seen.text(function="outer") == "outer\n"
    assert sorted(seen.text(function="inner").split("\n")) == ["", "inner 0", "inner 1", "inner 2"]
    assert {event.worker for event in seen.events if isinstance(event, Log)} != {""}
