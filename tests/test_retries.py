from __future__ import annotations

import inspect
import math
from typing import Any

import modal
import pytest
from hypothesis import given
from hypothesis import strategies as st
from modal._utils.function_utils import _parse_retries
from modal.exception import InvalidError as ModalInvalidError

from cloudfn import retries
from cloudfn.exception import InvalidError
from cloudfn.retries import Retries
from cloudfn.spec import RetryPolicy


def test_the_signature_is_modals() -> None:
    ours, theirs = (inspect.signature(cls).parameters.values() for cls in (Retries, modal.Retries))
    assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs]


def test_a_policy_carries_all_values() -> None:
    policy = Retries(max_retries=4, backoff_coefficient=3, initial_delay=0.5, max_delay=9).policy
    assert policy == RetryPolicy(4, 3.0, 0.5, 9.0)


def test_a_number_means_fixed_delays_of_one_second() -> None:
    policy = retries.parse(3)
    assert policy == RetryPolicy(max_retries=3, backoff_coefficient=1.0, initial_delay=1.0)
    assert [policy.delay(attempt) for attempt in (1, 2, 3)] == [1.0, 1.0, 1.0]


def test_none_and_zero_differ() -> None:
    assert retries.parse(None) is None
    assert retries.parse(0) == RetryPolicy(max_retries=0)


def test_a_retries_object_is_taken_as_it_is() -> None:
    given_ = Retries(max_retries=2)
    assert retries.parse(given_) == given_.policy == RetryPolicy(2, 2.0, 1.0, 60.0)


@pytest.mark.parametrize("bad", [-1, True, 1.0, "3", [], modal.Retries(max_retries=1)])
def test_other_values_are_refused(bad: Any) -> None:
    with pytest.raises(InvalidError, match="retries="):
        retries.parse(bad)


@pytest.mark.parametrize(
    ("argument", "bad"),
    [
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("max_retries", None),
        ("backoff_coefficient", 0.9),
        ("backoff_coefficient", 10.1),
        ("backoff_coefficient", "2"),
        ("initial_delay", -0.1),
        ("initial_delay", 60.1),
        ("initial_delay", math.nan),
        ("max_delay", 0.9),
        ("max_delay", 61),
        ("max_delay", math.inf),
    ],
)
def test_a_bad_argument_is_named_with_its_value(argument: str, bad: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        Retries(**{"max_retries": 1, argument: bad})
    assert caught.value.message.startswith(f"{argument}={bad!r}")


near_the_bounds = st.sampled_from([-1, -0.1, 0, 0.5, 0.99, 1, 1.5, 9.9, 10, 10.1, 59.9, 60, 60.1, 1e9])


@given(st.integers(-2, 10), near_the_bounds, near_the_bounds, near_the_bounds)
def test_agrees_with_modal_on_what_is_valid_and_what_it_means(count: int, factor: Any, first: Any, most: Any) -> None:
    arguments = {"max_retries": count, "backoff_coefficient": factor, "initial_delay": first, "max_delay": most}
    try:
        theirs = _parse_retries(modal.Retries(**arguments))
    except ModalInvalidError:
        with pytest.raises(InvalidError):
            Retries(**arguments)
        return
    assert theirs is not None
    ours = Retries(**arguments).policy
    assert (ours.max_retries, ours.initial_delay * 1000, ours.max_delay * 1000) == (
        theirs.retries,
        theirs.initial_delay_ms,
        theirs.max_delay_ms,
    )
    assert ours.backoff_coefficient == pytest.approx(theirs.backoff_coefficient)
