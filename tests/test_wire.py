"""Frames: what is encoded decodes to itself however it is chopped, and what is no frame is refused at once."""

from __future__ import annotations

import pickle
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any, Iterable, Sequence

import pytest
from cloudfn_agent import clients
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudfn import serialization, wire
from cloudfn.exception import ProtocolError, RequestSizeError
from cloudfn.wire import Frame, FrameReader

PAGE = Path(__file__).parent.parent / "docs" / "wire.md"
TYPES = {
    "CONTROL": wire.CONTROL,
    "LOG": wire.LOG,
    "INPUT": wire.INPUT,
    "RESULT": wire.RESULT,
    "YIELD": wire.YIELD,
    "RETURNED": wire.RETURNED,
    "RELEASE": wire.RELEASE,
    "ACK": wire.ACK,
    "RESUME": wire.RESUME,
    "PIECE": wire.PIECE,
    "CREDIT": wire.CREDIT,
}

HEADER_FIELDS = ["type", "flags", "nbuf", "count", "seq", "ack", "index", "call", "body"]

small = st.binary(max_size=200)
# Sizes around the reader's own buffer, where its two ways of receiving meet.
large = st.sampled_from(
    [wire.READ_SIZE // 2, wire.READ_SIZE // 2 + 1, wire.READ_SIZE - 36, wire.READ_SIZE, 300_000]
).map(lambda size: b"x" * size)
frames = st.builds(
    Frame,
    type=st.sampled_from(sorted(TYPES.values())),
    flags=st.integers(0, 255),
    items=st.integers(0, 65535),
    seq=st.integers(0, 2**32 - 1),
    ack=st.integers(0, 2**32 - 1),
    first=st.integers(0, 2**32 - 1),
    call=st.integers(0, 2**64 - 1),
    body=st.one_of(small, small, large),
    buffers=st.lists(st.one_of(small.map(bytearray), large.map(bytearray)), max_size=3),
)


def encoded(frame: Frame) -> bytes:
    pieces = wire.encode(
        frame.type,
        bytes(frame.body),
        flags=frame.flags,
        count=frame.items,
        seq=frame.seq,
        ack=frame.ack,
        index=frame.first,
        call=frame.call,
        buffers=frame.buffers,
    )
    return b"".join(pieces)


def feed(reader: FrameReader, data: bytes, sizes: Iterable[int] = ()) -> list[Frame]:
    """Give a reader the data in chunks of these sizes, then the rest in chunks as large as it takes."""
    found: list[Frame] = []
    view, chunks = memoryview(data), iter(sizes)
    while view:
        place = reader.get_buffer()
        assert len(place) > 0
        size = min(next(chunks, len(view)), len(place), len(view))
        place[:size] = view[:size]
        view = view[size:]
        found += reader.received(size)
    return found


def comparable(items: Sequence[Frame]) -> list[Any]:
    return [(*frame[:7], bytes(frame.body), [bytes(buffer) for buffer in frame.buffers]) for frame in items]


@settings(max_examples=150, deadline=None)
@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 100_000), max_size=30))
def test_what_is_encoded_decodes_to_itself(sent: list[Frame], sizes: list[int]) -> None:
    reader = FrameReader()
    found = feed(reader, b"".join(map(encoded, sent)), sizes)
    assert comparable(found) == comparable(sent)
    assert reader.idle


@settings(max_examples=60, deadline=None)
@given(frames.filter(lambda frame: len(frame.body) < 1000))
def test_byte_by_byte(frame: Frame) -> None:
    data = encoded(frame)
    data, rest = data[:500], data[500:]
    reader = FrameReader()
    found = feed(reader, data, [1] * len(data)) + feed(reader, rest)
    assert comparable(found) == comparable([frame])


@settings(max_examples=100, deadline=None)
@given(frames, st.data())
def test_a_part_of_a_frame_is_no_frame(frame: Frame, data: st.DataObject) -> None:
    whole = encoded(frame)
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    reader = FrameReader()
    assert feed(reader, part) == []
    assert reader.idle == (not part)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.booleans(), st.lists(st.integers(1, 50), max_size=20))
