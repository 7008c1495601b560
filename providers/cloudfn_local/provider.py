"""This machine as a place to run: an agent process for each run, images as venvs, code in the cache folder."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn.exception import ResourceUnavailableError
from cloudfn.provider import NO_MATERIALS, HasMachine, Materials, Report, Runtime, Shippable
from cloudfn.spec import FunctionSpec, ImageSpec
from cloudfn_local import paths
from cloudfn_local.machine import LocalMachine

if TYPE_CHECKING:
    from cloudfn_local.host_place import LocalHostPlace, LocalHostSeat
    from cloudfn_local.runs import LocalRuns
    from cloudfn_local.secret_store import SecretStore
    from cloudfn_local.storage.road import LocalRoad

STRICT_VARIABLE = "CLOUDFN_STRICT_GPU"


class LocalProvider(HasMachine):
    """The default provider; needs no account and no set-up.

    Attributes:
        agent_settings, tcp: for every agent that it starts, see `LocalMachine`.
    """

    starts_at_once = True
    agent_settings: Mapping[str, Any] = {}
    tcp = False
    _road: LocalRoad | None = None

    @cached_property
    def secrets(self) -> SecretStore:
        from cloudfn_local.secret_store import SecretStore

        return SecretStore()

    @cached_property
    def runs(self) -> LocalRuns:
        from cloudfn_local.runs import LocalRuns

        return LocalRuns()

    @property
    def storage(self) -> LocalRoad:
        """The way to this user's volumes, dicts and queues, in the state folder of now."""
        from cloudfn_local.storage.road import LocalRoad

        state = paths.state_dir()
        if self._road is None or self._road.state != state:
            self._road = LocalRoad(state)
        return self._road

    @property
    def host(self) -> LocalHostPlace:
        from cloudfn_local.host_place import LocalHostPlace

        return LocalHostPlace()

    def take_host_seat(self) -> LocalHostSeat | None:
        from cloudfn_local.host_place import take_seat

        return take_seat()

    def build(self, image: ImageSpec, report: Report, materials: Materials = NO_MATERIALS) -> Runtime:
        from cloudfn_local import venv

        return venv.build(image, report, materials)

    def ship(self, name: str, payload: bytes | Shippable) -> str:
        if not isinstance(payload, bytes):
            return str(payload.write_to(paths.code_dir()))
        place = paths.code_dir() / name
        if not place.exists():
            aside = place.with_name(f".{name}.{os.getpid()}")
            aside.write_bytes(payload)
            aside.chmod(0o600)
            aside.replace(place)
        return str(place)

    def start(self, app: str, report: Report) -> LocalMachine:
        return LocalMachine(app, self.agent_settings, self.tcp)

    def shell(
        self, runtime: Runtime, environment: Mapping[str, str], folders: Sequence[str], command: Sequence[str]
    ) -> int:
        from cloudfn_local import shell

        return shell.shell(runtime, environment, folders, command)

    def admit(self, spec: FunctionSpec, report: Report) -> None:
        """Say once that a function which asks for a GPU runs on CPU here; refuse it if the user wants that."""
        gpus = spec.resources.gpus
        if not gpus or has_gpu():
            return
        names = " or ".join(f"{gpu.type}:{gpu.count}" if gpu.count > 1 else gpu.type for gpu in gpus)
        if os.environ.get(STRICT_VARIABLE, "") not in ("", "0"):
            raise ResourceUnavailableError(
                f"{spec.tag} asks for a GPU ({names}), and this machine has none",
                hint=f"Unset {STRICT_VARIABLE} to run it on CPU here.",
            )
        report(
            f"{spec.tag}: this machine has no GPU ({names} asked for); it runs on CPU. {STRICT_VARIABLE}=1 forbids it."
        )


def has_gpu() -> bool:
    """True where an NVIDIA driver shows a device. (Which one it is, is not compared yet.)"""
    import shutil

    return shutil.which("nvidia-smi") is not None and any(Path("/dev").glob("nvidia[0-9]*"))
