"""Large buffers cross by files in shared memory: exact, writable, used again, and gone at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import numpy as np
import pytest

import cloudfn
from cloudfn import serialization, shared, wire
from cloudfn.exception import ProtocolError
from cloudfn.shared import Segments


@pytest.fixture
def ends() -> Iterator[tuple[Segments, Segments]]:
    folder = shared.make_folder()
    assert folder, "this test needs /dev/shm"
    pair = Segments(folder, "client"), Segments(folder, "w1")
    yield pair
    for segments in pair:
        segments.drop_unused()
        segments.close()
    Path(folder).rmdir()  # empty


def send(sender: Segments, receiver: Segments, value: object) -> object:
    data, buffers = serialization.dumps(value)
    pieces = sender.encode(wire.RESULT, data, buffers, index=3, call=7)
    reader = wire.FrameReader()
    frames = []
    for piece in pieces:
        view = memoryview(piece)
        while view:
            room = reader.get_buffer()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            frames += reader.received(size)
            view = view[size:]
    (frame,) = frames
    assert (frame.first, frame.call) == (3, 7)
    if not frame.items:
        frame = receiver.open(frame)
    assert frame.items == 1
    return serialization.loads(frame.body, frame.buffers)


def files(segments: Segments) -> list[str]:
    return sorted(path.name for path in Path(segments.folder).iterdir())


def test_round_trip_is_exact_and_writable(ends: tuple[Segments, Segments]) -> None:
    value = {"a": np.arange(300_000.0), "b": [np.ones((257, 1023), np.uint8), "text"]}
    back = send(*ends, value)
    assert isinstance(back, dict)
    assert (back["a"] == value["a"]).all()
    assert (back["b"][0] == 1).all() and back["b"][1] == "text"
    back["a"][:] = 0
    assert value["a"][1] == 1.0  # type: ignore[index]


def test_small_buffers_go_through_the_socket(ends: tuple[Segments, Segments]) -> None:
    send(*ends, np.zeros(10_000))
    assert files(ends[0]) == []


def test_a_file_is_used_again_once_nobody_needs_it(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    first = send(here, there, np.arange(200_000))
    (name,) = files(here)
    inode = Path(here.folder, name).stat().st_ino
    kept = send(there, here, first)  # `first` is still in use: another file
    assert len(files(here)) == 2
    del first
    again = send(there, here, np.arange(200_000) * 2)
    assert isinstance(again, np.ndarray) and isinstance(kept, np.ndarray)
    assert inode in {Path(here.folder, file).stat().st_ino for file in files(here)}
    assert len(files(here)) == 2
    assert (kept == np.arange(200_000)).all() and (again == np.arange(200_000) * 2).all()


def inodes(segments: Segments) -> set[int]:
    return {path.stat().st_ino for path in Path(segments.folder).iterdir()}


def test_what_goes_one_way_only_goes_round_too(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    seen: set[int] = set()
    for number in range(20):
        array = send(here, there, np.full(200_000, number))
        assert isinstance(array, np.ndarray) and (array == number).all()
        seen |= inodes(here)
        del array
    assert len(seen) <= 3
    assert len(files(here)) <= 3


def test_a_file_that_came_back_holds_what_was_sent_last(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    for number in range(10):  # each end has it mapped already from the third time on
        array = send(here, there, np.full(200_000, number))
        assert isinstance(array, np.ndarray) and (array == number).all()
        del array
        back = send(there, here, np.full(150_000, -number))
        assert isinstance(back, np.ndarray) and back.size == 150_000 and (back == -number).all()
        del back
    assert len(files(here)) <= 2


def test_memory_of_removed_files_is_let_go(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    for _ in range(3):
        send(here, there, np.zeros(1_000_000))
        send(there, here, np.zeros(1_000_000))
    for segments in (here, there, here):
        segments.drop_unused()
    assert files(here) == []
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if here.folder in line]


def test_a_free_file_is_taken_by_one(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    third = Segments(here.folder, "w2")
    for _ in range(2):
        send(here, there, np.zeros(200_000))  # the second time frees the first
    (free,) = (file for file in files(here) if file.startswith("free."))
    inode = Path(here.folder, free).stat().st_ino
    kept = [send(sender, here, np.ones(200_000)) for sender in (third, there)]
    assert inode in inodes(here)
    assert all((array == 1).all() for array in kept)  # type: ignore[union-attr]
    third.close()


def test_unused_files_are_given_back_and_arrays_stay_valid(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    array = send(here, there, np.arange(200_000))
    assert isinstance(array, np.ndarray)
    there.drop_unused()
    assert len(files(here)) == 1
    there.close()
    assert files(here) == [] and array[-1] == 199_999


def test_many_arrays_at_once_keep_no_names(ends: tuple[Segments, Segments]) -> None:
    held = [send(*ends, np.full(200_000, number)) for number in range(12)]
    assert len(files(ends[0])) < 12
    assert [int(array[0]) for array in held] == list(range(12))  # type: ignore[index]


def test_a_full_file_system_falls_back_to_the_socket(tmp_path: Path) -> None:
    nowhere = Segments(str(tmp_path / "missing"), "client")
    pieces = nowhere.encode(wire.INPUT, b"x", [bytes(2_000_000)])
    assert sum(map(len, pieces)) > 2_000_000


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"0123456789abcdef", b"w1.0123456789abc", b"\0" * 16])
def test_a_name_that_is_none_is_refused(ends: tuple[Segments, Segments], name: bytes) -> None:
    body = name.ljust(16)[:16] + (1).to_bytes(4, "little") + (8).to_bytes(8, "little")
    (piece,) = wire.encode(wire.RESULT, body, count=0)
    reader = wire.FrameReader()
    reader.get_buffer()[: len(piece)] = piece
    (frame,) = reader.received(len(piece))
    with pytest.raises(ProtocolError):
        ends[0].open(frame)


def test_a_size_beyond_the_file_is_refused(ends: tuple[Segments, Segments]) -> None:
    here, there = ends
    body = here.put(b"", [bytes(1_500_000)])
    assert body is not None
    lie = body[:20] + (1 << 40).to_bytes(8, "little")
    (piece,) = wire.encode(wire.RESULT, lie, count=0)
    reader = wire.FrameReader()
    reader.get_buffer()[: len(piece)] = piece
    (frame,) = reader.received(len(piece))
    with pytest.raises(ProtocolError):
        there.open(frame)
    for file in files(here):
        Path(here.folder, file).unlink()


def test_calls_use_it_and_leave_nothing() -> None:
    app = cloudfn.App("shared-memory")

    def double(array: np.ndarray) -> np.ndarray:
        array *= 2  # writable
        return array

    remote = app.function(serialized=True, max_containers=1)(double)
    array = np.arange(400_000.0)
    with app.run():
        folder = Path(app.sessions[-1].door[2])
        assert folder.is_dir()
        for _ in range(5):
            result = remote.remote(array)
            assert (result == np.arange(400_000.0) * 2).all()
            assert list(folder.iterdir())  # it came this way
        assert array[1] == 1.0  # the caller's own array is not the worker's
        results = list(remote.map([np.full(400_000, float(n)) for n in range(6)]))
        assert [result[0] for result in results] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert not folder.exists()
