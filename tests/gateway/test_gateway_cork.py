"""What is written to a connection leaves whole, in order, and together where it can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cloudfn.gateway.cork import Cork


class Transport:
    def __init__(self) -> None:
        self.seen: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.seen.append(data)

    def close(self) -> None:
        self.seen.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.seen

    def get_extra_info(self, name: str) -> str:
        return f"the {name}"


@pytest.mark.parametrize(
    ("writes", "seen"),
    [
        ([b"head"], [b"head"]),
        ([b"head", b"body"], [b"headbody"]),
        ([b"head", b"body", b"more"], [b"headbody", b"more"]),
        ([b"head", bytes(5000)], [b"head", bytes(5000)]),
        ([b"head", None, b"body"], [b"head", b"body"]),
        ([b"head", "close"], [b"head", "closed"]),
        (["close"], ["closed"]),
    ],
)
def test_writes_leave_in_order(writes: list[Any], seen: list[Any]) -> None:
    async def work() -> list[Any]:
        transport = Transport()
        cork = Cork(transport, asyncio.get_running_loop())  # type: ignore[arg-type]
        for data in writes:
            if data is None:
                await asyncio.sleep(0)
            elif data == "close":
                cork.close()
                assert cork.is_closing()
            else:
                cork.write(data)
        await asyncio.sleep(0)
        assert cork.get_extra_info("peer") == "the peer"
        return transport.seen

    assert asyncio.run(work()) == seen
