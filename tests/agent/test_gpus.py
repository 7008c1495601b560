"""GPUs: what NVML or nvidia-smi shows, who gets which, and drivers that are too old for an image."""

from __future__ import annotations

import base64
import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cloudfn_agent import gpu_check, gpus
from cloudfn_agent.gpus import Device, Inventory, look
from hypothesis import given
from hypothesis import strategies as st

import cloudfn
from agent.machine_agent import MachineAgent, lease, register
from cloudfn import remote_error
from cloudfn.exception import ResourceUnavailableError
from cloudfn.spec import GPUSpec

EIGHT = tuple(Device(f"GPU-{n}", "NVIDIA A100-SXM4-80GB") for n in range(8))


class Nvml:
    """NVIDIA's management library, as ctypes calls it."""

    def __init__(self, devices: tuple[Device, ...], driver: str = "535.183.01", cuda: int = 12020) -> None:
        self.devices, self.driver, self.cuda = devices, driver, cuda
        self.open = 0
        self.broken = ""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any) -> int:
            if name == self.broken:
                return 999
            getattr(self, f"_{name}")(*arguments)
            return 0

        return call

    def _nvmlInit_v2(self) -> None:
        self.open += 1

    def _nvmlShutdown(self) -> None:
        self.open -= 1

    def _nvmlDeviceGetCount_v2(self, count: Any) -> None:
        count._obj.value = len(self.devices)

    def _nvmlSystemGetCudaDriverVersion_v2(self, version: Any) -> None:
        version._obj.value = self.cuda

    def _nvmlDeviceGetHandleByIndex_v2(self, index: ctypes.c_uint, handle: Any) -> None:
        handle._obj.value = 1000 + index.value

    def _nvmlDeviceGetUUID(self, handle: ctypes.c_void_p, buffer: Any, _size: Any) -> None:
        buffer.value = self.devices[(handle.value or 0) - 1000].uuid.encode()

    def _nvmlDeviceGetName(self, handle: ctypes.c_void_p, buffer: Any, _size: Any) -> None:
        buffer.value = self.devices[(handle.value or 0) - 1000].name.encode()

    def _nvmlSystemGetDriverVersion(self, buffer: Any, _size: Any) -> None:
        buffer.value = self.driver.encode()


def no_library(_: str) -> Any:
    raise OSError("libnvidia-ml.so.1: cannot open shared object file")


def nvidia_smi(folder: Path) -> str:
    path = folder / "nvidia-smi"
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '--query-gpu=*) echo "GPU-a, NVIDIA L4, 550.54.15"; echo "GPU-b, NVIDIA L4, 550.54.15";;\n'
        '*) echo "| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |";;\n'
        "esac\n"
    )
    path.chmod(0o755)
    return str(path)


def test_what_the_library_shows() -> None:
    nvml = Nvml(EIGHT)
    assert look(lambda _: nvml) == Inventory(EIGHT, "535.183.01", (12, 2))
    assert nvml.open == 0


def test_the_program_is_asked_where_the_library_fails(tmp_path: Path) -> None:
    broken = Nvml(EIGHT)
    broken.broken = "nvmlDeviceGetCount_v2"
    expected = Inventory((Device("GPU-a", "NVIDIA L4"), Device("GPU-b", "NVIDIA L4")), "550.54.15", (12, 4))
    for load in (no_library, lambda _: broken):
        assert look(load, nvidia_smi(tmp_path)) == expected
    assert look(no_library, str(tmp_path / "none")) == Inventory()
    failing = tmp_path / "failing"
    failing.write_text("#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    failing.chmod(0o755)
    assert look(no_library, str(failing)) == Inventory()


@pytest.mark.parametrize(
    ("wanted", "name", "count"),
    [
        ([("A100-80GB", 2)], "NVIDIA A100-SXM4-80GB", 2),
        ([("H100", 1), ("A100-80GB", 4)], "NVIDIA A100-SXM4-80GB", 4),
        ([("H100", 8), ("any", 1)], "Tesla T4", 1),
        ([("L4", 2), ("L40S", 3)], "NVIDIA L40S", 3),
        ([("A10", 2)], "NVIDIA A10G", 2),
        ([("T4", 2)], "A card of tomorrow", 2),
        ([], "Tesla T4", 0),
    ],
)
def test_how_many_a_worker_takes_on_this_machine(wanted: list[tuple[str, int]], name: str, count: int) -> None:
    inventory = Inventory(tuple(Device(f"GPU-{n}", name) for n in range(8)))
    assert inventory.count([GPUSpec(*pair) for pair in wanted]) == count


@given(st.sets(st.sampled_from([device.uuid for device in EIGHT])))
def test_no_device_is_given_twice(held: set[str]) -> None:
    free = Inventory(EIGHT).free(held)
    assert not held & set(free) and len(free) + len(held) == 8


def torch_of(folder: Path, cuda: str) -> None:
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text("raise ImportError('it must not be imported')\n")
    (folder / "torch" / "version.py").write_text(
        f"__version__ = '2.7.0+cu'\ncuda: Optional[str] = '{cuda}'\nhip = None\n"
    )


def notes(*devices: str, wanted: int = 1, cuda: tuple[int, int] | None = (12, 2)) -> dict[str, Any]:
    return {"devices": devices, "wanted": wanted, "driver": "535.183.01", "cuda": cuda}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "left as it was")


