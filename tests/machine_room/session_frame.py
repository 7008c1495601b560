"""Frames of a session's data channel, as AWS's session-manager-plugin and the agent on a machine exchange them.

The layout is that of the plugin's `src/message`: a head of 116 bytes, the payload's length, the payload.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

INPUT, OUTPUT, ACKNOWLEDGE, CLOSED = "input_stream_data", "output_stream_data", "acknowledge", "channel_closed"
"""Kinds of frames: from the plugin, to it, both, to it."""
DATA, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE = 1, 5, 6, 7
"""Kinds of payloads, in frames of data."""
LARGEST = 1024
"""Bytes of data in a frame."""
_HEAD = struct.Struct(">I32sIQqQ16s32sII")
_HEAD_SIZE = _HEAD.size - 4  # what it says of itself: without the payload's length
_ONE_OF_ONE = 3  # flags: the first of its sequence, and the last


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        kind: one of the kinds of frames.
        number: in the sequence of its direction.
        payload_type: one of the kinds of payloads.
    """

    kind: str
    number: int
    payload: bytes
    payload_type: int = 0
    flags: int = 0
    id: uuid.UUID = field(default_factory=uuid.uuid4)

    def packed(self) -> bytes:
        digest = hashlib.sha256(self.payload).digest()
        half = self.id.bytes[8:] + self.id.bytes[:8]  # the lower half comes first
        head = (_HEAD_SIZE, self.kind.ljust(32).encode(), 1, int(time.time() * 1000), self.number, self.flags)
        return _HEAD.pack(*head, half, digest, self.payload_type, len(self.payload)) + self.payload

    def json(self) -> Any:
        return json.loads(self.payload)


def parse(data: bytes) -> Frame:
    """A frame from the wire.

    Raises:
        ValueError: it is not whole, or not what its digest says.
    """
    try:
        size, kind, schema, _, number, flags, half, digest, payload_type, length = _HEAD.unpack_from(data)
    except struct.error as error:
        raise ValueError(str(error)) from None
    payload = data[_HEAD.size :]
    if (size, schema, length) != (_HEAD_SIZE, 1, len(payload)) or hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"not a whole frame: {data[:80]!r}")
    id = uuid.UUID(bytes=half[8:] + half[:8])
    return Frame(kind.decode().strip(" \0"), number, payload, payload_type, flags, id)


def acknowledgement(frame: Frame) -> Frame:
    """Of a frame of data."""
    content = {
        "AcknowledgedMessageType": frame.kind,
        "AcknowledgedMessageId": str(frame.id),
        "AcknowledgedMessageSequenceNumber": frame.number,
        "IsSequentialMessage": True,
    }
    return Frame(ACKNOWLEDGE, 0, json.dumps(content).encode(), flags=_ONE_OF_ONE)
