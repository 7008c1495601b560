"""Mounts with the real bubblewrap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cloudfn_agent import mounts

from cloudfn.exception import InvalidError, ResourceUnavailableError
from cloudfn.provider import Mount


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a\n")
    (folder / "deep" / "b.txt").write_text("b\n")
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A populated folder that stands for any on the machine."""
    folder = tmp_path / "place"
    (folder / "sub" / "inner").mkdir(parents=True)
    (folder / "old.txt").write_text("old\n")
    (folder / "sub" / "kept.txt").write_text("kept\n")
    (folder / "link").symlink_to("old.txt")
    (folder / "dangling").symlink_to("nowhere")
    return folder


def shell(given: list[Mount], script: str, **options: object) -> str:
    argv = mounts.command(given, ["/bin/sh", "-ec", script])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p.relative_to(folder)), p.lstat().st_mtime_ns) for p in folder.rglob("*"))


def test_without_mounts_nothing_is_prefixed() -> None:
    assert mounts.command([], ["true"]) == ["true"]


def test_check_says_that_mounts_work() -> None:
    assert mounts.check() == ""


def test_target_whose_parents_do_not_exist(source: Path) -> None:
    out = shell([Mount(str(source), "/cloudfn-test-top/x/y")], "cat /cloudfn-test-top/x/y/deep/b.txt; ls -A /")
    assert out.startswith("b\n")
    assert {path.name for path in Path("/").iterdir()} <= set(out.split())
    assert not Path("/cloudfn-test-top").exists()


def test_file_in_a_populated_folder(source: Path, place: Path) -> None:
    before = listing(place)
    script = f"cat {place}/new/x.txt {place}/old.txt {place}/sub/kept.txt {place}/link; readlink {place}/dangling"
    out = shell([Mount(str(source / "a.txt"), f"{place}/new/x.txt")], script)
    assert out == "a\nold\nkept\nold\nnowhere\n"
    assert listing(place) == before


def test_writes_beside_a_mount_reach_the_machine_only_below_what_exists(source: Path, place: Path) -> None:
    script = f"echo changed > {place}/old.txt; echo 1 > {place}/sub/made; echo 2 > {place}/lost"
    shell([Mount(str(source), f"{place}/new")], script)
    assert (place / "old.txt").read_text() == "changed\n"
    assert (place / "sub" / "made").read_text() == "1\n"
    assert not (place / "lost").exists()


@pytest.mark.parametrize("target", ["old.txt", "link"])
def test_existing_file_is_shadowed(source: Path, place: Path, target: str) -> None:
    assert shell([Mount(str(source / "a.txt"), f"{place}/{target}")], f"cat {place}/{target}") == "a\n"
    assert (place / target).read_text() == "old\n"


def test_folder_is_spread_into_an_existing_one(source: Path, place: Path) -> None:
    """As when a program adds a folder at /root: the machine's own entries stay, ours win over the same name."""
    (place / "a.txt").write_text("the machine's\n")
    script = f"cd {place}; cat a.txt old.txt deep/b.txt sub/kept.txt; echo 1 > sub/made"
    assert shell([Mount(str(source), str(place))], script) == "a\nold\nb\nkept\n"
    assert (place / "a.txt").read_text() == "the machine's\n"
    assert (place / "sub" / "made").read_text() == "1\n"


def test_mount_on_an_entry_of_a_spread_folder(source: Path, place: Path) -> None:
    given = [Mount(str(source), str(place)), Mount(str(source / "deep" / "b.txt"), f"{place}/a.txt")]
    assert shell(given, f"cat {place}/a.txt {place}/deep/b.txt") == "b\nb\n"


def test_existing_empty_folder_becomes_the_added_one(source: Path, place: Path) -> None:
    assert shell([Mount(str(source), f"{place}/sub/inner")], f"ls {place}/sub/inner") == "a.txt\ndeep\n"
    assert list((place / "sub" / "inner").iterdir()) == []


def test_folder_over_a_file_and_file_over_a_folder(source: Path, place: Path) -> None:
    given = [Mount(str(source), f"{place}/old.txt"), Mount(str(source / "a.txt"), f"{place}/sub")]
    assert shell(given, f"cat {place}/old.txt/a.txt {place}/sub") == "a\na\n"
    assert (place / "old.txt").is_file() and (place / "sub").is_dir()


def test_dangling_link_becomes_a_file(source: Path, place: Path) -> None:
    assert shell([Mount(str(source / "a.txt"), f"{place}/dangling")], f"cat {place}/dangling") == "a\n"
    assert not (place / "nowhere").exists()


