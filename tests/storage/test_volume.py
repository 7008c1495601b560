"""Volume, through the real storage service, from the user's machine."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from project_folder import Folder
from storage_service import end_storage

import cloudfn
from cloudfn.exception import AlreadyExistsError, ConnectionError, InvalidError, NotFoundError, ResourceExhaustedError
from cloudfn.volume import FileEntryType


@pytest.fixture
def volume() -> cloudfn.Volume:
    return cloudfn.Volume.from_name("files", create_if_missing=True)


def upload(volume: cloudfn.Volume, force: bool = False, **files: bytes) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, content in files.items():
            batch.put_file(io.BytesIO(content), path.replace("__", "/"))


def paths(volume: cloudfn.Volume, path: str = "/") -> list[str]:
    return [entry.path for entry in volume.iterdir(path)]


def test_upload_list_read(volume: cloudfn.Volume, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.bin").write_bytes(bytes(3 << 20))
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    with volume.batch_upload() as batch:
        batch.put_directory(tmp_path, "/up")
        batch.put_file(tmp_path / "run.sh", "one.sh", mode=0o700)
        batch.put_file(io.BytesIO(b"data"), "/mem")
    assert paths(volume) == ["mem", "one.sh", "up", "up/deep", "up/deep/b.bin", "up/run.sh"]
    assert b"".join(volume.read_file("up/deep/b.bin")) == bytes(3 << 20)
    assert b"".join(volume.read_file("/mem")) == b"data"
    entry = volume.listdir("up")[1]
    assert (entry.path, entry.type, entry.size) == ("up/run.sh", FileEntryType.FILE, 10)
    assert volume.listdir("up")[0].type == FileEntryType.DIRECTORY
    into = io.BytesIO()
    assert volume.read_file_into_fileobj("mem", into) == 4 and into.getvalue() == b"data"


def test_upload_is_all_or_nothing(volume: cloudfn.Volume) -> None:
    upload(volume, a=b"1")
    with pytest.raises(FileExistsError, match="a is in the volume already"):
        upload(volume, a=b"2", b=b"3")
    with pytest.raises(KeyError), volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"4"), "c")
        raise KeyError
    assert paths(volume) == ["a"] and b"".join(volume.read_file("a")) == b"1"
    upload(volume, force=True, a=b"2")
    assert b"".join(volume.read_file("a")) == b"2"


def test_change(volume: cloudfn.Volume) -> None:
    upload(volume, a=b"1", dir__b=b"2")
    volume.copy_files(["a"], "dir")
    volume.copy_files(["dir"], "copy", recursive=True)
    volume.remove_file("dir/b")
    volume.remove_file("a")
    assert paths(volume) == ["copy", "copy/a", "copy/b", "dir", "dir/a"]
    with pytest.raises(IsADirectoryError):
        volume.remove_file("dir")
    volume.remove_file("dir", recursive=True)
    for use in (lambda: volume.remove_file("dir"), lambda: list(volume.read_file("x")), lambda: volume.listdir("x")):
        with pytest.raises(FileNotFoundError):
            use()
    with pytest.raises(InvalidError, match="list of paths"):
        volume.copy_files("a", "b")


def test_read_only(volume: cloudfn.Volume) -> None:
    upload(volume, a=b"1")
    fixed = volume.read_only()
    assert b"".join(fixed.read_file("a")) == b"1"
    for use in (fixed.batch_upload, lambda: fixed.remove_file("a"), lambda: fixed.copy_files(["a"], "b")):
        with pytest.raises(InvalidError, match=r"read_only\(\)"):
            use()
    assert pickle.loads(pickle.dumps(fixed)).mount_read_only
    with pytest.raises(InvalidError):
        fixed.with_mount_options(sub_path="a")


@pytest.mark.parametrize("path", ["../../etc/passwd", "a/../../b", "/..", "a\0b"])
def test_paths_that_lead_out(volume: cloudfn.Volume, path: str) -> None:
    for use in (
        lambda: list(volume.read_file(path)),
        lambda: volume.listdir(path),
        lambda: volume.remove_file(path),
        lambda: volume.copy_files([path], "x"),
        lambda: volume.copy_files(["x"], path),
        lambda: upload(volume, **{path: b""}),
        lambda: volume.with_mount_options(sub_path=path),
    ):
        with pytest.raises(InvalidError):
            use()


@pytest.mark.parametrize("name", ["a/b", "../x", "..", "", "x" * 65])
def test_name_that_cannot_be(name: str) -> None:
    with pytest.raises(InvalidError, match="cannot be the name of a Volume"):
        cloudfn.Volume.from_name(name)


def test_names(volume: cloudfn.Volume) -> None:
    with pytest.raises(NotFoundError, match="cloudfn volume create"):
        cloudfn.Volume.from_name("other").listdir("/")
    upload(volume, a=b"1")
    cloudfn.Volume.rename("files", "renamed")
    assert paths(cloudfn.Volume.from_name("renamed")) == ["a"]
    cloudfn.Volume.objects.create("files")
    with pytest.raises(AlreadyExistsError):
        cloudfn.Volume.rename("renamed", "files")
    assert [found.name for found in cloudfn.Volume.objects.list()] == ["files", "renamed"]
    cloudfn.Volume.objects.delete("renamed")
    with pytest.raises(NotFoundError):
        cloudfn.Volume.from_name("renamed").hydrate()


def test_commit_needs_a_mount(volume: cloudfn.Volume) -> None:
    for use in (volume.commit, volume.reload):
        with pytest.raises(InvalidError, match="not mounted here"):
            use()


def test_asynchronous_twins(volume: cloudfn.Volume) -> None:
    async def scene() -> None:
        async with volume.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"1"), "a")
        assert [entry.path async for entry in volume.iterdir.aio("/")] == ["a"]
        assert b"".join([part async for part in volume.read_file.aio("a")]) == b"1"
        await volume.remove_file.aio("a")
        async with cloudfn.Volume.ephemeral() as other:
            assert await other.listdir.aio("/") == []

    asyncio.run(scene())


def test_large_file_in_constant_memory(volume: cloudfn.Volume, state_dir: Path, tmp_path: Path) -> None:
    """200 MB up and down; neither the service nor a client of its own process grows by a quarter of that."""
    size = 200 << 20
    code = f"""
