"""Run as a program by an image's own interpreter: one function of `Image.run_function`.

Arguments: the folder to import cloudfn from, the file of the pickled call, further entries for `sys.path`.
"""

import sys

sys.path[0:1] = sys.argv[1:2] + sys.argv[3:]  # the first entry was this file's folder

import os  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402


def follow_builder() -> None:
    """End with the process that builds: its end of our stdin closes, however it goes. User code gets an empty one."""
    builder = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def wait() -> None:
        os.read(builder, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(pickle_path: str) -> None:
    import inspect
    import pickle

    import cloudfn.execution

    cloudfn.execution.in_worker = True
    function, args, kwargs = pickle.loads(Path(pickle_path).read_bytes())  # noqa: S301 - made by the same user
    result = function(*args, **kwargs)
    if inspect.isawaitable(result):
        import asyncio

        async def wait() -> None:
            await result

        asyncio.run(wait())


if __name__ == "__main__":
    follow_builder()
    main(sys.argv[2])
