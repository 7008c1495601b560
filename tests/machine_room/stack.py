"""A stack that is up in a room, and its users' programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping, Sequence

from machine_room.identity import Principal
from machine_room.room import Room

CLAIM_TTL = 12.0
"""Seconds."""
FOREVER = 10_000_000
"""Seconds that a client waits for a first machine: tests let hours pass in the cloud."""
_DRIVER = Path(__file__).with_name("driver.py")
SETTINGS = """\
provider = "aws"
regions = ["us-east-1"]
idle_timeout = {idle}
spot = "{spot}"

[network]
{network}

[state]
backend = "file"
"""


@dataclass
class Stack:
    """What `cloudfn up` made of an app.

    Attributes:
        folder: the project's.
        outputs: of the stack.
        user: somebody who may call, and nothing else.
        since: the day on which it came up.
        clients: all that were started.
    """

    room: Room
    folder: Path
    file: str
    outputs: dict[str, Any]
    user: Principal
    since: str
    clients: list[Client] = field(default_factory=list)
    _started: int = 0

    @property
    def url(self) -> str:
        return str(self.outputs["controller_url"])

    @property
    def agent(self) -> str:
        """SHA-256 of the agent's bundle."""
        listed = self.room.client("s3").list_objects_v2(Bucket=self.outputs["bucket"], Prefix="agent/")
        (found,) = listed["Contents"]
        return str(found["Key"]).removeprefix("agent/")

    @property
    def groups(self) -> list[str]:
        """Names in the plan, in the order in which the functions want them, which is the same for all."""
        store = self.room.client("s3")
        said = json.loads(store.get_object(Bucket=self.outputs["bucket"], Key="stack.json")["Body"].read())
        (groups,) = {tuple(place["groups"]) for place in said["functions"].values()}
        return list(groups)

    def described(self) -> list[dict[str, Any]]:
        """The groups, as AWS has them."""
        names = [group["name"] for group in self.outputs["groups"].values()]
        api = self.room.client("autoscaling")
        found: list[dict[str, Any]] = api.describe_auto_scaling_groups(AutoScalingGroupNames=names)["AutoScalingGroups"]
        return found

    def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The controller, as the user."""
        return self.room.ask(self.url, self.user, kind=kind, **fields)

    def machines(self) -> list[dict[str, Any]]:
        """As the controller sees them."""
        return [machine for machine in self.ask("machines")["machines"] if machine["state"] != "gone"]

    def client(self, user: Principal | None = None, **settings: Any) -> Client:
        """A user's program, started.

        Args:
            user: whose; by default `user`.
            settings: of its own, beside those that the stack was made with.
        """
        self._started += 1
        made = Client(self, f"{self.outputs['plan']['app']}-client-{self._started}", user or self.user, settings)
        self.clients.append(made)
        return made

    def is_at_zero(self) -> bool:
        return not self.room.living() and all(
            group["DesiredCapacity"] == 0 and not group["Instances"] for group in self.described()
        )


def up(
    room: Room,
    folder: Path,
    code: str,
    *,
    file: str = "app.py",
    idle: float = 5,
    spot: str = "never",
    road: str = "ssh",
    more: str = "",
) -> Stack:
    """Deploys an app with `cloudfn up`.

    Args:
        code: of the app's file.
        idle: seconds until a machine that does nothing goes.
        road: how callers reach machines; "helper" takes `Room.install_session_plugin`.
        more: at the end of its settings.
    """
    (folder / file).write_text(code)
    network = f'road = "{road}"' + (f'\nssh_from = ["{room.network.host}/32"]' if road == "ssh" else "")
    text = SETTINGS.format(idle=idle, spot=spot, network=network) + more
    (folder / "cloudfn.toml").write_text(text)
    room.cloudfn("up", file, "--yes", folder=folder)
    command = [sys.executable, "-m", "cloudfn", "outputs", file, "--json"]
    done = subprocess.run(command, cwd=folder, env=room.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout)
    stack = str(outputs["plan"]["app"])
    return Stack(room, folder, file, outputs, room.caller(f"{stack}-user", outputs["roles"]["call"]), room.today())


class Client:
    """A user's program, running. What it prints and what its calls bring are events of the room, about its name."""

    def __init__(self, stack: Stack, name: str, user: Principal, settings: Mapping[str, Any]) -> None:
        self.name = name
        self._room = stack.room
        self._number = 0
        self.killed = False
        self.printed: list[str] = []
        state = stack.folder / f"state-{name}"
        state.mkdir(exist_ok=True)
        environment = stack.room.environment_of(user) | {"CLOUDFN_STATE_DIR": str(state)}
        folder = stack.folder / name
        folder.mkdir()
        shutil.copy(stack.folder / stack.file, folder)
        settings = {"machine_timeout": FOREVER, **settings}
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (folder / "cloudfn.toml").write_text(lines + (stack.folder / "cloudfn.toml").read_text())
        self._process = subprocess.Popen(
            [sys.executable, str(_DRIVER), stack.file, str(CLAIM_TTL)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        if any(error):
            print(f"what {self.name} printed:", *self.printed[-60:], sep="\n")
            self.kill()
        else:
            self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("::"):
                self._room.events.add("client", self.name, **json.loads(line[2:]))
            else:
                self.printed.append(line.rstrip("\n"))
                self._room.events.add("printed", self.name, line=line.rstrip("\n"))
        self._room.events.add("client-ended", self.name, code=self._process.wait())

    def _send(self, **words: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def call(self, function: str, *args: Any) -> int:
        """Begins a call; its number, for `result`."""
        self._number += 1
        self._send(id=self._number, call=function, args=args)
        return self._number

    def map(self, function: str, inputs: Sequence[Any]) -> int:
        self._number += 1
        self._send(id=self._number, map=function, args=list(inputs))
        return self._number

    def answered(self, number: int) -> bool:
        return any(event.detail.get("id") == number for event in self._room.events.all("client", self.name))

    def outcome(self, number: int, seconds: float = 120) -> dict[str, Any]:
        """What a call brought: {"result"} or {"error", "text"}.

        Raises:
            TimeoutError: nothing.
        """
        return dict(self._room.wait_for("client", self.name, seconds=seconds, id=number).detail)

    def result(self, number: int, seconds: float = 120) -> Any:
        found = self.outcome(number, seconds)
        assert "result" in found, found
        return found["result"]

    def has_printed(self, text: str, seconds: float = 120) -> None:
        """Waits for a line with this in it."""
        what = f"{self.name} never printed {text!r}"
        self._room.wait_until(lambda: self.times_printed(text) or not self.runs, seconds, what)
        assert self.times_printed(text), f"{what}, and has ended"

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def calls(self) -> range:
        """Numbers of all that it has begun."""
        return range(1, self._number + 1)

    def times_printed(self, text: str) -> int:
        return sum(text in line for line in list(self.printed))

    def kill(self) -> None:
        """kill -9."""
        self.killed = True
        self._process.kill()
        self._process.wait()

    def close(self, seconds: float = 60) -> None:
        """Its app's session ends, and so does it."""
        if self._process.poll() is None:
            self._send(close=True)
            self._process.wait(seconds)
        self._reader.join(seconds)