import hashlib, os, resource, cloudfn
volume = cloudfn.Volume.from_name("files")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open({str(tmp_path / "big")!r}, "wb") as file:
    for number in range({size >> 20}):
        file.write(bytes([number % 256]) * (1 << 20))
with volume.batch_upload() as batch:
    batch.put_file({str(tmp_path / "big")!r}, "big")
digest = hashlib.sha256()
for part in volume.read_file("big"):
    digest.update(part)
print(digest.hexdigest(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    volume.hydrate()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    digest, grown = done.stdout.split()
    expected = hashlib.sha256()
    for number in range(size >> 20):
        expected.update(bytes([number % 256]) * (1 << 20))
    assert digest == expected.hexdigest()
    pid = json.loads((state_dir / "storage" / "service.json").read_bytes())["pid"]
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    assert int(grown) < size >> 12, "KiB by which the client grew"
    assert int(peak.split()[1]) < (size >> 12) + 60_000, "KiB at the most, of the service"
    assert resource.RUSAGE_SELF is not None


def test_kill_of_the_service_during_uploads(volume: cloudfn.Volume, state_dir: Path) -> None:
    """At any moment: what was committed stays, what was not does not show, and no file is torn."""
    content = {f"f{number}": os.urandom(300_000) for number in range(8)}
    upload(volume, **dict.fromkeys(content, b"old"))
    for delay in (0.0, 0.002, 0.01, 0.03, 0.1, 0.3):
        timer = threading.Timer(delay, end_storage, (state_dir, signal.SIGKILL))
        timer.start()
        try:
            upload(volume, force=True, **content)
            done = True
        except ConnectionError:
            done = False
        timer.join()
        found = {name: b"".join(volume.read_file(name)) for name in content}
        news = {name for name in content if found[name] == content[name]}
        assert news == set(content) or not news, "some files only"
        assert all(found[name] == b"old" for name in content if name not in news)
        assert not done or news
        upload(volume, force=True, **dict.fromkeys(content, b"old"))


@pytest.mark.machine
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state folder on a small disk: a typed error, and what was stored before is as it was."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk], check=True)
    try:
        monkeypatch.setenv("CLOUDFN_STATE_DIR", str(disk))
        volume = cloudfn.Volume.from_name("files", create_if_missing=True)
        upload(volume, a=b"1" * 1000)
        with pytest.raises(ResourceExhaustedError, match="disk is full"):
            upload(volume, force=True, a=bytes(20 << 20))
        shared = cloudfn.Dict.from_name("d", create_if_missing=True)
        shared["small"] = 1
        with pytest.raises(ResourceExhaustedError, match="disk is full"):
            shared["large"] = os.urandom(20 << 20)
        assert b"".join(volume.read_file("a")) == b"1" * 1000
        assert dict(shared.items()) == {"small": 1}
        upload(volume, b=b"2" * 1000)
    finally:
        end_storage(disk)
        subprocess.run(["umount", "-l", disk], check=True)


def test_command_line(folder: Folder, tmp_path: Path) -> None:
    def run(*arguments: str, code: int = 0) -> str:
        return "".join(folder.run(*arguments, command="volume", code=code))

    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "a.txt").write_text("a\n")
    assert run("create", "files") == "Created Volume files.\n"
    run("put", "files", "local")
    run("put", "files", "local/a.txt", "/b.txt")
    assert run("ls", "files").split() == ["b.txt", "local"]
    assert "already" in run("put", "files", "local/a.txt", "b.txt", code=1)
    run("put", "files", "local/a.txt", "b.txt", "--force")
    assert run("cp", "files", "b.txt", "c.txt") == "" and run("get", "files", "c.txt", "-") == "a\n"
    run("get", "files", "/", "copy")
    assert (tmp_path / "copy" / "local" / "a.txt").read_text() == "a\n"
    assert "exists" in run("get", "files", "c.txt", "copy/c.txt", code=1)
    run("rm", "files", "local", "-r")
    rows = json.loads(run("ls", "files", "--json"))
    assert [(row["filename"], row["type"], row["size"]) for row in rows] == [("b.txt", "file", 2), ("c.txt", "file", 2)]
    assert "no 'x'" in run("rm", "files", "x", code=1)
    assert "leads out" in run("get", "files", "../x", code=2)
    run("rename", "files", "renamed", "--yes")
    assert [row["name"] for row in json.loads(run("list", "--json"))] == ["renamed"]
    assert run("delete", "renamed", "-y") == "Deleted Volume renamed.\n"
