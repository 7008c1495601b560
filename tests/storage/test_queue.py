"""Queue, through the real storage service."""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from project_folder import Folder
from storage_service import end_storage

import cloudfn
from cloudfn.exception import InvalidError, NotFoundError, RequestSizeError


@pytest.fixture
def line() -> cloudfn.Queue:
    return cloudfn.Queue.from_name("line", create_if_missing=True)


def test_order_and_many(line: cloudfn.Queue) -> None:
    line.put("a")
    line.put_many([1, None, 3])
    assert line.len() == 4
    assert [line.get(), line.get()] == ["a", 1]
    assert line.get_many(10) == [None, 3]
    assert line.get(block=False) is None and line.get_many(5, block=False) == []


def test_partitions(line: cloudfn.Queue) -> None:
    line.put(0)
    line.put_many([1, 2], partition="a")
    assert line.len() == 1 and line.len(partition="a") == 2 and line.len(total=True) == 3
    assert line.get(partition="a") == 1
    line.clear(partition="a")
    assert line.len(total=True) == 1
    line.clear(all=True)
    assert line.len(total=True) == 0
    for use in (lambda: line.len(partition="a", total=True), lambda: line.clear(partition="a", all=True)):
        with pytest.raises(InvalidError):
            use()
    for key in ("", "x" * 65):
        with pytest.raises(InvalidError, match="1 to 64"):
            line.put(1, partition=key)


def test_iterate_leaves_items(line: cloudfn.Queue) -> None:
    line.put_many(list(range(1200)))
    assert list(line.iterate()) == list(range(1200))
    assert line.len() == 1200
    assert list(line.iterate(partition="none")) == []


def test_iterate_waits_for_more(line: cloudfn.Queue) -> None:
    line.put(1)
    items = line.iterate(item_poll_timeout=60)
    assert next(items) == 1
    threading.Timer(0.05, line.put, [2]).start()
    assert next(items) == 2


def test_blocking_get_is_woken_by_put(line: cloudfn.Queue) -> None:
    got: list[object] = []
    line.hydrate()
    waiting = [threading.Thread(target=lambda: got.append(line.get(timeout=60))) for _ in range(4)]
    for thread in waiting:
        thread.start()
    line.put_many([1, 2, 3, 4])
    for thread in waiting:
        thread.join(60)
    assert sorted(map(str, got)) == ["1", "2", "3", "4"]


def test_get_times_out(line: cloudfn.Queue) -> None:
    with pytest.raises(queue.Empty):
        line.get(timeout=0.01)
    with pytest.raises(queue.Empty):
        line.get_many(3, timeout=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert line.get(block=False, timeout=5) is None
    assert "timeout is ignored" in str(caught[0].message)


def test_full_queue(line: cloudfn.Queue) -> None:
    line.put_many([0] * 5000)
    with pytest.raises(queue.Full):
        line.put(1, block=False)
    with pytest.raises(queue.Full, match="5,000"):
        line.put(1, timeout=0.01)
    threading.Timer(0.05, line.get).start()
    line.put("fits", timeout=60)  # waits for the other's get
    assert line.len() == 5000


def test_too_large(line: cloudfn.Queue) -> None:
    with pytest.raises(RequestSizeError, match="1 MiB"):
        line.put(bytes((1 << 20) + 1))
    with pytest.raises(RequestSizeError):
        line.put_many([0] * 5001)
    assert line.len() == 0


def test_cancelled_get_takes_nothing(line: cloudfn.Queue) -> None:
    async def scene() -> None:
        waiting = asyncio.create_task(line.get.aio())
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(scene())
    line.put("kept")
    # The service hears of the end of the connection before it hears of the put, or at least of what comes after that.
    assert line.get(timeout=60) == "kept"


def test_many_wait_at_once_on_one_loop(line: cloudfn.Queue) -> None:
    async def scene() -> list[int]:
        waiting = [asyncio.create_task(line.get.aio()) for _ in range(40)]
        await line.put_many.aio(list(range(40)))
        return [await task for task in waiting]

    assert sorted(asyncio.run(scene())) == list(range(40))


def test_kill_of_the_service_while_somebody_waits(line: cloudfn.Queue, state_dir: Path) -> None:
    line.put_many([1, 2, 3], partition="other")
    got: list[object] = []
    waiting = threading.Thread(target=lambda: got.append(line.get(timeout=60)))
    waiting.start()
    end_storage(state_dir, signal.SIGKILL)
    line.put("after")
    waiting.join(60)
    assert got == ["after"]
    assert line.get_many(5, partition="other") == [1, 2, 3]


def test_killed_reader_takes_nothing_with_it(line: cloudfn.Queue) -> None:
    """Processes wait in `get`, are killed, and every item that is put then is still there for others."""
    line.hydrate()
    code = "import cloudfn; q = cloudfn.Queue.from_name('line'); q.hydrate(); print('up', flush=True); q.get()"
    readers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    for reader in readers:
        assert reader.stdout is not None
        with reader.stdout:
            assert reader.stdout.readline() == b"up\n"
            reader.kill()
            reader.wait()
    line.put_many([1, 2, 3])
    assert line.get_many(3, timeout=60) == [1, 2, 3]


def test_deleted_while_somebody_waits(line: cloudfn.Queue) -> None:
    line.hydrate()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            line.get(timeout=60)
        except NotFoundError as error:
            errors.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    cloudfn.Queue.objects.delete("line")
    waiting.join(60)
    assert len(errors) == 1


def test_ephemeral_queue_between_workers(folder: Folder) -> None:
    folder.write(
        "app.py",
        """
        @app.function(max_containers=2)
        def double(todo, done):
            while (number := todo.get(timeout=60)) is not None:
                done.put(number * 2)

        @app.local_entrypoint()
        def main():
            with cloudfn.Queue.ephemeral() as todo, cloudfn.Queue.ephemeral() as done:
                workers = [double.spawn(todo, done) for _ in range(2)]
                todo.put_many(list(range(100)))
                todo.put_many([None, None])
                print(sum(done.get(timeout=60) for _ in range(100)))
                for worker in workers:
                    worker.get()
        """,
    )
    assert folder.run("app.py")[0] == f"{sum(range(100)) * 2}\n"


def test_command_line(folder: Folder, line: cloudfn.Queue) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        return "".join(folder.run(*arguments, command="queue", code=code))

    assert run("create", "line") == "Created Queue line.\n"
    line.put_many(["a", "b"])
    line.put("c", partition="p")
    assert run("peek", "line", "5") == "a\nb\n" and run("peek", "line", "-p", "p") == "c\n"
    assert (run("len", "line"), run("len", "line", "--total")) == ("2\n", "3\n")
    row = json.loads(run("list", "--json"))[0]
    assert (row["name"], row["partitions"], row["total_size"]) == ("line", 2, 3)
    assert run("clear", "line", "--all", "-y") == "Cleared Queue line.\n" and run("len", "line", "-t") == "0\n"
    assert "exclude each other" in run("len", "line", "-t", "-p", "x", code=2)
    assert run("delete", "line", "-y") == "Deleted Queue line.\n"
