"""The GPUs of a machine: which there are, and which worker has which."""

from __future__ import annotations

import ctypes
import re
import subprocess
from typing import Any, Callable, Iterable, Sequence

from cloudfn.record import dataclass
from cloudfn.spec import GPUSpec

_LIBRARY = "libnvidia-ml.so.1"
_QUERY = ["--query-gpu=uuid,name,driver_version", "--format=csv,noheader"]
_TEXT = 96  # bytes; NVML's own buffers are no larger
# What NVIDIA calls the cards that `GPUSpec` names.
_NAMES = {
    "T4": r"\bT4\b",
    "V100": r"\bV100\b",
    "L4": r"\bL4\b",
    "A10": r"\bA10G?\b",
    "L40S": r"\bL40S\b",
    "A100-40GB": r"\bA100\b.*40GB",
    "A100-80GB": r"\bA100\b.*80GB",
    "RTX-PRO-6000": r"\bRTX PRO 6000\b",
    "H100": r"\bH100\b",
    "H200": r"\bH200\b",
    "B200": r"\bB200\b",
    "B300": r"\bB300\b",
    "any": "",
}


@dataclass(frozen=True)
class Device:
    """`uuid` as CUDA_VISIBLE_DEVICES takes it ("GPU-.."); `name` is NVIDIA's ("NVIDIA A10G")."""

    uuid: str
    name: str


@dataclass(frozen=True)
class Inventory:
    """The machine's GPUs; `driver` ("535.183.01") and `cuda`, the newest CUDA that it supports, (12, 2), or None."""

    devices: tuple[Device, ...] = ()
    driver: str = ""
    cuda: tuple[int, int] | None = None

    def count(self, wanted: Sequence[GPUSpec]) -> int:
        """How many of these devices a worker takes that accepts any of these, in this order."""
        for spec in wanted:
            if sum(bool(re.search(_NAMES.get(spec.type, ""), device.name)) for device in self.devices) >= spec.count:
                return spec.count
        return min((spec.count for spec in wanted), default=0)  # the plan chose the machine; the name may be new

    def free(self, held: Iterable[str]) -> list[str]:
        """UUIDs that no worker holds."""
        taken = set(held)
        return [device.uuid for device in self.devices if device.uuid not in taken]


def inventory(data: dict[str, Any]) -> Inventory:
    """From JSON: `devices` as pairs, `driver`, `cuda` as a pair or None."""
    cuda = data["cuda"]
    devices = tuple(Device(uuid, name) for uuid, name in data["devices"])
    return Inventory(devices, data["driver"], (cuda[0], cuda[1]) if cuda else None)


def look(load: Callable[[str], Any] = ctypes.CDLL, program: str = "nvidia-smi") -> Inventory:
    """What NVIDIA's driver shows, by its library or else by its program; an empty inventory where there is neither."""
    try:
        return _by_library(load(_LIBRARY))
    except (OSError, AttributeError):  # AttributeError: an NVML older than what is asked of it
        return _by_program(program)


class _Failed(OSError):
    """NVML answered with an error."""


def _by_library(nvml: Any) -> Inventory:
    def ask(name: str, *arguments: Any) -> None:
        status = getattr(nvml, name)(*arguments)
        if status:
            raise _Failed(status, f"{name} failed")

    def text(name: str, *arguments: Any) -> str:
        buffer = ctypes.create_string_buffer(_TEXT)
        ask(name, *arguments, buffer, ctypes.c_uint(_TEXT))
        return buffer.value.decode()

    ask("nvmlInit_v2")
    try:
        count, cuda = ctypes.c_uint(), ctypes.c_int()
        ask("nvmlDeviceGetCount_v2", ctypes.byref(count))
        ask("nvmlSystemGetCudaDriverVersion_v2", ctypes.byref(cuda))
        devices = []
        for index in range(count.value):
            handle = ctypes.c_void_p()
            ask("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
            devices.append(Device(text("nvmlDeviceGetUUID", handle), text("nvmlDeviceGetName", handle)))
        version = (cuda.value // 1000, cuda.value % 1000 // 10)
        return Inventory(tuple(devices), text("nvmlSystemGetDriverVersion"), version)
    finally:
        nvml.nvmlShutdown()


def _by_program(program: str) -> Inventory:
    try:
        listed = subprocess.run([program, *_QUERY], capture_output=True, text=True, timeout=60, check=True).stdout
        summary = subprocess.run([program], capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return Inventory()
    rows = [[part.strip() for part in line.split(",")] for line in listed.splitlines() if line.count(",") == 2]
    found = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", summary)
    cuda = (int(found[1]), int(found[2])) if found else None
    return Inventory(tuple(Device(row[0], row[1]) for row in rows), rows[0][2] if rows else "", cuda)
