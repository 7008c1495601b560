from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modal._resources import convert_fn_config_to_resources_config

from cloudfn import resources
from cloudfn.exception import InvalidError
from cloudfn.spec import GPUSpec, Resources


def test_nothing_asked_for_gives_the_defaults() -> None:
    assert resources.parse() == Resources(0.125, None, 128, None, (), None)


def test_everything_asked_for_arrives() -> None:
    parsed = resources.parse(cpu=(0.5, 2), memory=(512, 1024), gpu=["H100:2", "any"], ephemeral_disk=2048)
    assert parsed == Resources(0.5, 2.0, 512, 1024, (GPUSpec("H100", 2), GPUSpec("any")), 2048)


def test_numpy_numbers_become_plain_ones() -> None:
    parsed = resources.parse(cpu=np.float32(0.5), memory=np.int64(256))
    assert (parsed.cpu, parsed.memory) == (0.5, 256)
    assert type(parsed.cpu) is float and type(parsed.memory) is int


@pytest.mark.parametrize("bad", [0, -1, -0.5, True, "1", math.nan, math.inf, 10**400, [1, 2], {}, 1j, np.zeros(2)])
def test_a_bad_cpu_is_named_with_its_value(bad: Any) -> None:
    with pytest.raises(InvalidError, match=r"^cpu="):
        resources.parse(cpu=bad)
    with pytest.raises(InvalidError, match=r"^cpu\[1\]="):
        resources.parse(cpu=(1, bad))


@pytest.mark.parametrize("bad", [0, -1, 1.5, 128.0, False, "128", "1GiB", math.nan, [1, 2], np.True_])
@pytest.mark.parametrize("argument", ["memory", "ephemeral_disk"])
def test_bad_mebibytes_are_named_with_their_value(argument: str, bad: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        resources.parse(**{argument: bad})
    assert caught.value.message.startswith(f"{argument}={bad!r}")


@pytest.mark.parametrize("argument", ["cpu", "memory"])
@pytest.mark.parametrize("bad", [(), (1,), (1, 2, 3), (2, 1), (None, 1), (1, None)])
def test_a_bad_pair_is_refused(argument: str, bad: Any) -> None:
    with pytest.raises(InvalidError, match=rf"^{argument}"):
        resources.parse(**{argument: bad})


def test_a_bad_gpu_is_refused_here_too() -> None:
    with pytest.raises(InvalidError, match="A1000"):
        resources.parse(gpu="A1000")


def test_a_huge_value_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidError) as caught:
        resources.parse(cpu="x" * 10_000)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


cores = st.integers(1, 64_000).map(lambda milli: milli / 1000)
mebibytes = st.integers(1, 1 << 22)


@given(cores | st.tuples(cores, cores), mebibytes | st.tuples(mebibytes, mebibytes))
def test_agrees_with_modal_on_what_is_valid_and_what_it_means(cpu: Any, memory: Any) -> None:
    try:
        theirs = convert_fn_config_to_resources_config(cpu=cpu, memory=memory, gpu=None)
    except Exception:  # noqa: BLE001 (modal's own InvalidError; whichever it is, we must refuse, too)
        with pytest.raises(InvalidError, match="limit"):
            resources.parse(cpu, memory)
        return
    if isinstance(cpu, tuple) and cpu[1] < cpu[0]:
        return  # equal after modal's rounding down to thousandths
    ours = resources.parse(cpu, memory)
    assert (ours.memory, ours.memory_limit or 0) == (theirs.memory_mb, theirs.memory_mb_max)
    assert (int(1000 * ours.cpu), int(1000 * (ours.cpu_limit or 0))) == (theirs.milli_cpu, theirs.milli_cpu_max)
