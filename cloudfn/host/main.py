"""Start of the host's process: `python -m cloudfn.host.main`, by the provider or by systemd."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys

from cloudfn import event_loop
from cloudfn.deployments import HasHost, HostSeat
from cloudfn.provider import HasMachine
from cloudfn.registry import provider


def main() -> int:
    """Serve until told to stop. Returns an exit code."""
    place = provider()
    if not isinstance(place, HasHost) or not isinstance(place, HasMachine):
        print(f"the provider {type(place).__name__} has no host", file=sys.stderr)
        return 2
    seat = place.take_host_seat()
    if seat is None:
        print("another host of this user runs already", file=sys.stderr)
        return 0
    loop = event_loop.new()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_serve(seat, place))
        loop.run_until_complete(_end_rest())
    finally:
        seat.leave()
    return 0


async def _serve(seat: HostSeat, place: HasMachine) -> None:
    from cloudfn.host.host import Host

    host = Host(seat, place)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.leave_soon)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal closes, and we stay
    await host.open()
    gc.freeze()
    seat.ready()
    await host.ended.wait()


async def _end_rest() -> None:
    """What is left when the host has ended: a task that waits for nobody any more."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(main())