def test_garbage_is_refused_or_waited_for(garbage: bytes, with_magic: bool, sizes: list[int]) -> None:
    reader = FrameReader(max_body=1 << 20)
    try:
        feed(reader, wire.MAGIC * with_magic + garbage, sizes)
    except ProtocolError:
        pass


@settings(max_examples=200, deadline=None)
@given(frames, st.integers(0, 60), st.integers(0, 255))
def test_a_changed_byte_never_breaks_the_reader(frame: Frame, place: int, value: int) -> None:
    data = bytearray(encoded(frame))
    data[place % len(data)] = value
    try:
        feed(FrameReader(max_body=1 << 20), bytes(data))
    except ProtocolError:
        pass


def header(**fields: int) -> bytes:
    values: dict[str, int] = dict.fromkeys(HEADER_FIELDS, 0)
    values.update(type=wire.INPUT, count=1)
    values.update(fields)
    return wire.HEADER.pack(wire.MAGIC, *values.values())


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (header(body=1 << 60), "announces"),
        (header(body=wire.MAX_BODY + 1), "announces"),
        (header(nbuf=65535), "65535 buffers"),
        (header(nbuf=wire.MAX_BUFFERS + 1), "buffers"),
        (header(nbuf=2) + struct.pack("<2Q", 1 << 60, 1), "announces"),
        (header(nbuf=2, body=1) + struct.pack("<2Q", wire.MAX_BODY, 0), "announces"),
        (header(nbuf=4096) + struct.pack("<Q", (1 << 64) - 1) * 4096, "announces"),
        (header(type=0), "type 0"),
        (header(type=12), "type 12"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n", "expected a frame"),
        (b"c\x02" + header()[2:], "expected a frame"),
    ],
)
def test_refused_before_memory_is_taken(data: bytes, says: str) -> None:
    tracemalloc.start()
    reader = FrameReader()
    with pytest.raises(ProtocolError, match=says):
        feed(reader, data)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_more_than_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_BODY", 1 << 62)
    with pytest.raises(ProtocolError, match="memory of this machine"):
        feed(FrameReader(max_body=1 << 62), header(body=1 << 61))


def test_a_type_that_has_no_place_on_the_stream() -> None:
    reader = FrameReader(types=frozenset({wire.CONTROL}))
    assert feed(reader, b"".join(wire.control({"op": "x"})))
    with pytest.raises(ProtocolError, match="no place on this stream"):
        feed(reader, header(type=wire.LOG))


def test_buffers_are_received_into_their_own_writable_memory() -> None:
    reader = FrameReader()
    (frame,) = feed(reader, encoded(Frame(wire.RESULT, 0, 1, 1, 0, 0, 7, b"p", [bytearray(b"a" * 400_000)])))
    frame.buffers[0][0] = 0
    assert bytes(frame.buffers[0][:2]) == b"\0a"


def test_buffers_are_sent_without_a_copy() -> None:
    source = bytearray(b"a" * 100_000)
    pieces = wire.encode(wire.RESULT, b"p", buffers=[memoryview(source)])
    source[0] = ord("z")
    assert bytes(pieces[1])[:2] == b"za"


def test_too_much_for_one_frame() -> None:
    with pytest.raises(RequestSizeError, match="5000 buffers"):
        wire.encode(wire.INPUT, buffers=[b""] * 5000)


def test_a_value_with_more_buffers_than_a_frame_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "MAX_BUFFERS", 2)
    value = [bytearray(b"%d" % n * 100_000) for n in range(5)]
    data, buffers = serialization.Encoder().dumps([pickle.PickleBuffer(entry) for entry in value])
    assert len(buffers) == 2
    assert serialization.loads(data, [bytearray(buffer.raw()) for buffer in buffers]) == value


@given(st.lists(small, max_size=50))
def test_items_of_a_batch(items: list[bytes]) -> None:
    assert [bytes(item) for item in wire.unpack_items(wire.pack_items(items), len(items))] == items


