"""The host itself: deployed apps and who runs them, on one event loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping, Sequence

from cloudfn import exposition, tracing, wire
from cloudfn.deployments import APP_VARIABLE, HOST_VARIABLE
from cloudfn.door import Door, upgraded
from cloudfn.durable import Depth, Result, pack
from cloudfn.exception import Error, NotFoundError
from cloudfn.host import services, stored
from cloudfn.host.detached import DetachedRuns
from cloudfn.host.history import History, Key, Load
from cloudfn.host.journal import AppLog, Journal
from cloudfn.host.metrics import Metrics
from cloudfn.host.peer import Peer
from cloudfn.host.running import Running

if TYPE_CHECKING:
    import socket

    from cloudfn.app_registry import AppVersion
    from cloudfn.deployments import HostSeat
    from cloudfn.durable import Taken
    from cloudfn.host.flight import Flight
    from cloudfn.host.verdict import Verdict
    from cloudfn.provider import HasMachine

_TICK = 1.0  # seconds
_SWEEP = 60.0  # seconds between looks for results that were kept long enough
_IDLE = 300.0  # seconds without any input after which an app's agent ends
IDLE_VARIABLE = "CLOUDFN_HOST_IDLE"


class Host:
    """Args:
    seat: where this host lives, and what keeps its state.
    place: the provider that starts agents.
    """

    def __init__(self, seat: HostSeat, place: HasMachine) -> None:
        self.seat = seat
        self.registry = seat.registry()
        self.queue = seat.queue()
        self.scheduler = seat.scheduler(self.queue)
        self.journal = Journal(seat.folder / "host.jsonl")
        self.metrics = Metrics()
        self.history = History()
        self.page = ""  # the address of the page, where a service serves one
        # What services answer to callers that have proved themselves, beside what `cloudfn.host.peer` does.
        self.requests: dict[str, Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {}
        self.started = time.time()
        self.detached = DetachedRuns(seat.folder / "detached", self.journal)
        self.ended = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self.troubles: list[str] = []  # services that could not start
        self._place = place
        self._idle = float(os.environ.get(IDLE_VARIABLE) or _IDLE)
        self._apps: dict[str, Running] = {}
        self._old: set[Running] = set()
        self._logs: dict[str, AppLog] = {}
        self._peers: set[Peer] = set()
        self._services: list[services.Service] = []
        self._changing = asyncio.Lock()  # one deploy, rollback or stop at a time
        self._tasks: set[asyncio.Task[Any]] = set()
        self.metrics_text = ""
        self._door = Door(
            seat.listener,
            lambda parameters: seat.key,
            pages={"/healthz": lambda: "ok\n"},
            private_pages={"/metrics": lambda: self.metrics_text},
            handlers={"/host": self._on_peer},
        )

    # -- life

    async def open(self) -> None:
        """Pick up everything where it was left, then let callers in."""
        await self._open_services()
        for info in await asyncio.to_thread(self.registry.apps):
            if info.state == "deployed":
                try:
                    version = self.registry.current(info.app)
                    self._begin(version, await self._environment(version))
                except Error as error:  # its code or a secret is gone: the others must run all the same
                    self.journal.write("broken", app=info.app, error=str(error))
                else:
                    await self._tell_services(info.app)
        await self.queue.sweep(time.time())
        await self.render_metrics()
        self._door.open()
        self.spawn(self._tick())
        self.journal.write("host_started", pid=os.getpid(), apps=sorted(self._apps))

    async def _open_services(self) -> None:
        for name, make in services.installed():
            service = make()
            try:
                await service.start(self)
            except (Error, OSError) as error:
                self.troubles.append(f"{name}: {error}")
                self.journal.write("service_failed", service=name, error=str(error))
            else:
                self._services.append(service)

    async def close(self) -> None:
        """End: what runs is cut short and comes back when the host begins again."""
        self._door.close()
        for service in self._services:
            await service.stop()
        for peer in list(self._peers):
            peer.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*(running.close() for running in (*self._apps.values(), *self._old)))
        await self.scheduler.close()
        await self.queue.close()
        self.detached.close()
        self.journal.write("host_stopped")
        self.journal.close()
        self.ended.set()

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task that ends with the host."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def leave_soon(self) -> None:
        """End, after whatever is on its way has been answered. Idempotent."""
        if self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self.close())

    async def _on_peer(self, sock: socket.socket, parameters: Mapping[str, str]) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, upgraded())
        self._peers.add(Peer(self, sock))

    def on_peer_gone(self, peer: Peer) -> None:
        self._peers.discard(peer)
        for running in (*self._apps.values(), *self._old):
            running.detach(peer)

    async def _tick(self) -> None:
        swept = time.monotonic()
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            await asyncio.gather(*(running.tick(now, self._idle) for running in list(self._apps.values())))
            await asyncio.gather(*(running.look() for running in list(self._apps.values())))
            depths = await self.render_metrics()
            self.history.look(time.time(), self._loads(depths))
            if now - swept > _SWEEP:
                swept = now
                await self.queue.sweep(time.time())

    async def render_metrics(self) -> Sequence[Depth]:
        depths = await self.queue.depth()
        self.metrics_text = self.metrics.render(depths, self._workers(), getattr(self.queue, "commits", 0))
        return depths

    async def all_metrics(self) -> str:
        """Ours, and those of every app's agent."""
        await self.render_metrics()
        agents = [await running.ask_agent("metrics") for running in list(self._apps.values())]
        return exposition.merged([self.metrics_text, *(answer.get("text", "") for answer in agents)])

    def _loads(self, depths: Sequence[Depth]) -> dict[Key, Load]:
        """What there is of each function's inputs. Of those that were handed out, some wait with us for a worker."""
        loads = {(depth.app, depth.tag): Load(depth.waiting, depth.taken, depth.dead) for depth in depths}
        for app, running in self._apps.items():
            ran = running.inputs()
            for tag, (waiting, workers) in running.counts().items():
                load = loads.get((app, tag), Load())
                held = min(waiting, load.running)
                runs = max(load.running - held, ran.get(tag, (0, 0))[0])
                loads[app, tag] = Load(load.waiting + held, runs, load.dead, workers)
        return loads

    def _workers(self) -> list[tuple[str, str, int]]:
        return [(app, tag, count) for app, running in self._apps.items() for tag, count in running.workers().items()]

    # -- apps

    def running(self, app: str) -> Running:
        """The current version of an app. Raises `NotFoundError`."""
        found = self._apps.get(app)
        if found is None:
            self.registry.current(app)  # says why not
            raise NotFoundError(f"the app {app!r} could not be started", hint="`cloudfn host log` says why.")
        return found

    @property
    def apps(self) -> Mapping[str, Running]:
        return self._apps

    @property
    def _url_services(self) -> list[services.HasURLs]:
        return [service for service in self._services if isinstance(service, services.HasURLs)]

    async def _environment(self, version: AppVersion) -> dict[str, str]:
        """What its workers learn of their URLs. It runs all the same where there are none: calls need no URL."""
        environment: dict[str, str] = {}
        for service in self._url_services:
            try:
                environment.update(await service.environment(version))
            except (Error, OSError) as error:
                self.journal.write("no_urls", app=version.app, error=str(error))
        return environment

    def urls(self, version: AppVersion) -> dict[str, str]:
        """The URLs of a version's web functions, by function."""
        return {name: url for service in self._url_services for name, url in service.urls(version).items()}

    def _begin(self, version: AppVersion, environment: Mapping[str, str]) -> Running:
        own = {HOST_VARIABLE: str(self.seat.record), APP_VARIABLE: version.app}
        extra = {**tracing.environment(), **own, **environment}
        payloads = stored.payloads(version, self.registry, getattr(self._place, "secrets", None), extra)
        provider = stored.StoredProvider(self._place, self.registry, version)
        running = Running(self, version, payloads, provider)
        old, self._apps[version.app] = self._apps.get(version.app), running
        if old is not None:
            self._retire(old)
        running.start()
        return running

    def _retire(self, old: Running) -> None:
        old.supersede()
        self._old.add(old)
        task = self.spawn(old.drain())
        task.add_done_callback(lambda _: self._old.discard(old))

    async def deploy(self, version: AppVersion, secrets: Mapping[str, Mapping[str, str]]) -> AppVersion:
        """Make a version the current one: it takes whatever waits; the one before ends what it has begun."""
        async with self._changing:
            for service in self._url_services:
                await service.check(version)
            made = await asyncio.to_thread(self.registry.add, version, secrets)
            return await self._take_over(made)

    async def roll_back(self, app: str, number: int) -> AppVersion:
        async with self._changing:
            if number <= 0:
                number = self.running(app).version.number - 1
            return await self._take_over(await asyncio.to_thread(self.registry.roll_back, app, number))

    async def _take_over(self, version: AppVersion) -> AppVersion:
        now = self._apps.get(version.app)
        if now is None or now.version.number != version.number:
            self._begin(version, await self._environment(version))
            scheduled = {f.spec.tag: f.spec.schedule for f in version.functions if f.spec.schedule}
            await self.scheduler.set(version.app, scheduled)
            self.journal.write("deployed", app=version.app, version=version.number, note=version.note)
            await self._tell_services(version.app)
        return version

    async def stop_app(self, app: str) -> int:
        """No more of this app: its schedules go, what waits or runs is cancelled. Returns the number of such calls."""
        async with self._changing:
            await asyncio.to_thread(self.registry.stop, app)
            await self.scheduler.remove(app)
            running = self._apps.pop(app, None)
            if running is not None:
                running.supersede()
            cancelled = await self.queue.cancel_app(app, Result(wire.CANCELLED, pack(b"")))
            if running is not None:
                await running.close()
            self.journal.write("stopped", app=app, cancelled=cancelled)
            await self._tell_services(app)
            return cancelled

    async def _tell_services(self, app: str) -> None:
        for service in self._services:
            try:
                await service.app_changed(app)
            except (Error, OSError) as error:
                self.journal.write("service_failed", service=type(service).__name__, app=app, error=str(error))

    def detach(self, peer: Peer, app: str, version: int) -> None:
        for running in (*self._apps.values(), *self._old):
            if (running.app, running.version.number) == (app, version):
                running.detach(peer)

    async def cancel(self, call_id: int, kill: bool) -> int:
        keys = await self.queue.cancel(call_id, Result(wire.CANCELLED, pack(b"")))
        for running in (*self._apps.values(), *self._old):
            running.cancel(keys, kill)
        return len(keys)

    # -- what is seen

    def app_log(self, app: str) -> AppLog:
        if app not in self._logs:
            folder = self.seat.folder / "logs"
            folder.mkdir(mode=0o700, exist_ok=True)
            self._logs[app] = AppLog(folder / f"{app}.jsonl")
        return self._logs[app]

    def note_started(self, items: Sequence[Taken], version: AppVersion) -> None:
        for taken in items:
            self.journal.write(
                "input_started",
                app=version.app,
                version=version.number,
                function=taken.call.tag,
                call=taken.call.public_id,
                input=taken.index,
                receive=taken.receives,
            )

    def note_ended(self, flight: Flight, verdict: Verdict, version: AppVersion) -> None:
        taken = flight.taken
        key = (version.app, taken.call.tag)
        ran = time.monotonic() - flight.began
        if verdict.what == "again":
            self.metrics.retried[key] += 1
            self.metrics.died[key] += verdict.deaths > taken.deaths
        else:
            status = verdict.result.status if verdict.result else wire.ERROR
            how = (
                "dead" if verdict.what == "bury" else {wire.OK: "ok", wire.CANCELLED: "cancelled"}.get(status, "failed")
            )
            self.metrics.ended[version.app, taken.call.tag, how] += 1
            since_spawn = max(0.0, time.time() - taken.call.created)
            self.metrics.latency[key].add(since_spawn)
            self.history.note_end(key, since_spawn, how in ("failed", "dead"))
            self.metrics.run[key].add(ran)
        self.journal.write(
            "input_ended" if verdict.what != "again" else "input_again",
            app=version.app,
            version=version.number,
            function=taken.call.tag,
            call=taken.call.public_id,
            input=taken.index,
            seconds=round(ran, 6),
            **({"reason": verdict.reason} if verdict.reason else {}),
        )

    async def status(self) -> dict[str, Any]:
        """For `cloudfn host status`, `cloudfn app list` and `cloudfn top`."""
        loads = self._loads(await self.queue.depth())
        apps = []
        for info in await asyncio.to_thread(self.registry.apps):
            running = self._apps.get(info.app)
            apps.append(
                {
                    "app": info.app,
                    "state": info.state if info.state != "deployed" else (running.state if running else "broken"),
                    "version": info.version,
                    "created": info.created,
                    "updated": info.updated,
                    "problem": running.problem if running else "",
                    "functions": self._functions(info.app, running, loads),
                    "urls": self.urls(running.version) if running else {},
                    "old": sum(old.app == info.app for old in self._old),
                }
            )
        return {
            "pid": os.getpid(),
            "started": self.started,
            "apps": apps,
            "page": self.page,
            "services": [service.describe() for service in self._services],
            "troubles": self.troubles,
            "detached": self.detached.list(),
        }

    def _functions(self, app: str, running: Running | None, loads: Mapping[Key, Load]) -> list[dict[str, Any]]:
        tags = {f.spec.tag for f in running.version.functions} if running else set()
        inputs = running.inputs() if running else {}
        listed = []
        for tag in sorted(tags | {tag for name, tag in loads if name == app}):
            load = loads.get((app, tag), Load())
            ended = {how: n for (a, t, how), n in self.metrics.ended.items() if (a, t) == (app, tag)}
            run = self.metrics.run.get((app, tag))
            listed.append(
                {
                    "function": tag,
                    **load._asdict(),
                    "ended": ended,
                    "inputs": inputs.get(tag, (0, 0))[1],
                    "p50": run.quantile(0.5) if run else 0.0,
                    "p99": run.quantile(0.99) if run else 0.0,
                }
            )
        return listed


def log_path(folder: Path, app: str) -> Path:
    """Where `Host.app_log` writes."""
    return folder / "logs" / f"{app}.jsonl"