def test_a_driver_that_is_too_old_is_said_before_user_code_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    torch_of(tmp_path, "12.8")
    gpu_check.prepare(notes("GPU-1"), "f")
    said = capsys.readouterr().err
    assert "driver 535.183.01 supports CUDA 12.2, torch wants 12.8" in said
    monkeypatch.setenv(gpu_check.STRICT_VARIABLE, "1")
    with pytest.raises(ResourceUnavailableError, match="driver 535.183.01 supports CUDA 12.2, torch wants 12.8"):
        gpu_check.prepare(notes("GPU-1"), "f")
    monkeypatch.delenv(gpu_check.STRICT_VARIABLE)
    with pytest.raises(ResourceUnavailableError, match="supports CUDA 11.8, torch wants 12.8"):
        gpu_check.prepare(notes("GPU-1", cuda=(11, 8)), "f")
    gpu_check.prepare(notes("GPU-1", cuda=(12, 8)), "f")
    gpu_check.prepare(notes("GPU-1", cuda=(13, 0)), "f")
    gpu_check.prepare(notes(wanted=0, cuda=(11, 8)), "f")  # one that asks for no GPU may have any torch
    assert capsys.readouterr().err == ""
    assert "torch" not in sys.modules


def test_a_build_for_cpu_wants_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    torch_of(tmp_path, "x")
    (tmp_path / "torch" / "version.py").write_text("cuda = None\n")
    gpu_check.prepare(notes("GPU-1", cuda=(11, 0)), "f")


def test_a_worker_sees_its_devices_and_no_other() -> None:
    gpu_check.prepare(notes("GPU-3", "GPU-5", wanted=2), "f")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-3,GPU-5"
    gpu_check.prepare(notes(wanted=0), "f")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_it_never_runs_on_cpu_instead() -> None:
    with pytest.raises(ResourceUnavailableError, match="asks for 2 GPU.s., and this machine has 1"):
        gpu_check.prepare(notes("GPU-3", wanted=2), "f")


app = cloudfn.App("gpus")


@app.function(serialized=True, gpu="A100-80GB:4", cpu=0.1, memory=10)
def four() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


@app.function(serialized=True, cpu=0.1, memory=10)
def none() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


def machine_with(tmp_path: Path, devices: tuple[Device, ...]) -> MachineAgent:
    found = {"devices": [[device.uuid, device.name] for device in devices], "driver": "570.0", "cuda": [12, 8]}
    return MachineAgent(tmp_path, gpus=found, cores=8.0, memory=8000)


def test_two_workers_of_four_share_a_machine_of_eight(tmp_path: Path) -> None:
    agent = machine_with(tmp_path, EIGHT)
    control = agent.control("s")
    register(agent, control, four, "four")
    register(agent, control, none, "none")
    first, second = lease(agent, control, "four"), lease(agent, control, "four")
    mine, its = first.call().split(","), second.call().split(",")
    assert len(mine) == len(its) == 4 and {*mine, *its} == {device.uuid for device in EIGHT}
    assert lease(agent, control, "none").call() == ""
    control.send({"op": "want", "id": 9, "key": "four", "parameters": ""})
    first.release()  # the third waits for it: nobody gets a device that another has
    assert control.next("grant")["id"] == 9
    agent.close()


def test_a_machine_without_gpus_refuses_and_says_so(tmp_path: Path) -> None:
    agent = machine_with(tmp_path, ())
    control = agent.control("s")
    register(agent, control, four, "four")
    control.send({"op": "want", "id": 1, "key": "four", "parameters": ""})
    refused = control.next("refused")
    error = remote_error.unpack(base64.b64decode(refused["death"]["error"]))
    assert refused["kind"] == "startup" and isinstance(error, ResourceUnavailableError)
    assert "it is not run on CPU instead" in str(error)
    agent.close()


def test_the_names_cover_what_can_be_asked_for() -> None:
    from cloudfn.gpu import TYPES

    assert set(gpus._NAMES) == set(TYPES)
