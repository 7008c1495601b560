"""In a worker, before its code: that the driver of this machine supports the CUDA which the image's libraries want."""

from __future__ import annotations

import os
import re
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Iterator

from cloudfn.exception import ResourceUnavailableError

STRICT_VARIABLE = "CLOUDFN_STRICT_GPU"
_CUDA = re.compile(r"^cuda\b.*?['\"](\d+)\.(\d+)", re.MULTILINE)
# Whose version is CUDA's.
_PACKAGES = ("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime-cu11", "nvidia-cuda-runtime")
Version = tuple[int, int]


def prepare(gpu: dict[str, Any], tag: str) -> None:
    """Show a worker the devices that are its own, and no other; check them.

    Args:
        gpu: `devices` (UUIDs), `wanted` (how many), `driver` and `cuda` (a pair, or None) of the machine.
        tag: the function's, for messages.

    Raises:
        ResourceUnavailableError: the machine has no GPU for it, or its driver is too old for what the image holds.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu["devices"])
    if not gpu["wanted"]:
        return
    if len(gpu["devices"]) < gpu["wanted"]:
        raise ResourceUnavailableError(
            f"{tag} asks for {gpu['wanted']} GPU(s), and this machine has {len(gpu['devices'])} for it; it is not run "
            "on CPU instead",
            hint="Does the machine's image have NVIDIA's driver? `cloudfn shell` and nvidia-smi show what it sees.",
        )
    if gpu["cuda"] is None:
        return
    supported = (int(gpu["cuda"][0]), int(gpu["cuda"][1]))
    for name, wanted in wants():
        text = f"driver {gpu['driver']} supports CUDA {_dotted(supported)}, {name} wants {_dotted(wanted)}"
        if wanted[0] > supported[0] or (wanted > supported and os.environ.get(STRICT_VARIABLE, "") not in ("", "0")):
            raise ResourceUnavailableError(
                f"{tag}: {text}",
                hint=f"Install a build of {name} for CUDA {_dotted(supported)} or older, or use a machine image with "
                "a newer driver.",
            )
        if wanted > supported:  # NVIDIA promises this to work within a major version, but for code compiled on the spot
            print(f"cloudfn: {tag}: {text}; what is compiled at run time may fail", file=sys.stderr, flush=True)


def wants() -> Iterator[tuple[str, Version]]:
    """Libraries of this interpreter that bring CUDA, and which; nothing of them is imported."""
    torch = _of_torch()
    if torch:
        yield "torch", torch
        return  # its CUDA packages say the same
    for name in _PACKAGES:
        try:
            found = re.match(r"(\d+)\.(\d+)", metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
        if found:
            yield name, (int(found[1]), int(found[2]))
            return


def _of_torch() -> Version | None:
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        found = _CUDA.search(Path(spec.origin).with_name("version.py").read_text())
    except OSError:
        return None
    return (int(found[1]), int(found[2])) if found else None


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
