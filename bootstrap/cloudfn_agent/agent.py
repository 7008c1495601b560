"""The agent: one process on a machine, which starts workers, leases them to clients, and ends them.

It decides nothing twice: `pump` looks at one pool and does what its state asks for, after every event.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any, Iterable, Mapping

from cloudfn.door import Door, Handler, answer, upgraded
from cloudfn.shared import remove_files_of
from cloudfn.wire import Printed
from cloudfn_agent import builds, mounts, status
from cloudfn_agent import pool as pools
from cloudfn_agent.activity import Watch
from cloudfn_agent.blobs import Blobs
from cloudfn_agent.channel import Message
from cloudfn_agent.clients import Client
from cloudfn_agent.config import Config
from cloudfn_agent.drain import Drain
from cloudfn_agent.early import EarlyZygote
from cloudfn_agent.functions import Functions
from cloudfn_agent.metrics import render_metrics
from cloudfn_agent.nursery import House
from cloudfn_agent.parking import Parking
from cloudfn_agent.placement import Placement
from cloudfn_agent.pool import Lease, Pool, Request, Resumption, State, Worker
from cloudfn_agent.relays import Relays
from cloudfn_agent.sessions import Sessions, scoped
from cloudfn_agent.storage import Storage
from cloudfn_agent.users import Users
from cloudfn_agent.warden import Warden
from cloudfn_agent.workforce import CANCELLED, Workforce

_UNSERVED = 0.5  # seconds that a request for a worker waits before its client hears that there is no room
_MAX_DEATHS = 1000  # that are remembered, for clients that come back to a lease which has ended


class Agent:
    """Everything that happens on this machine, on one event loop."""

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        owner: socket.socket | None,
        warden: Warden,
        early: list[EarlyZygote],
    ) -> None:
        self.config = config
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        users = Users(Path(config.homes)) if config.homes else None
        folder, shared = config.folder, config.shared
        house = House(config.address, folder, config.runtime, shared, mounts.wrap, early, config.storage, users)
        self._workforce = Workforce(house, self, warden, config.exit_patience)
        self.functions: Functions = Functions()
        self._pools = self.functions.pools
        self._leases: dict[str, Lease] = {}
        self._deaths: dict[str, dict[str, Any]] = {}  # leases that ended with their worker -> why
        self._clients: set[Client] = set()
        self._parking = Parking()
        self._storage = Storage(config.storage)
        self._stop_timers: dict[Pool, asyncio.TimerHandle] = {}
        self._told: dict[tuple[str, str], tuple[int, int]] = {}  # see `note_counts`
        self._sessions = Sessions(self.functions, self._workforce, config, self.on_session_over)
        self._placement = Placement(
            self._pools, self._workforce, config.cores, config.memory, self._recall, config.gpus
        )
        self._relays = Relays(self.functions, self._sessions, self._worker_named)
        self._drain = Drain(self._workforce, self._leases, lambda: self._clients, self._recall, config.exit_patience)
        self.watch = Watch(self._pools)
        self._paused = False
        self._unserved: set[Pool] = set()  # with requests and no room for a worker, see `_tell_full`
        self._closing = False
        self._kill_timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        handlers: dict[str, Handler] = {
            "/control": self._on_control,
            "/lease": self._on_lease,
            "/storage": self._storage.serve,
            "/relay": self._relays.serve,
        }
        if config.store:
            blobs = Blobs(Path(config.store))
            handlers["/blob"] = blobs.serve
            self.watch.others.append(blobs)
            if config.build:
                made = builds.Builds(config.build, blobs)
                handlers["/build"] = made.serve
                self.watch.others.append(made)
        self._door = Door(
            listener,
            self._key_for,
            pages={"/healthz": lambda: "ok\n"},
            private_pages={"/metrics": self.metrics},
            handlers=handlers,
            workers_handlers=frozenset({"/control", "/lease", "/storage", "/relay"}),
        )

    def open(self) -> None:
        """Serve, until `ended` is set."""
        self._door.open()
        if self._owner is not None:
            self._loop.add_reader(self._owner, self._on_owner_gone)
        self._check_idle()

    # -- clients

    def _key_for(self, parameters: Mapping[str, str]) -> bytes | None:
        """What a peer must hold: the environment's key, or, for a worker, one of its own that is good for less."""
        name = parameters.get("worker", "")
        if not name:
            return self.config.key
        worker = self._worker_named(name)
        return worker.door_key if worker else None

    async def _on_control(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        worker = self._worker_named(parameters.get("worker", ""))
        if parameters.get("worker") and worker is None:  # it has ended meanwhile
            sock.close()
            return
        session = ""
        if self.config.machine:
            session = worker.pool.function.session if worker else parameters.get("session") or secrets.token_hex(8)
        await self._loop.sock_sendall(sock, upgraded())
        client = Client(self, sock, parameters, session)
        self._clients.add(client)
        if self.config.machine and not worker:
            self._join(client, parameters.get("app", ""))
        self._check_idle()

    def _join(self, client: Client, app: str) -> None:
        """A caller's stream: of a new session, or of one that it comes back to."""
        before = self._sessions.join(client, app)
        if before is not None:  # cut, though nobody has told us
            self._clients.discard(before)
            self._forget_requests(before)
        for lease in self._leases.values():
            if not lease.client.worker and lease.client.session == client.session:
                lease.client = client

    def on_client_gone(self, client: Client) -> None:
        self._clients.discard(client)
        self._forget_requests(client)
        worker = self._worker_named(client.worker)
        if worker:
            worker.waits.clear()
        if self._sessions.on_client_gone(client):
            return  # its leases stay with its session
        leases = [lease for lease in self._leases.values() if lease.client is client]
        if leases and not self._closing:
            # A worker that is gone does not come back; a process over a network may.
            window = self.config.resume_window if not client.worker else 0.0
            self._loop.call_later(window, self._drop_leases, leases)
        self._check_idle()

    def _forget_requests(self, client: Client) -> None:
        for pool in self._pools.values():
            pool.requests = deque(r for r in pool.requests if r.client is not client)
            pool.resumptions = deque(r for r in pool.resumptions if r.client is not client)

    def hold(self, client: Client, tokens: list[str]) -> None:
        """A client that comes back says which leases it knows; what was granted to it in vain is free again."""
        lost = [lease for lease in self._leases.values() if lease.client is client and lease.token not in tokens]
        self._drop_leases(lost)
        self._relays.tell_again(client, self._workforce.by_number.values())

    def _drop_leases(self, leases: list[Lease]) -> None:
        for lease in leases:
            if lease.token in self._leases and not lease.dropped:
                lease.dropped = True
                self._workforce.tell(lease.worker, {"op": "drop", "lease": lease.token}, urgent=True)

    def _on_owner_gone(self) -> None:
        """The process that started us has ended; it never writes, so a readable socket is the end of the stream."""
        assert self._owner is not None
        self._loop.remove_reader(self._owner)
        self.shutdown(self.config.owner_grace)

    def _check_idle(self) -> None:
        if self._idle_timer:
            self._idle_timer.cancel()
            self._idle_timer = None
        if not self._clients and not self._closing and self.config.idle_exit:
            self._idle_timer = self._loop.call_later(self.config.idle_exit, self.shutdown, self.config.owner_grace)

    def _worker_named(self, name: str) -> Worker | None:
        if not name:
            return None
        return next((worker for worker in self._workforce.by_number.values() if worker.name == name), None)

    # -- functions

    def register(self, client: Client, message: Message) -> None:
        """Take a function; registering the same again changes nothing."""
        function = self.functions.register(client.session, self._sessions.app_of(client.session), message)
        self.pump(self.functions.pool(function.key, b""))

    # -- requests

    def want(self, client: Client, id: int, key: str, parameters: bytes, park: str) -> None:
        """A client asks for a lease on a worker of a function; `park`: see `Request`."""
        self.watch.note()
        if self._drain.begun:
            client.send({"op": "refused", "id": id, "kind": "draining", "text": "this machine goes soon"})
            return
        whole = scoped(client.session, key)
        if whole not in self.functions.by_key:
            client.send({"op": "refused", "id": id, "kind": "unknown", "text": f"no function {key!r} is registered"})
            return
        pool = self.functions.pool(whole, parameters)
        pool.requests.append(Request(client, id, park))
        self.pump(pool)

    def unwant(self, client: Client, id: int) -> None:
        for pool in self._pools.values():
            for request in list(pool.requests):
                if request.client is client and request.id == id:
                    pool.requests.remove(request)
                    client.send({"op": "unwanted", "id": id})

    def wait(self, client: Client, id: int, keys: tuple[str, ...]) -> None:
        """A worker waits for an inner call, and lends its slot meanwhile."""
        worker = self._worker_named(client.worker)
        if worker:
            worker.waits[id] = tuple(scoped(client.session, key) for key in keys)
            self._relays.tell_lent(worker)
            self._pump_waiting()

    def resume(self, client: Client, id: int) -> None:
        """The inner call has ended; answered once the slot is free again."""
        worker = self._worker_named(client.worker)
        if worker is None or id not in worker.waits:
            client.send({"op": "resumed", "id": id})
            return
        worker.pool.resumptions.append(Resumption(worker, client, id))
        self.pump(worker.pool)

    def pump(self, pool: Pool) -> None:
        """Do whatever the state of a pool asks for."""
        if self._closing or self._paused or self._drain.begun or pool.ended:
            return
        self._grant_resumptions(pool)
        self._grant_idle(pool)
        self._grant_shared(pool)
        if pool.requests or not self._placement.is_starved(pool):
            for _ in range(
                pools.starts(pool, pool.occupied(self._placement.running(pool)), self._placement.room(pool))
            ):
                self._workforce.start(pool)
                self._grant_idle(pool)  # one that is as good as ready gets its first input while it is forked
        if pool.requests and not pool.in_state(State.STARTING):
            self._placement.make_room(pool)
            if pool not in self._unserved:
                self._unserved.add(pool)
                self._loop.call_later(_UNSERVED, self._tell_full, pool)
        self._schedule_stops(pool)

    def _tell_full(self, pool: Pool) -> None:
        """Whoever could go to another machine hears that this one has had no room for a while."""
        self._unserved.discard(pool)
        if self._closing or pool.ended:
            return
        oldest = time.monotonic() - _UNSERVED
        starting = bool(pool.in_state(State.STARTING))
        for request in pool.requests:
            if request.client.may_go and request.since <= oldest and not starting and not request.told:
                request.told = True
                request.client.send({"op": "full", "id": request.id})
        if any(request.client.may_go and not request.told for request in pool.requests):
            self._unserved.add(pool)
            self._loop.call_later(_UNSERVED, self._tell_full, pool)

    def _grant_idle(self, pool: Pool) -> None:
        while pool.requests and (idle := pool.in_state(State.IDLE)) and pool.may_run(self._placement.running(pool)):
            request = pool.next_request()
            pool.requests.remove(request)
            self._grant(request, max(idle, key=lambda worker: worker.idle_since))

    def _pump_waiting(self) -> None:
        """Those with the fewest workers first, and of these who waits longest, so that the room goes round."""
        for pool in sorted(
            self._pools.values(), key=lambda pool: (len(pool.in_state(*pools.LIVE)), pool.waiting_since)
        ):
            if pool.requests or pool.resumptions or pool.spec.scaling.min_containers:
                self.pump(pool)

    def _grant(self, request: Request, worker: Worker) -> None:
        lease = Lease(secrets.token_hex(16), worker, request.client, time.monotonic())
        worker.pool.waited.add(lease.granted - request.since)
        self._leases[lease.token] = lease
        worker.leases[lease.token] = lease
        worker.state = State.LEASED
        sock = self._parking.take(request.park)
        if sock is not None:
            self._hand_over(sock, lease, urgent=len(worker.leases) > 1)
        park = request.park if sock is not None else ""
        request.client.send(
            {"op": "grant", "id": request.id, "lease": lease.token, "worker": worker.name, "park": park}
        )

    def _hand_over(self, sock: socket.socket, lease: Lease, urgent: bool) -> None:
        message = {"op": "lease", "lease": lease.token}
        with sock:
            self._workforce.tell(lease.worker, message, fds=[sock.fileno()], urgent=urgent)

    def _grant_shared(self, pool: Pool) -> None:
        """Workers that take several inputs at a time may serve several clients, one lease for each."""
        if pool.spec.scaling.max_inputs <= 1:
            return
        for request in list(pool.requests):
            free = [
                w for w in pool.in_state(State.LEASED) if all(x.client is not request.client for x in w.leases.values())
            ]
            if free:
                pool.requests.remove(request)
                self._grant(request, min(free, key=lambda worker: len(worker.leases)))

    def _grant_resumptions(self, pool: Pool) -> None:
        while pool.resumptions:
            resumption = pool.resumptions[0]
            worker, running = resumption.worker, self._placement.running(pool)
            if not pool.may_run(running) and pool.is_lent(worker, running):
                # The slot is wanted back: who holds one and runs nothing gives it up at once.
                for other in pool.in_state(State.LEASED):
                    if not pool.is_lent(other, running):
                        self._recall(other.leases.values())
                return
            pool.resumptions.popleft()
            worker.waits.pop(resumption.wait, None)
            self._relays.tell_lent(worker)
            resumption.client.send({"op": "resumed", "id": resumption.wait})

    def _recall(self, leases: Iterable[Lease]) -> None:
        for lease in leases:
            if not lease.recalled:
                lease.recalled = True
                lease.client.send({"op": "recall", "lease": lease.token})

    # -- leases

    async def _on_lease(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        """A client attaches to a lease, for the first time or after a cut: its socket goes to the worker."""
        if "park" in parameters:
            await self._loop.sock_sendall(sock, upgraded())
            if not self._parking.put(parameters["park"], sock):
                sock.close()
            return
        token = parameters.get("lease", "")
        lease = self._leases.get(token)
        mine = lease is not None and lease.client.worker == parameters.get("worker", "")
        if lease is None or not mine or lease.dropped or lease.worker.state is not State.LEASED:
            death = self._deaths.get(token, {"kind": "unknown"})
            await answer(sock, "410 Gone", json.dumps(death))
            sock.close()
            return
        await self._loop.sock_sendall(sock, upgraded())
        self._hand_over(sock, lease, urgent=True)

    def on_free(self, token: str) -> None:
        """A worker has let go of a lease."""
        lease = self._leases.pop(token, None)
        if lease is None:
            return
        worker = lease.worker
        worker.leases.pop(token, None)
        if worker.leases or worker.state is not State.LEASED:
            return
        worker.state = State.IDLE
        worker.idle_since = worker.slot().finished or time.monotonic()
        pool = worker.pool
        used_up = pool.spec.scaling.single_use and worker.slot().done
        if self._drain.begun:
            self._drain.release(worker)
        elif used_up or self._placement.is_starved(pool):
            self._workforce.stop(worker)
        self.pump(pool)
        self._pump_waiting()

    def on_cut(self, token: str) -> None:
        """The connection of a lease was cut: its client comes back, or says that it had let go of it."""
        lease = self._leases.get(token)
        if lease:
            lease.client.send({"op": "cut", "lease": token})

    def release(self, client: Client, token: str) -> None:
        """A client lets go of a lease whose connection was cut."""
        lease = self._leases.get(token)
        if lease and lease.client is client:
            self._drop_leases([lease])

    def cancel(self, client: Client, call: int, index: int | None, kill: bool) -> None:
        """Cancel a call's inputs, or one of them, in every worker that this client has leased."""
        for lease in [lease for lease in self._leases.values() if lease.client is client]:
            worker = lease.worker
            patience = self.config.cancel_patience
            runs = self._workforce.runs(worker, call, index)
            if runs and kill:
                self._workforce.kill(worker, CANCELLED)
                continue
            message = {"op": "cancel", "call": call, "input": index, "patience": patience}
            self._workforce.tell(worker, message, urgent=True)
            if runs:
                self._loop.call_later(patience, self._workforce.kill_if_running, worker, call, index)

    def recall_inputs(self, client: Client, token: str) -> None:
        """A client wants back what waits behind a long input."""
        lease = self._leases.get(token)
        if lease and lease.client is client:
            self._workforce.tell(lease.worker, {"op": "recall"}, urgent=True)

    # -- workers

    def _schedule_stops(self, pool: Pool) -> None:
        over, again = pools.stops(pool, time.monotonic())
        for worker in over:
            self._workforce.stop(worker)
        timer = self._stop_timers.pop(pool, None)
        if timer:
            timer.cancel()
        if again is not None:
            delay = max(again - time.monotonic(), 0.001)
            self._stop_timers[pool] = self._loop.call_later(delay, self.pump, pool)

    def on_ready(self, worker: Worker) -> None:
        if self._drain.begun:
            self._drain.release(worker)
        self.pump(worker.pool)
        self._pump_waiting()

    def on_death(self, worker: Worker, death: dict[str, Any]) -> None:
        """A worker has ended: its clients hear why, and others may start."""
        self.watch.note()
        remove_files_of(self.config.shared, worker.name)
        for token, lease in worker.leases.items():
            self._leases.pop(token, None)
            self._deaths[token] = death
            if len(self._deaths) > _MAX_DEATHS:
                del self._deaths[next(iter(self._deaths))]
            lease.client.send({"op": "lost", "lease": token, "death": death})
        if worker.relay:
            self.show(worker.pool.function.session, {"op": "caller_gone", "relay": worker.relay})
        wanted = worker.state is State.STOPPING or death.get("kind") in ("stopped", "cancelled", "preempted")
        worker.pool.died += not wanted
        if not worker.ready:
            worker.pool.broken = True
            self._refuse_all(worker.pool, death)
        self._pump_waiting()
        self.pump(worker.pool)
        self._sessions.check(worker.pool.function.session)
        self._drain.check()
        self._check_ended()

    def _refuse_all(self, pool: Pool, death: dict[str, Any]) -> None:
        """A worker could not start: whoever waits for one hears why, instead of waiting for the next failure."""
        requests = list(pool.requests)
        pool.requests.clear()
        for request in requests:
            request.client.send({"op": "refused", "id": request.id, "kind": "startup", "death": death})

    # -- what is seen from outside

    def on_log(self, session: str, said: Printed) -> None:
        if self.config.machine:
            self._sessions.log(session, said)
            return
        for client in self._clients:
            if client.wants_logs:
                client.send_log(said)

    def show(self, session: str, message: Message) -> None:
        if self.config.machine:
            self._sessions.show(session, message)
            return
        for client in self._clients:
            if client.wants_logs:
                client.send(message)

    def note_counts(self, client: Client, tag: str, queued: int, failed: int) -> None:
        """What only a caller knows: inputs that no worker has yet, and inputs that failed for good."""
        self._told[client.session, tag] = (queued, failed)

    def allot(self, pool: Pool) -> tuple[str, ...]:
        return self._placement.allot(pool)

    def gpu_notes(self, worker: Worker) -> dict[str, Any] | None:
        return self._placement.gpu_notes(worker)

    def may_grow(self, pool: Pool) -> bool:
        """Whether one more worker of a pool could be started now."""
        return not pool.ended and self._placement.may_grow(pool)

    def status(self, client: Client | None = None) -> dict[str, Any]:
        """Counts of every function, for `cloudfn ps` and `/metrics`; a worker sees its own session."""
        session = client.session if client and client.worker else None
        pools_seen = [pool for pool in self._pools.values() if session in (None, pool.function.session)]
        answer = status.describe(self.config.app, pools_seen, self._told)
        if self.config.machine and session is None:
            answer["sessions"] = self._sessions.describe()
        return answer

    def metrics(self) -> str:
        return render_metrics(self.status(), self._pools.values())

    # -- for who looks after the machine

    def pause(self) -> None:
        """Close the door and start nothing: the machine asks whether it may go."""
        self._paused = True
        self._door.pause()

    def unpause(self) -> None:
        """It may not: serve on, whoever waits at the door too."""
        self._paused = False
        self._door.open()
        self._pump_waiting()

    async def drain(self, seconds: float) -> None:
        """Finish what runs, or give it back, within so many seconds; nothing new is taken. Ends without a worker."""
        self._drain.begin(seconds)
        await self._drain.ended.wait()

    # -- the end

    def leave(self, client: Client, grace: float) -> None:
        """A client ends its app: all there is of it, on a machine its session."""
        if not self._sessions.leave(client, grace):
            self.shutdown(grace, client)

    def on_session_over(self, name: str) -> None:
        """A session and its workers have ended; so does all that is left of it."""
        for pool in self.functions.forget(name):
            self.watch.accounts.close(pool)
            if timer := self._stop_timers.pop(pool, None):
                timer.cancel()
        self._relays.forget(name)
        for told in [told for told in self._told if told[0] == name]:
            del self._told[told]
        self._pump_waiting()

    def shutdown(self, grace: float, asked_by: Client | None = None) -> None:
        """Cancel what runs, let workers leave, then end; after `grace` seconds kill what is left."""
        if self._kill_timer:
            if self._kill_timer.when() <= self._loop.time() + grace:
                return
            self._kill_timer.cancel()  # the owner has no patience left
        self._kill_timer = self._loop.call_later(grace, self._workforce.kill_all)
        if self._closing:
            return
        for client in self._clients:
            if client is not asked_by and not client.worker:
                client.send({"op": "closing"})  # else its process takes the end of its calls for cancellations
        self._closing = True
        if self._idle_timer:
            self._idle_timer.cancel()
        for worker in list(self._workforce.by_number.values()):
            self._workforce.send_away(worker)
        self._check_ended()

    def _check_ended(self) -> None:
        if self._closing and not self._workforce.by_number and not self.ended.is_set():
            self.ended.set()

    async def close(self) -> None:
        """The last steps, when no worker is left: zygotes, the last words to clients, the folder."""
        self._door.close()
        self._parking.close()
        self._relays.close()
        self._storage.close()
        self._workforce.close()
        for client in self._clients:
            client.send({"op": "bye"})
        for _ in range(500):
            if not any(client.unsent for client in self._clients):
                break
            await asyncio.sleep(0.01)
        for client in self._clients:
            client.close()
        for folder in filter(None, (str(self.config.folder), self.config.shared)):
            shutil.rmtree(folder, ignore_errors=True)
