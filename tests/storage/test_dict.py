"""Dict, through the real storage service."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import threading
from pathlib import Path

import pytest
from project_folder import Folder
from storage_service import end_storage

import cloudfn
from cloudfn.exception import (
    AlreadyExistsError,
    InvalidError,
    NotFoundError,
    RequestSizeError,
    SerializationError,
    UnimplementedError,
)


@pytest.fixture
def shared() -> cloudfn.Dict:
    return cloudfn.Dict.from_name("shared", create_if_missing=True)


def service_pid(state: Path) -> int:
    return int(json.loads((state / "storage" / "service.json").read_bytes())["pid"])


def test_as_a_dict(shared: cloudfn.Dict) -> None:
    shared["a"] = {"x": [1, 2]}
    shared[(1, "b")] = None
    assert shared["a"] == {"x": [1, 2]} and shared[(1, "b")] is None
    assert "a" in shared and "c" not in shared
    assert shared.get("c") is None and shared.get("c", 5) == 5
    with pytest.raises(KeyError, match="'c'"):
        shared["c"]
    del shared["a"]
    with pytest.raises(KeyError):
        del shared["a"]
    assert shared.pop("a", "gone") == "gone"
    assert shared.len() == 1


def test_update_and_iterate(shared: cloudfn.Dict) -> None:
    shared.update({number: number**2 for number in range(2500)}, word="value")
    expected = {**{number: number**2 for number in range(2500)}, "word": "value"}
    assert dict(shared.items()) == expected
    assert set(shared.keys()) == set(expected)
    assert len(list(shared.values())) == len(expected)
    shared.clear()
    assert list(shared.items()) == [] and shared.len() == 0


def test_put_says_who_was_first(shared: cloudfn.Dict) -> None:
    assert shared.put("k", 1, skip_if_exists=True)
    assert not shared.put("k", 2, skip_if_exists=True)
    assert shared["k"] == 1
    assert shared.put("k", 2)


def test_one_of_many_is_first(shared: cloudfn.Dict) -> None:
    firsts: list[int] = []
    shared.hydrate()

    def try_it(number: int) -> None:
        if shared.put("lock", number, skip_if_exists=True):
            firsts.append(number)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert firsts == [shared["lock"]]


def test_keys_are_equal_by_value(shared: cloudfn.Dict) -> None:
    text = "".join(["a", "b"])
    shared[("ab", text)] = 1  # two objects, where the other key has one
    assert shared[("ab", "ab")] == 1


def test_asynchronous_twins(shared: cloudfn.Dict) -> None:
    async def scene() -> None:
        await shared.put.aio("a", 1)
        await shared.update.aio({"b": 2})
        assert await shared.get.aio("a") == 1 and await shared.contains.aio("b")
        assert sorted([key async for key in shared.keys.aio()]) == ["a", "b"]
        assert await shared.pop.aio("a") == 1 and await shared.len.aio() == 1
        async with cloudfn.Dict.ephemeral() as other:
            await other.put.aio("x", 1)
            assert await other.len.aio() == 1

    asyncio.run(scene())


def test_ephemeral_ends_with_its_block() -> None:
    with cloudfn.Dict.ephemeral() as ephemeral:
        ephemeral["a"] = 1
        again = cloudfn.Dict.from_id(ephemeral.object_id)
        assert again["a"] == 1 and ephemeral.name is None
        assert cloudfn.Dict.objects.list() == []
    # The service hears of the end; until then the entry is there.
    for _ in range(1000):
        try:
            again.get("a")
        except NotFoundError:
            return
    pytest.fail("the ephemeral Dict is still there")


def test_names_and_ids(shared: cloudfn.Dict) -> None:
    with pytest.raises(NotFoundError, match="no Dict 'other'"):
        cloudfn.Dict.from_name("other").get("a")
    shared.hydrate()
    cloudfn.Dict.objects.create("second")
    with pytest.raises(AlreadyExistsError):
        cloudfn.Dict.objects.create("second")
    cloudfn.Dict.objects.create("second", allow_existing=True)
    assert [found.name for found in cloudfn.Dict.objects.list()] == ["second", "shared"]
    assert [found.name for found in cloudfn.Dict.objects.list(max_objects=1)] == ["second"]
    assert cloudfn.Dict.objects.list(created_before="2001-01-01") == []
    assert shared.info().name == "shared" and shared.info().created_at.year > 2001
    cloudfn.Dict.objects.delete("second")
    with pytest.raises(NotFoundError):
        cloudfn.Dict.objects.delete("second")
    cloudfn.Dict.objects.delete("second", allow_missing=True)


@pytest.mark.parametrize("name", ["a/b", "..", "", "x" * 65, "ü", "a\n", 5])
def test_name_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidError, match="cannot be the name"):
        cloudfn.Dict.from_name(name)


def test_what_is_not_available() -> None:
    with pytest.raises(UnimplementedError, match="environment_name"):
        cloudfn.Dict.from_name("x", environment_name="dev")
    with pytest.raises(InvalidError, match="from_name"):
        cloudfn.Dict()


def test_too_large_and_not_to_be_pickled(shared: cloudfn.Dict) -> None:
    with pytest.raises(RequestSizeError, match="'big'.*100"):
        shared["big"] = bytes((100 << 20) + 1)
    with pytest.raises(RequestSizeError, match="10,000"):
        shared.update(dict.fromkeys(range(10001), 0))
    with pytest.raises(SerializationError, match="the value"):
        shared["lock"] = threading.Lock()
    assert shared.len() == 0


def test_handle_is_pickled_by_name(shared: cloudfn.Dict) -> None:
    shared["a"] = 1
    assert pickle.loads(pickle.dumps(shared))["a"] == 1
    assert repr(shared) == "Dict.from_name('shared')"


def test_kill_of_the_service_loses_nothing(shared: cloudfn.Dict, state_dir: Path) -> None:
    for number in range(200):
        shared[number] = number
    pid = service_pid(state_dir)
    end_storage(state_dir, signal.SIGKILL)
    assert dict(shared.items()) == {number: number for number in range(200)}
    assert service_pid(state_dir) != pid


def test_two_that_come_at_once_start_one_service(state_dir: Path) -> None:
    errors: list[BaseException] = []

    def use(number: int) -> None:
        try:
            cloudfn.Dict.from_name("d", create_if_missing=True)[number] = number
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert cloudfn.Dict.from_name("d").len() == 4


def test_what_lies_there_is_private(shared: cloudfn.Dict, state_dir: Path) -> None:
    shared["password"] = "secret"
    folder = state_dir / "storage"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "objects.db").stat().st_mode & 0o077 == 0
    record = json.loads((folder / "service.json").read_bytes())
    assert Path(record["address"]).parent.stat().st_mode & 0o077 == 0
    assert (folder / "service.json").stat().st_mode & 0o077 == 0


def test_fork_does_not_share_connections(shared: cloudfn.Dict) -> None:
    shared["a"] = 1
    child = os.fork()
    if child == 0:
        os._exit(0 if all(shared["a"] == 1 for _ in range(50)) else 1)
    assert all(shared["a"] == 1 for _ in range(50))
    assert os.waitpid(child, 0)[1] == 0


def test_workers_share_a_dict(folder: Folder) -> None:
    folder.write(
        "app.py",
        """
        counts = cloudfn.Dict.from_name("counts", create_if_missing=True)

        @app.function(max_containers=2)
        def note(number):
            import os
            counts[number] = os.getpid()

        @app.local_entrypoint()
        def main():
            list(note.map(range(40)))
            print(counts.len(), sorted(counts.keys()) == list(range(40)))
        """,
    )
    assert folder.run("app.py")[0] == "40 True\n"
    assert folder.run("list", command="dict")[0].split()[3] == "counts"


def test_command_line(folder: Folder) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        return "".join(folder.run(*arguments, command="dict", code=code))

    assert run("list").startswith("No Dicts")
    assert run("create", "d") == run("create", "d") == "Created Dict d.\n"
    cloudfn.Dict.from_name("d").update({"k": "v" * 100, 2: [1]})
    assert run("get", "d", "k") == "v" * 100 + "\n"
    assert "no key 'other'" in run("get", "d", "other", code=1)
    assert run("items", "d", "1").endswith("...\n")
    assert len(json.loads(run("items", "d", "--json"))) == 2
    assert [row["name"] for row in json.loads(run("list", "--json"))] == ["d"]
    assert run("clear", "d", "--yes") == "Cleared Dict d.\n" and run("items", "d") == "No entries.\n"
    assert "no Dict 'e'" in run("delete", "e", code=1)
    assert run("delete", "d", "-y") == "Deleted Dict d.\n"
    assert "cannot be the name" in run("create", "a/b", code=2)
