"""Workers are forked where that is safe, and started as processes where it is not; both serve alike."""

from __future__ import annotations

import importlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
from cloudfn_agent.mounts import check

import cloudfn
from agent.conftest import Seen
from agent.processes import Mark, wait_until
from cloudfn.exception import FunctionTimeoutError, OutOfMemoryError, StartupError, WorkerDiedError

THREADED = """
    import os, sys, threading, time
    import cloudfn

    app = cloudfn.App("threaded")
    if not cloudfn.is_local():
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        print("imported")

    @app.function(timeout=0.5, max_containers=1)
    def work(way, seconds=0.0):
        print("working", way)
        if way == "exit":
            os._exit(4)
        if way == "segfault":
            __import__("ctypes").string_at(0)
        time.sleep(seconds)
        return os.getpid()

    @app.function(memory=(64, 256), max_containers=1)
    def fill(megabytes):
        return len(b"x" * (megabytes << 20)) >> 20

    @app.cls(max_containers=1)
    class Model:
        path: str = cloudfn.parameter()

        @cloudfn.enter()
        def load(self):
            if not self.path:
                raise RuntimeError("no path")
            self.note("enter")

        @cloudfn.method()
        def ping(self):
            return os.getpid()

        @cloudfn.exit()
        def leave(self):
            self.note("exit")
            print("left")

        def note(self, text):
            with open(self.path, "a") as file:
                file.write(text + " ")
    """


def load(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)


def test_workers_of_a_module_with_threads_are_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen, mark: Mark
) -> None:
    module = load(tmp_path, "threaded_module", THREADED, monkeypatch)
    notes = tmp_path / "notes"
    with module.app.run():
        first = module.work.remote("well")
        assert module.work.remote("well") == first
        assert mark.parent(first) == mark.agents()[0]
        wait_until(lambda: mark.zygotes() == [first], "the end of the zygote, which is of no use")
        with pytest.raises(FunctionTimeoutError):
            module.work.remote("slow", 1000)
        with pytest.raises(WorkerDiedError, match="status 4"):
            module.work.remote("exit")
        with pytest.raises(WorkerDiedError, match="SIGSEGV"):
            module.work.remote("segfault")
        call = module.work.spawn("cancelled", 1000)
        wait_until(lambda: "working cancelled" in seen.text(), "the start")
        call.cancel()
        with pytest.raises(BaseException, match="cancel"):
            call.get(timeout=20)
        if not any("no hard memory limit" in text for text in seen.notices()):
            assert module.fill.remote(10) == 10
            with pytest.raises(OutOfMemoryError):
                module.fill.remote(1000)
        assert module.Model(path=str(notes)).ping.remote() > 0
        with pytest.raises(StartupError, match="no path"):
            module.Model(path="").ping.remote()
    assert notes.read_text() == "enter exit "
    assert "working exit\n" in seen.text("stdout", "work")
    assert "working segfault\n" in seen.text("stdout", "work")
    assert seen.text("stdout", "Model").endswith("left\n")


@pytest.mark.machine
def test_a_process_behind_a_mount_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: Seen, mark: Mark
) -> None:
    """There the process that the agent starts is a wrapper around the worker: signals must not hit the wrapper."""
    assert check() == ""
    text = THREADED.replace(
        "@app.function(timeout=0.5, max_containers=1)",
        "@app.function(timeout=5, max_containers=1, "
        "image=cloudfn.Image.debian_slim().add_local_file(__file__, '/data/x'))",
    )
    module = load(tmp_path, "mounted_module", text, monkeypatch)
    with module.app.run():
        first = module.work.remote("well")
        call = module.work.spawn("cancelled", 1000)
        wait_until(lambda: "working cancelled" in seen.text(), "the start")
        call.cancel()
        with pytest.raises(BaseException, match="cancel"):
            call.get(timeout=20)
        assert module.work.remote("well") == first
        with pytest.raises(WorkerDiedError, match="SIGSEGV"):
            module.work.remote("segfault")
        with pytest.raises(WorkerDiedError, match="status 4"):
            module.work.remote("exit")


def test_a_process_for_each_worker_that_cannot_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Mark
) -> None:
    """The second import fails, where the first did not."""
    text = """
        import os, threading, time
        import cloudfn
        app = cloudfn.App("second")
        if not cloudfn.is_local():
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
            marker = os.environ["LC_MARKER"]
            if os.path.exists(marker):
                raise ValueError("only once")
            open(marker, "w").close()
        @app.function()
        def ping():
            return 1
        """
    monkeypatch.setenv("LC_MARKER", str(tmp_path / "marker"))
    module = load(tmp_path, "second_import", text, monkeypatch)
    with module.app.run(), pytest.raises(StartupError, match="ValueError: only once"):
        module.ping.remote()


def test_numpy_does_not_keep_a_zygote_from_forking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Mark) -> None:
    text = """
        import os
        import cloudfn
        import numpy
        os.environ.get("x")
        app = cloudfn.App("numpy")
        numpy.ones((300, 300)) @ numpy.ones((300, 300))  # starts the threads of its BLAS
        @app.function(max_containers=1)
        def product(size):
            made = numpy.ones((size, size)) @ numpy.ones((size, size))
            return os.getpid(), len(os.listdir("/proc/self/task")), float(made[0, 0])
        """
    module = load(tmp_path, "numpy_module", text, monkeypatch)
    with module.app.run():
        pid, threads, value = module.product.remote(400)
        assert mark.parent(pid) in mark.zygotes()
    assert value == 400.0
    assert threads >= 1


def test_a_function_that_adds_threads_to_a_zygote_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Mark
) -> None:
    """The zygote has forked for one function already, when another's module starts a thread."""
    (tmp_path / "late_threads.py").write_text(
        "import threading, time, os, cloudfn\n"
        "from early_module import app\n"
        "if not cloudfn.is_local():\n"
        "    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        "@app.function()\n"
        "def late():\n"
        "    return os.getpid()\n"
    )
    text = """
        import os
        import cloudfn
        app = cloudfn.App("late")
        @app.function(max_containers=1)
        def early():
            return os.getpid()
        """
    module = load(tmp_path, "early_module", text, monkeypatch)
    late = importlib.import_module("late_threads").late
    with module.app.run():
        first = module.early.remote()
        second = late.remote()
        assert mark.parent(first) in mark.zygotes()
        assert mark.parent(second) in mark.agents()
        assert module.early.remote() == first


def test_a_zygote_serves_one_set_of_secrets(mark: Mark) -> None:
    app = cloudfn.App("secrets")

    @app.function(serialized=True, secrets=[cloudfn.Secret.from_dict({"TOKEN": "one"})])
    def one() -> Any:
        import os

        return os.environ.get("TOKEN"), os.getppid()

    @app.function(serialized=True, secrets=[cloudfn.Secret.from_dict({"TOKEN": "two"})])
    def two() -> Any:
        import os

        return os.environ.get("TOKEN"), os.getppid()

    @app.function(serialized=True)
    def none() -> Any:
        import os

        return os.environ.get("TOKEN"), os.getppid()

    with app.run():
        results = [one.remote(), two.remote(), none.remote()]
    assert [token for token, _ in results] == ["one", "two", None]
    assert len({zygote for _, zygote in results}) == 3
