"""How many inputs a client sends to a worker before it has answered."""

from __future__ import annotations

import pytest

from cloudfn import wire
from cloudfn.client.call import Call, Input
from cloudfn.client.lease import Lease
from cloudfn.client.reactor import Reactor
from cloudfn.client.site import Site
from cloudfn.shared import Segments


def of_web(capacity: int, seconds: float) -> Lease:
    """A worker whose requests have taken so long."""
    site = Site(Reactor(), None, "unix:/nowhere", b"", Segments("", ""))  # type: ignore[arg-type]
    lease = Lease(site, "token", "w1", capacity, 0, False, True)
    lease.note(
        wire.Frame(wire.RESULT, wire.OK, items=1, first=0, call=1, body=b"", seq=1, ack=int(seconds * 1e6)), now=0.0
    )
    return lease


def fill(lease: Lease, count: int) -> None:
    lease.sent([Input(Call(), index, 0, b"", ()) for index in range(count)], now=0.0)


@pytest.mark.parametrize(
    ("seconds", "most"), [(0.0001, 11), (0.0005, 9), (0.001, 5), (0.003, 5), (0.01, 3), (0.03, 1), (5.0, 1)]
)
def test_the_longer_requests_take_the_fewer_lie_behind_one(seconds: float, most: int) -> None:
    assert of_web(1, seconds).room(0.0) == most


def test_short_requests_go_in_groups() -> None:
    lease = of_web(1, 0.0001)
    rooms = []
    for _ in range(11):
        rooms.append(lease.room(0.0))
        fill(lease, 1)
    assert rooms == [11, 10, 9, 8, 7, 6, 0, 0, 0, 0, 0]
    assert lease.room(0.0) == 0


def test_a_worker_that_does_not_answer_gets_no_more() -> None:
    lease = of_web(1, 0.0001)
    fill(lease, 1)
    assert lease.room(0.001) == 10
    assert lease.room(0.003) == 0


def test_whoever_takes_many_requests_at_a_time_is_filled_up() -> None:
    """They may take minutes each: the last place is as good as the first."""
    lease = of_web(16, 0.0001)
    for taken in range(16):
        assert lease.room(0.0) == 16 - taken
        fill(lease, 1)
    assert lease.room(0.0) == 0
