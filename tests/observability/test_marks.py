"""Which input printed what."""

from __future__ import annotations

import itertools
import json

import pytest
from cloudfn_agent import marks
from cloudfn_agent.mark_reader import Origin, Reader
from cloudfn_local.machine import runs_dir
from hypothesis import given
from hypothesis import strategies as st

import cloudfn
from cloudfn.events import Log, from_json

ORIGINS = st.none() | st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
PIECES = st.lists(
    st.tuples(ORIGINS, st.binary(min_size=1, max_size=40).filter(lambda data: b"_cloudfn;" not in data)), max_size=8
)


def written(origin: Origin, data: bytes) -> bytes:
    return data if origin is None else marks.begin(*origin) + data + marks.END


def merged(pieces: list[tuple[Origin, bytes]]) -> list[tuple[Origin, bytes]]:
    groups = itertools.groupby(pieces, key=lambda piece: piece[0])
    return [(origin, b"".join(data for _, data in group)) for origin, group in groups]


@given(PIECES, st.integers(1, 50))
def test_marks_come_out_as_they_went_in_however_they_are_cut(pieces: list[tuple[Origin, bytes]], size: int) -> None:
    stream = b"".join(written(*piece) for piece in pieces)
    reader = Reader()
    found = [piece for at in range(0, len(stream), size) for piece in reader.feed(stream[at : at + size])]
    found += reader.end()
    assert merged(list(map(tuple, found))) == merged(pieces)


@given(st.binary(max_size=200), st.integers(1, 9))
def test_what_only_looks_like_a_mark_is_passed_on(data: bytes, size: int) -> None:
    data = data.replace(b"0", b"\x1b_cloudfn;").replace(b"1", b"\x1b")
    reader = Reader()
    found = b"".join(piece.data for at in range(0, len(data), size) for piece in reader.feed(data[at : at + size]))
    found += b"".join(piece.data for piece in reader.end())
    assert found == data.replace(marks.END, b"")


def test_a_mark_that_user_code_made_up_does_no_harm() -> None:
    assert Reader().feed(b"\x1b_cloudfn;ffffffffffffffff;9999999999\x1b\\x") == [(None, b"x")]


def logged(app: str) -> list[Log]:
    (path,) = [
        folder / "events.jsonl"
        for folder in runs_dir().iterdir()
        if json.loads((folder / "run.json").read_text())["app"] == app
    ]
    events = [from_json(line) for line in path.read_bytes().splitlines()]
    return [event for event in events if isinstance(event, Log)]


@pytest.mark.slow
def test_a_line_names_the_input_that_printed_it() -> None:
    app = cloudfn.App("talk")

    @app.function(serialized=True, max_containers=1)
    def say(text: str) -> tuple[str | None, str | None]:
        import sys
        import threading

        print(text)
        print(text, "err", file=sys.stderr)
        thread = threading.Thread(target=print, args=(f"{text} thread",))
        thread.start()
        thread.join()
        return cloudfn.current_function_call_id(), cloudfn.current_input_id()

    @app.function(serialized=True)
    @cloudfn.concurrent(max_inputs=4)
    async def meet(text: str) -> str | None:
        import asyncio

        for i in range(3):
            print(text, i)
            await asyncio.sleep(0.01)
        return cloudfn.current_input_id()

    @app.function(serialized=True)
    def native() -> None:
        import os

        os.write(1, b"native\n")

    with app.run():
        said = list(say.map(["one", "two"]))
        met = list(meet.map(["a", "b", "c"]))
        native.remote()
    lines = logged("talk")
    assert not [line for line in lines if b"\x1b" in line.data]
    for text, (call, input) in zip(("one", "two"), said, strict=True):
        mine = [line for line in lines if line.data.startswith(text.encode())]
        assert {(line.call, line.input) for line in mine} == {(call, input)}
        assert b"".join(line.data for line in mine if line.stream == "stdout").decode() == f"{text}\n{text} thread\n"
        assert {line.function for line in mine} == {"say"}
    for text, input in zip("abc", met, strict=True):
        mine = [line for line in lines if line.input == input]
        assert b"".join(line.data for line in mine).decode() == "".join(f"{text} {i}\n" for i in range(3))
    (line,) = [line for line in lines if line.data == b"native\n"]
    assert (line.call, line.input, line.function) == ("", "", "native")
