"""Volumes in workers: real overlays, real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from project_folder import Folder
from storage_service import end_storage

import cloudfn
from cloudfn.exception import InvalidError

pytestmark = [pytest.mark.machine, pytest.mark.slow]

HEAD = """
import os
from pathlib import Path

import cloudfn

app = cloudfn.App("demo")
vol = cloudfn.Volume.from_name("files", create_if_missing=True)
steps = cloudfn.Queue.from_name("steps", create_if_missing=True)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(Path(folder).rglob("*")) if p.is_file()}
"""


def run(folder: Folder, text: str, code: int = 0) -> tuple[str, str]:
    folder.write("app.py", text, before=HEAD)
    return folder.run("app.py", code=code)


def content(name: str = "files") -> dict[str, bytes]:
    volume = cloudfn.Volume.from_name(name)
    return {e.path: b"".join(volume.read_file(e.path)) for e in volume.iterdir("/") if e.type == 1}


def test_what_is_written_is_there_when_the_call_has_ended(folder: Folder) -> None:
    out, _ = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=1)
        def write(name):
            Path("/data/deep/er").mkdir(parents=True, exist_ok=True)
            Path("/data/deep/er", name).write_text(name)
            os.symlink(name, f"/data/deep/er/link-{name}")

        @app.function(volumes={"/data": vol}, max_containers=1)
        def read():
            before = tree("/data")
            vol.reload()
            return before, tree("/data")

        @app.local_entrypoint()
        def main():
            print(read.remote())
            write.remote("a")
            print([entry.path for entry in vol.iterdir("/")])
            print(read.remote())
            vol.remove_file("deep/er/a")
            with vol.batch_upload() as batch:
                batch.put_file("app.py", "/deep/app.py")
            before, after = read.remote()
            print(sorted(before), sorted(after))
            print(os.path.exists("/data"))
        """,
    )
    lines = out.splitlines()
    assert lines[0] == "({}, {})"
    assert lines[1] == "['deep', 'deep/er', 'deep/er/a', 'deep/er/link-a']"
    assert lines[2] == "({}, {'deep/er/a': 'a', 'deep/er/link-a': 'a'})"
    assert lines[3] == "['deep/er/a', 'deep/er/link-a'] ['deep/app.py']"
    assert lines[4] == "False"


def test_workers_do_not_see_what_is_not_committed(folder: Folder) -> None:
    """Two workers of one function: one is in the midst of a file while the other looks, commits and reloads."""
    out, _ = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=2)
        def work(role):
            if role == "writer":
                with open("/data/big", "w") as file:
                    file.write("half")
                    file.flush()
                    steps.put("half written")
                    steps.get(partition="go on", timeout=60)
                    file.write(" done")
                vol.commit()
                steps.put("committed")
                steps.get(partition="go on", timeout=60)
                return tree("/data")
            steps.get(timeout=60)
            Path("/data/other").write_text("other")
            vol.commit()
            vol.reload()
            seen = [tree("/data")]
            steps.put(1, partition="go on")
            steps.get(timeout=60)
            seen.append(tree("/data"))
            vol.reload()
            seen.append(tree("/data"))
            steps.put(1, partition="go on")
            return seen

        @app.local_entrypoint()
        def main():
            calls = [work.spawn(role) for role in ("writer", "reader")]
            for call in calls:
                print(call.get())
        """,
    )
    writer, reader = out.splitlines()
    assert writer == "{'big': 'half done'}", "the other's file before a reload"
    assert reader == str([{"other": "other"}, {"other": "other"}, {"big": "half done", "other": "other"}])
    assert content() == {"big": b"half done", "other": b"other"}


def test_a_reload_brings_in_many_files_small_and_large(folder: Folder) -> None:
    out, _ = run(
        folder,
        """
        import hashlib, io

        def digests(files):
            return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}

        @app.function(volumes={"/data": vol}, max_containers=1)
        def read():
            vol.reload()
            paths = [path for path in Path("/data").rglob("*") if path.is_file()]
            return digests({str(path.relative_to("/data")): path.read_bytes() for path in paths})

        @app.local_entrypoint()
        def main():
            assert read.remote() == {}
            files = {f"{number % 7}/{number}": b"%d" % number * number for number in range(1100)}
            sizes = ((1 << 18) - 1, 1 << 18, (1 << 18) + 1, 5 << 20)
            files |= {f"large/{size}": os.urandom(size) for size in sizes}
            for _ in range(2):  # the second time most are the same, and one has grown
                with vol.batch_upload(force=True) as batch:
                    for name, content in files.items():
                        batch.put_file(io.BytesIO(content), name)
                print(read.remote() == digests(files))
                files["0/7"] = bytes(1 << 20)
        """,
    )
    assert out == "True\nTrue\n"


def test_last_commit_wins_file_by_file(folder: Folder) -> None:
    run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=2)
        def work(name, first):
            Path("/data/both").write_text(name)
            Path("/data", name).write_text(name)
            steps.put(name)
            if not first:
                steps.get(partition="go on", timeout=60)
            vol.commit()
            if first:
                steps.put(1, partition="go on")

        @app.local_entrypoint()
        def main():
            calls = [work.spawn("a", True), work.spawn("b", False)]
            [call.get() for call in calls]
        """,
    )
    assert content() == {"both": b"b", "a": b"a", "b": b"b"}


