"""Calls in the background: start many, gather them, give up waiting, retry what fails, cancel.

    cloudfn run examples/spawn_gather.py

`--attempts-file` is where the failing function counts its attempts (default: a temporary file).
"""

import tempfile
import time
from pathlib import Path

import cloudfn

app = cloudfn.App("spawn-gather")


@app.function()
def cube(x: int) -> int:
    return x**3


@app.function(retries=cloudfn.Retries(max_retries=3, initial_delay=0.0, backoff_coefficient=1.0))
def flaky(attempts_file: str, failures: int) -> str:
    """Fails `failures` times, then works. A file counts, because a retry may run in another worker."""
    with open(attempts_file, "a") as file:
        file.write("x")
    attempt = Path(attempts_file).stat().st_size
    if attempt <= failures:
        raise ConnectionError(f"attempt {attempt} failed")
    return f"worked at attempt {attempt}"


@app.function(timeout=120)
def sleep(seconds: float) -> None:
    time.sleep(seconds)


def run(attempts_file: str) -> None:
    calls = [cube.spawn(x) for x in range(6)]
    print("gathered:", list(cloudfn.FunctionCall.gather(*calls)))
    again = cloudfn.FunctionCall.from_id(calls[3].object_id)
    print("found again by its id:", again.get())

    print("flaky:", flaky.remote(attempts_file, failures=2))
    print("attempts counted:", Path(attempts_file).stat().st_size)
    try:
        flaky.remote(attempts_file, failures=100)
    except ConnectionError as error:
        print("out of retries:", error)

    began = time.monotonic()
    call = sleep.spawn(100.0)
    try:
        call.get(timeout=0.2)
    except TimeoutError:
        print("not done after 0.2 s")
    call.cancel()
    try:
        call.get()
    except cloudfn.exception.CallCancelledError as error:
        print("cancelled:", type(error).__name__)
    print("ended early:", time.monotonic() - began < 60)


@app.local_entrypoint()
def main(attempts_file: str = "") -> None:
    if attempts_file:
        run(attempts_file)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(str(Path(folder) / "attempts"))
