"""Roads through a proxy command: each connection has a ticket of its own, which nobody sees and which is given back."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from cloudfn.exception import ConnectionError, PermissionDeniedError
from cloudfn.road.destination import Destination, Ticket
from cloudfn.road.login import login
from road.conftest import Place
from road.test_road import PATIENCE, dial, echoes

RELAY = """
import os, socket, threading
far = socket.create_connection(("127.0.0.1", int(os.environ["RELAY_PORT"])))
open(os.environ["RELAY_PID"], "w").write(str(os.getpid()))
def back():
    while data := far.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    far.sendall(data)
"""


class Tickets:
    """Counts tickets; the first `refusals` are refused."""

    def __init__(self, place: Place, folder: Path, *refusals: Exception) -> None:
        self.pid = folder / "pid"
        self.environment = {"RELAY_PORT": str(place.server.port), "RELAY_PID": str(self.pid)}
        self.refusals = list(refusals)
        self.given = 0
        self.back = threading.Semaphore(0)

    def __call__(self) -> Ticket:
        if self.refusals:
            raise self.refusals.pop(0)
        self.given += 1
        return Ticket(self.environment, self.back.release, "look at the proxy")

    def are_back(self) -> bool:
        """Waits until all are."""
        return all(self.back.acquire(timeout=PATIENCE) for _ in range(self.given)) and not self.back.acquire(False)


def through(place: Place, tickets: Tickets, relay: str = RELAY) -> Destination:
    return place.destination(address="", port=22, proxy=(sys.executable, "-c", relay), ticket=tickets)


def test_a_ticket_lets_one_connection_in(place: Place, tmp_path: Path) -> None:
    tickets = Tickets(place, tmp_path)
    tunnel = place.road.open(through(place, tickets))
    with dial(tunnel) as sock:
        assert echoes(sock)
    relay = psutil.Process(int(tickets.pid.read_text()))
    assert not any(str(tickets.pid) in word for word in relay.cmdline())
    tunnel.close()
    tunnel.close()
    assert tickets.are_back()
    assert tickets.given == 1
    relay.wait(PATIENCE)


def test_each_attempt_has_one(place: Place, tmp_path: Path) -> None:
    tickets = Tickets(place, tmp_path, ConnectionError("not yet"))
    place.road.open(through(place, tickets)).close()
    assert tickets.given == 1 and not tickets.refusals
    assert tickets.are_back()


def test_who_is_refused_one_is_told_at_once(place: Place, tmp_path: Path) -> None:
    with pytest.raises(PermissionDeniedError, match="not you"):
        place.road.open(through(place, Tickets(place, tmp_path, PermissionDeniedError("not you"))))


def test_where_nothing_comes_through_the_ticket_knows_what_to_look_at(place: Place, tmp_path: Path) -> None:
    tickets = Tickets(place, tmp_path)
    with pytest.raises(ConnectionError) as failure:
        place.road.open(through(place, tickets, "pass"), patience=0.1)
    assert failure.value.hint == "look at the proxy"
    assert tickets.are_back()


def test_the_end_of_the_proxy_is_the_end_of_the_tunnel(place: Place, tmp_path: Path) -> None:
    cut = threading.Event()
    tickets = Tickets(place, tmp_path)
    tunnel = place.road.open(through(place, tickets), lambda reason: cut.set())
    os.kill(int(tickets.pid.read_text()), signal.SIGKILL)
    assert cut.wait(PATIENCE)
    assert not tunnel.is_open
    assert tickets.are_back()


def test_people_log_in_with_one(openssh: Place, tmp_path: Path) -> None:
    tickets = Tickets(openssh, tmp_path)
    login(through(openssh, tickets), openssh.identity, ["true"])
    assert tickets.pid.exists()
    assert tickets.given == 1 and tickets.are_back()
