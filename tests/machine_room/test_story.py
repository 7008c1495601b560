"""The whole story, once: from nothing to a result on a machine that did not exist, and back to nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from machine_room import stack as stacks
from machine_room.room import Room

pytestmark = [
    pytest.mark.machine,
    pytest.mark.slow,
    pytest.mark.xdist_group("machine-room-story"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

APP = """\
import platform

import cloudfn

app = cloudfn.App("shop")


@app.function(cpu=1, max_containers=2)
def square(x):
    print(f"squaring {x} on {platform.node()}")
    return x * x


@app.local_entrypoint()
def main(x: int = 7):
    print("the result is", square.remote(x))
"""


def test_a_call_brings_a_machine_to_life_and_leaves_nothing_behind(room: Room, tmp_path: Path) -> None:
    room.clock.start()  # the schedule that wakes the controller

    # `cloudfn up` makes a group at size zero: nothing runs, nothing costs.
    shop = stacks.up(room, tmp_path, APP, file="shop.py", idle=5)
    assert shop.is_at_zero()

    # A user who may call, and nothing else, runs the app. A machine appears, boots, and the agent takes the call.
    mark = room.events.mark()
    said = room.cloudfn("run", "shop.py", folder=tmp_path, who=shop.user)
    machine = room.wait_for("in-service", since=mark).about
    assert f"squaring 7 on {machine}" in said  # logs stream back
    assert "the result is 49" in said  # and so does the result
    assert re.search(r"boot \d", said), said  # and how long each stage took

    # The laptop is closed: nobody is there but the machine and the controller. A quiet while later it is gone.
    room.wait_for("terminated", machine, seconds=60)
    room.wait_until(shop.is_at_zero, what="the group is not at zero")

    # What it cost is known, and who spent it; the bill says the same.
    cost = room.cloudfn("cost", "--app", "shop", "--json", folder=tmp_path, who=shop.user)
    assert "square" in cost
    rows = shop.ask("ledger", since=room.today(), until=room.today())["rows"]
    assert sum(row["seconds"] for row in rows) == pytest.approx(room.machine_seconds(), rel=0.01)

    # `down` leaves nothing.
    room.clock.stop()
    room.cloudfn("down", "shop.py", "--yes", folder=tmp_path)
    assert not room.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert not room.client("s3").list_buckets()["Buckets"]


TWO_GROUPS = """\
import platform

import cloudfn

app = cloudfn.App("mill")


@app.function(cpu=4, memory=16384, max_containers=2)
def square(x):
    print(f"squaring {x} on {platform.node()}")
    return x * x


@app.function(cpu=1, max_containers=2)
def outer(upto):
    print(f"mapping on {platform.node()}")
    return list(square.map(range(upto)))


@app.local_entrypoint()
def main():
    print("the result is", outer.remote(4))
"""


def test_code_on_a_machine_calls_functions_of_another_group(room: Room, tmp_path: Path) -> None:
    mill = stacks.up(room, tmp_path, TWO_GROUPS, file="mill.py", idle=5)
    assert len(mill.described()) == 2
    said = room.cloudfn("run", "mill.py", folder=tmp_path, who=mill.user)
    assert "the result is [0, 1, 4, 9]" in said
    (near,) = set(re.findall(r"mapping on (i-\w+)", said))
    far = re.findall(r"squaring \d on (i-\w+)", said)
    assert len(far) == 4 and near not in far
    room.cloudfn("down", "mill.py", "--yes", folder=tmp_path)