def test_change_and_remove_in_place(folder: Folder) -> None:
    run(
        folder,
        """
        import shutil

        @app.function(volumes={"/data": vol}, max_containers=1)
        def change(step):
            if step == 0:
                for name in ("a", "b", "d/x", "d/y/z", "e/f"):
                    Path("/data", name).parent.mkdir(parents=True, exist_ok=True)
                    Path("/data", name).write_text(name)
                Path("/data/run").write_text("")
                Path("/data/run").chmod(0o755)
            if step == 1:
                with open("/data/a", "a") as file:
                    file.write("+")
                os.remove("/data/b")
                shutil.rmtree("/data/d")
                os.rename("/data/e/f", "/data/f")
            if step == 2:
                os.makedirs("/data/d/new")
                Path("/data/d/new/file").write_text("new")
                Path("/data/b").mkdir()

        @app.function(volumes={"/data": vol}, single_use_containers=True)
        def look():
            paths = sorted(str(p.relative_to("/data")) for p in Path("/data").rglob("*"))
            return paths, os.access("/data/run", os.X_OK)

        @app.local_entrypoint()
        def main():
            for step in range(3):
                change.remote(step)
                paths, runs = look.remote()
                assert paths == [entry.path for entry in vol.iterdir("/")] and runs, paths
        """,
    )
    assert content() == {"a": b"a+", "f": b"e/f", "d/new/file": b"new", "run": b""}


def test_worker_killed_in_the_midst_of_a_file(folder: Folder) -> None:
    """What it has not committed is gone, and the volume is as it was; other workers go on."""
    _, err = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=1)
        def work(kill):
            Path("/data/good").write_text("good")
            vol.commit()
            with open("/data/good", "w") as file:
                file.write("torn")
                file.flush()
                if kill:
                    os.kill(os.getpid(), 9)
                file.write(" no more")

        @app.local_entrypoint()
        def main():
            try:
                work.remote(True)
            except cloudfn.exception.Error as error:
                print(type(error).__name__)
            assert b"".join(vol.read_file("good")) == b"good"
            work.remote(False)
        """,
    )
    assert content() == {"good": b"torn no more"}, err


def test_service_killed_during_commits(folder: Folder, state_dir: Path) -> None:
    """kill -9 at any moment: a version is there as a whole or not at all, and the worker goes on."""
    folder.write(
        "app.py",
        """
        @app.function(volumes={"/data": vol}, max_containers=1, timeout=300)
        def work():
            for number in range(100000):
                for part in range(20):
                    Path(f"/data/{part}").write_text(str(number) * 1000)
                try:
                    vol.commit()
                except cloudfn.exception.ConnectionError:
                    continue
                Path("/tmp", STAMP + ".new").write_text(f"{number} {os.getpid()}")
                os.replace(Path("/tmp", STAMP + ".new"), Path("/tmp", STAMP))
                if steps.get(block=False) is not None:
                    return number

        @app.local_entrypoint()
        def main():
            print(work.remote())
        """.replace("STAMP", repr(f"cfn-{os.getpid()}-{state_dir.name}")),
        before=HEAD,
    )
    stamp = Path("/tmp", f"cfn-{os.getpid()}-{state_dir.name}")
    process = folder.start("app.py")
    last = -1
    for delay in (0.0, 0.01, 0.03, 0.07, 0.15):
        deadline = time.monotonic() + 90
        while not stamp.exists() or int((stamp.read_text() or "-1").split()[0]) <= last:  # at least one more commit
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(delay)
        worker = int(stamp.read_text().split()[1])
        os.kill(worker, signal.SIGSTOP)  # so that nothing changes while we read
        end_storage(state_dir, signal.SIGKILL)
        found = content()
        assert len(set(found.values())) == 1 and len(found) == 20, "a torn version"
        last = int(stamp.read_text().split()[0])
        os.kill(worker, signal.SIGCONT)
    cloudfn.Queue.from_name("steps", create_if_missing=True).put("stop")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    found = content()
    assert set(found.values()) == {(out.strip() * 1000).encode()}
    stamp.unlink()


def test_read_only_sub_path_and_others_beside(folder: Folder) -> None:
    out, _ = run(
        folder,
        """
        image = cloudfn.Image.debian_slim().add_local_file("app.py", "/added/app.py")
        with_path = vol.with_mount_options(sub_path="inner/most")

        @app.function(volumes={"/rw/vol": with_path}, image=image, max_containers=1)
        def write():
            Path("/rw/vol/a").write_text("a")
            return sorted(os.listdir("/added")), sorted(os.listdir("/rw"))

        @app.function(volumes={"/ro": vol.read_only()}, max_containers=1)
        def read():
            vol.reload()
            try:
                Path("/ro/x").write_text("")
            except OSError as error:
                return error.strerror, tree("/ro")

        @app.local_entrypoint()
        def main():
            print(read.remote())
            print(write.remote())
            print(read.remote())
        """,
    )
    assert out.splitlines() == [
        "('Read-only file system', {})",
        "(['app.py'], ['vol'])",
        "('Read-only file system', {'inner/most/a': 'a'})",
    ]


def test_ephemeral_and_asynchronous(folder: Folder) -> None:
    out, _ = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=1)
        @cloudfn.concurrent(max_inputs=4)
        async def note(number):
            Path(f"/data/{number}").write_text("x")
            await vol.commit.aio()

        @app.local_entrypoint()
        def main():
            list(note.map(range(8)))
            print(len(vol.listdir("/")))
        """,
    )
    assert out == "8\n"


