from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modal._utils.function_utils import parse_gpu_config

from cloudfn import gpu
from cloudfn.exception import InvalidError
from cloudfn.spec import GPUSpec

# What Modal's guide lists, and what older programs still say.
MODAL_SPELLINGS = [
    "T4", "t4", "L4", "A10", "A10G", "L40S", "V100", "A100", "A100-40GB", "A100-80GB", "a100-80gb", "RTX-PRO-6000",
    "H100", "H100!", "H200", "B200", "B200+", "any", "ANY", "H100:8", "h100!:2", "A10G:4", "any:2",
]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ([], ()),
        ("t4", (GPUSpec("T4"),)),
        ("A10G:4", (GPUSpec("A10", 4),)),
        ("A100", (GPUSpec("A100-40GB"),)),
        ("a100-80gb:2", (GPUSpec("A100-80GB", 2),)),
        ("H100!:8", (GPUSpec("H100", 8),)),
        ("B200+", (GPUSpec("B200"), GPUSpec("B300"))),
        ("ANY", (GPUSpec("any"),)),
        (" h100 : 2 ", (GPUSpec("H100", 2),)),
        (["H100", "a100-80gb:2", "any"], (GPUSpec("H100"), GPUSpec("A100-80GB", 2), GPUSpec("any"))),
        (("T4", "t4", "L4"), (GPUSpec("T4"), GPUSpec("L4"))),
    ],
)
def test_parses_to_canonical_names_in_order(value: object, expected: tuple[GPUSpec, ...]) -> None:
    assert gpu.parse(value) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("spelling", MODAL_SPELLINGS)
def test_every_spelling_of_modal_is_accepted_with_modals_count(spelling: str) -> None:
    assert {spec.count for spec in gpu.parse(spelling)} == {parse_gpu_config(spelling).count or 1}


@pytest.mark.parametrize("name", gpu.TYPES)
def test_canonical_names_mean_themselves(name: str) -> None:
    assert gpu.parse(name) == (GPUSpec(name),)


@pytest.mark.parametrize(
    ("value", "guess"), [("A1000", "A100"), ("a100-80g", "A100-80GB"), ("H-100", "H100"), ("ani", "any")]
)
def test_an_unknown_gpu_is_named_with_the_known_ones_and_the_nearest(value: str, guess: str) -> None:
    with pytest.raises(InvalidError) as caught:
        gpu.parse(["T4", value])
    assert f'no GPU "{value}"' in caught.value.message
    assert f'Did you mean "{guess}"?' in caught.value.message
    assert all(name in caught.value.hint for name in gpu.TYPES)


@pytest.mark.parametrize(
    "value", ["T4:0", "T4:9", "T4:", "T4:x", "T4:-1", "T4:1.0", "T4:1:2", "T4:+1", "T4:٣", "T4:" + "9" * 5000]
)
def test_a_bad_count_is_refused(value: str) -> None:
    with pytest.raises(InvalidError, match="count after the colon must be 1 to 8"):
        gpu.parse(value)


@pytest.mark.parametrize("value", [5, True, {"T4"}, b"T4", [None], [""], ["T4", ["L4"]], " ", ":2", "H100!!", "T4!"])
def test_what_is_no_gpu_is_refused(value: object) -> None:
    with pytest.raises(InvalidError, match="gpu"):
        gpu.parse(value)  # type: ignore[arg-type]


@given(st.sampled_from(MODAL_SPELLINGS), st.lists(st.booleans(), min_size=14, max_size=14))
def test_case_does_not_matter(spelling: str, upper: list[bool]) -> None:
    mixed = "".join(c.upper() if up else c.lower() for c, up in zip(spelling, upper, strict=False))
    assert gpu.parse(mixed) == gpu.parse(spelling)


@given(st.lists(st.tuples(st.sampled_from(gpu.TYPES), st.integers(1, 8)), unique=True))
def test_a_list_keeps_its_order_and_its_members(choices: list[tuple[str, int]]) -> None:
    parsed = gpu.parse([f"{name}:{count}" for name, count in choices])
    assert [(spec.type, spec.count) for spec in parsed] == choices


@given(st.text() | st.from_regex(r"\A[A-Za-z0-9!+-]{1,9}:[0-9]{1,3}\Z"))
def test_any_text_gives_known_gpus_or_an_invalid_error(text: str) -> None:
    try:
        parsed = gpu.parse(text)
    except InvalidError:
        return
    assert all(spec.type in gpu.TYPES and 1 <= spec.count <= 8 for spec in parsed)