def test_mounts_inside_of_mounts(source: Path, place: Path) -> None:
    given = [
        Mount(str(source), "/cloudfn-test-nest"),
        Mount(str(place), "/cloudfn-test-nest/deep"),
        Mount(str(source / "a.txt"), "/cloudfn-test-nest/deep/sub/extra/c.txt"),
    ]
    script = "cd /cloudfn-test-nest/deep; cat ../a.txt old.txt sub/kept.txt sub/extra/c.txt; ls -d sub/inner"
    before = [listing(source), listing(place)]
    assert shell(given, script) == "a\nold\nkept\na\nsub/inner\n"
    assert [listing(source), listing(place)] == before


def test_content_is_read_only(source: Path) -> None:
    out = shell([Mount(str(source), "/cloudfn-test")], "echo x 2>/dev/null > /cloudfn-test/a.txt || echo refused")
    assert out == "refused\n"
    assert (source / "a.txt").read_text() == "a\n"


def test_empty_source_is_a_writable_folder(place: Path) -> None:
    assert shell([Mount("", f"{place}/work")], f"cd {place}/work; ls; echo 1 > x; cat x; cat ../old.txt") == "1\nold\n"
    assert not (place / "work").exists()


def test_rebuilt_folder_keeps_its_mode(source: Path, place: Path) -> None:
    place.chmod(0o1777)
    assert shell([Mount(str(source), f"{place}/new")], f"stat -c %a {place}") == "1777\n"


def test_worker_is_on_the_same_machine(source: Path) -> None:
    """Same processes, network, devices, working directory and user."""
    script = "readlink /proc/self/ns/pid /proc/self/ns/net; cat /proc/$PPID/comm; id -u; pwd; echo > /dev/null"
    out = shell([Mount(str(source), "/cloudfn-test")], script, cwd=source).split()
    assert out[:2] == [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("pid", "net")]
    assert out[2:] == ["bwrap", str(os.getuid()), str(source)]


def test_inherited_descriptor_can_be_written(source: Path) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as lines:
        shell([Mount(str(source), "/cloudfn-test")], f"echo hello > /proc/self/fd/{writer}", pass_fds=[writer])
        os.close(writer)
        assert lines.read() == "hello\n"


def test_folder_that_the_user_may_not_read(source: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modal's programs put files below /root, which others than root may not enter."""
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place and allowed(path, mode))
    assert shell([Mount(str(source / "a.txt"), f"{place}/new/x")], f"cat {place}/new/x; ls {place}") == "a\nnew\n"
    assert sorted(path.name for path in place.iterdir()) == ["dangling", "link", "old.txt", "sub"]


def test_exit_status_is_handed_on(source: Path) -> None:
    argv = mounts.command([Mount(str(source), "/cloudfn-test")], ["/bin/sh", "-c", "exit 7"])
    assert subprocess.run(argv, check=False).returncode == 7


def test_program_dies_with_its_parent(source: Path) -> None:
    """kill -9 of the process that started bubblewrap ends the program too: its end of the pipe closes."""
    argv = mounts.command([Mount(str(source), "/cloudfn-test")], ["/bin/sh", "-c", "echo up; exec sleep 600"])
    code = f"import subprocess; subprocess.run({argv!r})"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"up\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert parent.stdout.read() == b""  # ends only when nobody holds the pipe any more


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("/", '"/" itself'),
        ("/cloudfn-test/..", '"/" itself'),
        ("relative/x", "absolute"),
        ("/proc/x", "kernel"),
        ("/dev/shm/x", "kernel"),
        ("/etc/passwd/x", "/etc/passwd is a file"),
    ],
)
def test_impossible_targets(source: Path, target: str, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        mounts.command([Mount(str(source), target)], ["true"])


def test_two_mounts_on_one_path(source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    given = [Mount(str(source), f"{tmp_path}/x"), Mount(str(source), f"{tmp_path}/alias/x")]
    with pytest.raises(InvalidError, match="Two things"):
        mounts.command(given, ["true"])


def test_mount_inside_a_mounted_file(source: Path) -> None:
    given = [Mount(str(source / "a.txt"), "/cloudfn-test"), Mount(str(source), "/cloudfn-test/x")]
    with pytest.raises(InvalidError, match="is a file"):
        mounts.command(given, ["true"])


def test_circle_of_links(source: Path, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InvalidError, match=r"loop"):
        mounts.command([Mount(str(source), f"{tmp_path}/loop/x")], ["true"])


def test_folder_too_wide_to_rebuild(source: Path, place: Path) -> None:
    for index in range(3000):
        (place / str(index)).symlink_to("old.txt")
    with pytest.raises(InvalidError, match="too many entries"):
        mounts.command([Mount(str(source), f"{place}/new")], ["true"])


def test_missing_bubblewrap_names_the_package(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ResourceUnavailableError, match="apt-get install bubblewrap"):
        mounts.command([Mount(str(source), "/cloudfn-test")], ["true"])
    assert "bubblewrap" in mounts.check()