@given(st.binary(max_size=100), st.integers(0, 65535))
def test_a_malformed_batch_is_refused(body: bytes, count: int) -> None:
    try:
        items = wire.unpack_items(body, count)
    except ProtocolError:
        return
    assert wire.pack_items([bytes(item) for item in items]) == body


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1)), max_size=20), st.integers(1, 11))
def test_pairs(pairs: list[tuple[int, int]], excess: int) -> None:
    assert wire.unpack_pairs(wire.pack_pairs(pairs)) == pairs
    with pytest.raises(ProtocolError, match="no multiple"):
        wire.unpack_pairs(wire.pack_pairs(pairs) + b"x" * excess)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values), st.text())
def test_control_messages(message: dict[str, Any], op: str) -> None:
    message["op"] = op
    (frame,) = feed(FrameReader(), b"".join(bytes(piece) for piece in wire.control(message)))
    assert wire.parse_control(frame) == message


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"{}", b'{"op":1}', b"\xff\xfe", b"[" * 200_000, b'{"op":"x","n":NaN}', b'"op"']
)
def test_what_is_no_control_message(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="control frame"):
        wire.parse_control(Frame(wire.CONTROL, 0, 1, 0, 0, 0, 0, body))


def test_another_type_is_no_control_message() -> None:
    with pytest.raises(ProtocolError, match="got type 2"):
        wire.parse_control(Frame(wire.LOG, 1, 1, 0, 0, 0, 0, b"text"))


# -- the page that describes all this


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading of the page, without its own head."""
    part = PAGE.read_text().split(f"## {heading}\n", 1)[1]
    found = re.search(r"^\|.*\n\|[-| ]+\n((?:\|.*\n)+)", part, re.MULTILINE)
    assert found, heading
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def test_the_page_has_the_header() -> None:
    sizes = {"s": 1, "B": 1, "H": 2, "I": 4, "Q": 8}
    expected, offset = [], 0
    for count, code in re.findall(r"(\d*)([sBHIQ])", wire.HEADER.format):
        size = sizes[code] * int(count or 1)
        expected.append([str(offset), str(size)])
        offset += size
    rows = table("Header")
    assert [row[:2] for row in rows] == expected
    assert offset == wire.HEADER_SIZE
    assert [row[2].replace("buffers", "nbuf") for row in rows] == ["magic", *HEADER_FIELDS]


def test_the_page_has_the_types() -> None:
    assert {row[1]: int(row[0]) for row in table("Types")} == TYPES


def test_the_page_has_the_statuses() -> None:
    named = {"OK": wire.OK, "ERROR": wire.ERROR, "CANCELLED": wire.CANCELLED, "END": wire.END}
    assert {row[1]: int(row[0]) for row in table("Statuses")} == named


def test_the_page_has_the_limits() -> None:
    from cloudfn import auth, head

    limits = {
        "MAX_BODY": wire.MAX_BODY,
        "MAX_CONTROL": wire.MAX_CONTROL,
        "MAX_BUFFERS": wire.MAX_BUFFERS,
        "MAX_HEAD": head.MAX_HEAD,
        "NONCE_SIZE": auth.NONCE_SIZE,
        "KEY_SIZE": auth.KEY_SIZE,
    }
    assert {row[0]: int(row[1].replace(",", "")) for row in table("Limits")} == limits


def test_the_page_has_every_operation() -> None:
    """The operations that the code sends or takes are those of the page."""
    root = PAGE.parent.parent
    assert sorted(row[0] for row in table("What a client says")) == sorted(clients._REQUESTS)
    said = set()
    for name in ("agent", "clients", "workforce", "drain", "placement", "relays", "sessions"):
        text = (root / f"bootstrap/cloudfn_agent/{name}.py").read_text()
        said |= set(re.findall(r'(?:\.send\(|show\((?:[\w.]+, )?|message = )\s*\{\s*"op": "(\w+)"', text))
    said -= {"lease", "cancel"}  # what it tells workers
    assert sorted(row[0] for row in table("What the agent says")) == sorted(said)