def test_failed_commit_fails_the_input(folder: Folder) -> None:
    """The volume is deleted while it is mounted: what was written cannot be kept, and the caller hears so."""
    _, err = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=1)
        def work():
            Path("/data/a").write_text("a")
            cloudfn.Volume.objects.delete("files")

        @app.local_entrypoint()
        def main():
            work.remote()
        """,
        code=1,
    )
    assert "deleted while it was mounted" in err


def test_a_full_disk_fails_the_commit_and_its_input(folder: Folder, tmp_path: Path) -> None:
    """There is room for what a worker writes, and none for it to be kept; what was kept before is as it was."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", disk], check=True)
    text = """
        @app.function(volumes={"/data": vol}, max_containers=1)
        def write(size):
            Path("/data/file").write_bytes(bytes([size % 251]) * size)

        @app.local_entrypoint()
        def main():
            write.remote(1000)
            try:
                write.remote(18 << 20)
            except cloudfn.exception.ResourceExhaustedError as error:
                print(error.message)
            print(len(b"".join(vol.read_file("file"))))
            write.remote(2000)
            print(len(b"".join(vol.read_file("file"))))
        """
    try:
        folder.write("app.py", text, before=HEAD)
        out, _ = folder.run("app.py", CLOUDFN_STATE_DIR=str(disk))
    finally:
        end_storage(disk)
        subprocess.run(["umount", "-l", disk], check=True)
    assert out.splitlines() == ["The disk is full: a volume cannot be written.", "1000", "2000"]


def test_a_file_name_that_is_no_text_fails_the_input_and_says_which(folder: Folder) -> None:
    _, err = run(
        folder,
        """
        @app.function(volumes={"/data": vol}, max_containers=1)
        def work():
            Path("/data/a").write_text("a")
            os.close(os.open(b"/data/caf\\xe9", os.O_CREAT | os.O_WRONLY))

        @app.local_entrypoint()
        def main():
            work.remote()
        """,
        code=1,
    )
    assert "A volume cannot keep the name b'caf\\xe9'" in err
    assert content() == {}


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ({"/": "v"}, '"/" itself'),
        ({"/data/..": "v"}, "'..'"),
        ({"data": "v"}, "absolute"),
        ({"/proc/x": "v"}, "kernel"),
        ({"/a": "v", "/a/": "w"}, "two volumes are mounted on /a"),
        ({"/a": "v", "//b": "v"}, "on one path only"),
        ({"/a": None}, "no Volume and no CloudBucketMount"),
        (["/a"], "dict of paths"),
    ],
)
def test_what_cannot_be_mounted(volumes: object, said: str) -> None:
    if isinstance(volumes, dict):
        volumes = {path: name and cloudfn.Volume.from_name(name) for path, name in volumes.items()}
    app = cloudfn.App("demo")
    with pytest.raises(InvalidError, match=said):
        app.function(volumes=volumes)(lambda: None)  # type: ignore[arg-type]


def test_missing_volume_and_missing_bubblewrap(folder: Folder, tmp_path: Path) -> None:
    text = """
    missing = cloudfn.Volume.from_name(os.environ.get("NAME", "files"), create_if_missing="NAME" not in os.environ)

    @app.function(volumes={"/data": missing})
    def work():
        pass

    @app.local_entrypoint()
    def main():
        work.remote()
    """
    folder.write("app.py", text, before=HEAD)
    assert "no Volume 'none'" in folder.run("app.py", code=1, NAME="none")[1]
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "python3").symlink_to("/usr/bin/env")
    assert "apt-get install bubblewrap" in folder.run("app.py", code=1, PATH=str(bare))[1]
