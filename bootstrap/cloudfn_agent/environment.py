"""What agent, zygotes and workers inherit of the environment that their app was started in."""

from __future__ import annotations

import os

# Credentials are not among it.
_PASSED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "TEMP", "SHELL", "VIRTUAL_ENV", "LD_LIBRARY_PATH")
_PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_")


def base_environment() -> dict[str, str]:
    """The environment of user code before image and secrets add to it."""
    kept = {name: value for name, value in os.environ.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
