"""`make room`: a room to play in, until its shell ends."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from machine_room.room import Room

_HELP = """
This shell is in a room of the account 123456789012 (region us-east-1). Its keys are in the environment, so that

    cloudfn up app.py --yes && cloudfn run app.py

works as in the real one, and machines are booted on this machine. The API is at {endpoint}
(AWS_ENDPOINT_URL); what happens is in {log}. `exit` ends it, and powers everything off.
"""
_SETTINGS = """\
provider = "aws"
regions = ["us-east-1"]

[network]
road = "ssh"
ssh_from = ["{host}/32"]

[state]
backend = "file"
"""


def main() -> int:
    """Starts it, with a folder that has settings and an example."""
    with Room() as room, tempfile.TemporaryDirectory(prefix="room-") as name:
        folder = Path(name)
        (folder / "cloudfn.toml").write_text(_SETTINGS.format(host=room.network.host))
        example = Path(__file__).parents[2] / "examples" / "hello.py"
        (folder / "app.py").write_text(example.read_text())
        log = room.events.write_to(folder / "events.log")
        room.clock.start()
        print(_HELP.format(endpoint=room.endpoint, log=log), flush=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{room.environment['PATH']}"
        shell = os.environ.get("SHELL", "/bin/sh")
        subprocess.run([shell], cwd=folder, env={**room.environment, "PATH": path}, check=False)
    return 0


sys.exit(main())
