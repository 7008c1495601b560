"""The resources of a function as users spell them, turned into `Resources`."""

from __future__ import annotations

from typing import Any, Callable, Sequence, TypeVar

from cloudfn import argument
from cloudfn import gpu as gpus
from cloudfn.exception import InvalidError
from cloudfn.spec import Resources

N = TypeVar("N", int, float)


def parse(
    cpu: float | tuple[float, float] | None = None,
    memory: int | tuple[int, int] | None = None,
    gpu: str | Sequence[str] | None = None,
    ephemeral_disk: int | None = None,
) -> Resources:
    """What one worker needs.

    Args:
        cpu: cores reserved, or (reserved, hard limit); 0.125 when None.
        memory: MiB reserved, or (reserved, hard limit); 128 when None.
        gpu: see `cloudfn.gpu.parse`.
        ephemeral_disk: MiB of scratch disk.

    Raises:
        InvalidError: a wrong type, a value that is not above 0, or a limit below its request.
    """
    cores, cores_limit = _request_and_limit("cpu", cpu, 0.125, _cores)
    mib, mib_limit = _request_and_limit("memory", memory, 128, _mib)
    disk = None if ephemeral_disk is None else _mib("ephemeral_disk", ephemeral_disk)
    return Resources(cores, cores_limit, mib, mib_limit, gpus.parse(gpu), disk)


def _request_and_limit(name: str, value: Any, default: N, check: Callable[[str, Any], N]) -> tuple[N, N | None]:
    if value is None:
        return default, None
    if not isinstance(value, tuple):
        return check(name, value), None
    if len(value) != 2:
        raise InvalidError(f"{name}={value!r}: a tuple must hold two numbers, (request, limit), not {len(value)}.")
    request, limit = check(f"{name}[0]", value[0]), check(f"{name}[1]", value[1])
    if limit < request:
        raise InvalidError(f"{name}={value!r}: the limit {limit:g} is below the request {request:g}.")
    return request, limit


def _cores(name: str, value: Any) -> float:
    return argument.number(name, value, above=0)


def _mib(name: str, value: Any) -> int:
    return argument.integer(name, value, above=0)
