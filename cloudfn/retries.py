"""When and how often a failed input is run again."""

from __future__ import annotations

from cloudfn import argument
from cloudfn.exception import InvalidError
from cloudfn.spec import RetryPolicy


class Retries:
    """A retry policy with a fixed or growing delay.

    Args:
        max_retries: how often an input is run again after its first failure; 0 or more.
        backoff_coefficient: each delay is this many times the one before; 1.0 (fixed) to 10.0.
        initial_delay: seconds before the first retry; 0 to 60.
        max_delay: no delay is longer, in seconds; 1 to 60.

    Raises:
        InvalidError: a value out of range or of a wrong type.
    """

    def __init__(
        self,
        *,
        max_retries: int,
        backoff_coefficient: float = 2.0,
        initial_delay: float = 1.0,
        max_delay: float = 60.0,
    ) -> None:
        self.policy = RetryPolicy(
            max_retries=argument.integer("max_retries", max_retries, low=0),
            backoff_coefficient=argument.number("backoff_coefficient", backoff_coefficient, low=1.0, high=10.0),
            initial_delay=argument.number("initial_delay", initial_delay, low=0.0, high=60.0),
            max_delay=argument.number("max_delay", max_delay, low=1.0, high=60.0),
        )

    def __repr__(self) -> str:
        p = self.policy
        return (
            f"Retries(max_retries={p.max_retries}, backoff_coefficient={p.backoff_coefficient:g}, "
            f"initial_delay={p.initial_delay:g}, max_delay={p.max_delay:g})"
        )


def parse(value: int | Retries | None) -> RetryPolicy | None:
    """The policy that `retries=` asks for; an int means that many retries, one second apart.

    Raises `InvalidError` for a negative number or another type.
    """
    if value is None:
        return None
    if isinstance(value, Retries):
        return value.policy
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidError(
            f"retries={value!r}: must be an integer, a Retries or None, not {type(value).__name__}.",
            hint="For example: retries=3, or retries=Retries(max_retries=3, initial_delay=5.0).",
        )
    return RetryPolicy(max_retries=argument.integer("retries", value, low=0))
