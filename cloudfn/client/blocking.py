"""`f.remote(x)`: the caller's own thread writes to a leased worker and reads the answer, where it can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Mapping

from cloudfn import execution, serialization, wire
from cloudfn.client.call import Call, Input, Outcome, cancelled_by_worker, new_call_id
from cloudfn.client.lending import GRACE
from cloudfn.exception import ConnectionError

if TYPE_CHECKING:
    from cloudfn.client.dispatch import Dispatcher
    from cloudfn.client.lease import Lease
    from cloudfn.client.session import Session
    from cloudfn.client.target import Target


def call_blocking(
    session: Session, dispatcher: Dispatcher, target: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Run one input and wait. Raises what it raises."""
    data, buffers = session.encoders.arguments(target, args, kwargs)
    method = dispatcher.methods[target.method]
    lease = dispatcher.take()
    if lease is None:
        call = Call()
        item = Input(call, 0, method, data, buffers)
        session.reactor.call(dispatcher.submit, [item])
        return wait_for_one(session, dispatcher, call).value()
    call_id = new_call_id()
    pieces = lease.segments.encode(wire.INPUT, data, buffers, flags=method, ack=lease.seq, call=call_id)
    try:
        # A worker that waits for long must lend its slot, and for that the reactor must read the lease.
        frame = lease.exchange(pieces, GRACE if execution.in_worker else None)
    except ConnectionError:
        frame = None
    except BaseException:  # Ctrl-C, or a cancellation: the input must not go on without us
        hand_over(session, dispatcher, lease, call_id, method, data, buffers, cancelled=True)
        raise
    if frame is None:
        call = hand_over(session, dispatcher, lease, call_id, method, data, buffers)
        return wait_for_one(session, dispatcher, call).value()
    lease.received_direct(frame)
    if not frame.items:
        frame = lease.segments.open(frame)
    if frame.flags == wire.OK:
        dispatcher.give_back(lease, True)
        return serialization.loads(frame.body, frame.buffers)
    dispatcher.give_back(lease, False)
    if frame.flags == wire.ERROR and dispatcher.spec.retries:
        call = Call()
        item = Input(call, 0, method, data, buffers)
        session.reactor.call(dispatcher.retry, item, Outcome(frame.flags, frame.body))
        return wait_for_one(session, dispatcher, call).value()
    if frame.flags == wire.CANCELLED:
        raise cancelled_by_worker()
    return Outcome(frame.flags, frame.body, frame.buffers).value()


def hand_over(
    session: Session,
    dispatcher: Dispatcher,
    lease: Lease,
    call_id: int,
    method: int,
    data: bytes,
    buffers: Any,
    cancelled: bool = False,
) -> Call:
    """Leave an exchange that did not end to the reactor."""
    call = Call()
    call.id = call_id
    call.cancelled = cancelled
    item = Input(call, 0, method, data, buffers)
    if cancelled:
        session.reactor.call_if_open(dispatcher.rescue, lease, item)
    else:
        session.reactor.call(dispatcher.rescue, lease, item)
    return call


def wait_for_one(session: Session, dispatcher: Dispatcher, call: Call) -> Outcome:
    """Wait for the outcome of a call's only input; cancels it when the wait is interrupted."""
    try:
        wait_until(session, dispatcher, call, lambda: 0 in call.outcomes)
    except BaseException:  # Ctrl-C, or a cancellation
        session.cancel(dispatcher, call)
        raise
    return call.outcomes[0]


def wait_until(session: Session, dispatcher: Dispatcher, call: Call, ready: Any, timeout: float | None = None) -> bool:
    """Wait until `ready()` holds, which is asked after each change of the call; in a worker, lend the slot meanwhile.

    Args:
        timeout: seconds, None for ever.
    """
    if not execution.in_worker:
        with call.changed:
            return bool(call.changed.wait_for(ready, timeout))
    with call.changed:
        if call.changed.wait_for(ready, GRACE if timeout is None else min(timeout, GRACE)):
            return True
    with session.lender.lent(call, dispatcher), call.changed:
        return bool(call.changed.wait_for(ready, timeout))
