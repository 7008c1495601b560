"""What a spare process does while nobody needs it: it serves one input of its own making.

After that the memory which a worker writes to is its own copy, so that its first real input does not wait for the
kernel to make these copies, a page at a time.
"""

from __future__ import annotations

import mmap
import signal
import socket
from dataclasses import replace
from typing import Any

from cloudfn import execution
from cloudfn.definition import Definition
from cloudfn.serialization import Encoder
from cloudfn.shared import Segments
from cloudfn.spec import FunctionSpec, MethodSpec
from cloudfn.wire import INPUT, RESUME, encode
from cloudfn_agent.channel import Channel
from cloudfn_agent.serial import SerialWorker
from cloudfn_agent.slots import SIZE, SlotWriter
from cloudfn_agent.work import Work


def rehearse(spec: FunctionSpec) -> None:
    """`spec`: of any function; what it runs is not run."""
    agent, worker = map(Channel, socket.socketpair())
    client, connection = socket.socketpair()

    def last(value: Any) -> Any:
        agent.send({"op": "stop", "interrupt": False, "preempt": False})
        return value

    handler = signal.getsignal(signal.SIGUSR1)
    slot = mmap.mmap(-1, SIZE)
    with client:
        with connection:
            agent.send({"op": "lease", "lease": ""}, [connection.fileno()])
        payload, _ = Encoder().dumps(((0,), {}))
        client.sendall(b"".join((*encode(RESUME), *encode(INPUT, payload))))
        spec = replace(spec, is_class=False, methods=(MethodSpec("last"),))
        definition = Definition(last, {"last": last})
        SerialWorker(Work("", spec, definition, None, worker, SlotWriter(slot, 0), Segments("", ""))).run()
    signal.signal(signal.SIGUSR1, handler)
    execution.alone = None
    agent.close()
    worker.close()
