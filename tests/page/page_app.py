"""The app that the page's tests deploy."""

from __future__ import annotations

import os
import time
from pathlib import Path

import cloudfn

app = cloudfn.App("shop")
SCRIPT = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>'


@app.function(max_containers=1)
def work(path: str) -> str:
    """Begins, and waits for a file."""
    Path(path + ".begun").touch()
    while not Path(path).exists():
        time.sleep(0.01)
    return path


@app.function()
def say(text: str) -> str:
    print(text)
    return text


@app.function()
def flood(count: int) -> int:
    for i in range(count):
        print("line", i)
    return count


@app.function()
def fail(text: str) -> None:
    raise ValueError(text)


@app.function()
def die(path: str) -> str:
    if not Path(path).exists():
        os._exit(3)
    return "mended"


@app.function(schedule=cloudfn.Cron("0 2 * * *", timezone="Europe/Paris"))
def nightly() -> None:
    print("it is two in the morning in Paris")


@app.function(secrets=[cloudfn.Secret.from_dict({"TOKEN": "swordfish"})])
def token() -> str:
    return os.environ["TOKEN"]
