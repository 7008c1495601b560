"""GPU requests as users spell them, turned into `GPUSpec`s."""

from __future__ import annotations

from typing import Any, Sequence

from cloudfn.exception import InvalidError
from cloudfn.spec import GPUSpec

TYPES = (
    "T4",
    "V100",
    "L4",
    "A10",
    "L40S",
    "A100-40GB",
    "A100-80GB",
    "RTX-PRO-6000",
    "H100",
    "H200",
    "B200",
    "B300",
    "any",
)
"""The canonical names, roughly from small to large; "any" is whatever the place to run has."""

# What a spelling stands for. cloudfn never swaps a GPU for a dearer one behind the user's back, because it is the
# user's own bill: so "H100!" (no upgrade) says nothing more than "H100", and "A100" is the 40 GB card that it costs.
_MEANINGS: dict[str, tuple[str, ...]] = {
    **{name.upper(): (name,) for name in TYPES},
    "A10G": ("A10",),  # the name that AWS gives its A10
    "A100": ("A100-40GB",),
    "H100!": ("H100",),
    "B200+": ("B200", "B300"),
}

# The largest machine that any cloud sells holds eight. That one type comes in fours at most somewhere (A10 in Modal's
# own pool; AWS has eight) is for the plan to say, which knows the machines.
MAX_COUNT = 8


def parse(value: str | Sequence[str] | None) -> tuple[GPUSpec, ...]:
    """The accelerators that a function accepts, in order of preference; empty for none.

    Args:
        value: a name in any case ("T4", "a100-80gb", "any"), with a count ("H100:8", 1 to 8) or without, or a list of
            those to fall back along. None, "" and [] ask for no GPU.

    Raises:
        InvalidError: an unknown name or a bad count.
    """
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return _parse_one(value)
    if not isinstance(value, (list, tuple)):
        raise InvalidError(
            f"gpu={value!r}: must be a name, a list of names or None, not {type(value).__name__}.",
            hint='For example: gpu="T4", gpu="H100:8" or gpu=["H100", "A100-80GB"].',
        )
    found = [spec for item in value for spec in _parse_one(item)]
    return tuple(dict.fromkeys(found))  # a repeated choice is no further choice


def _parse_one(text: Any) -> tuple[GPUSpec, ...]:
    if not isinstance(text, str):
        raise InvalidError(f"gpu: {text!r} in the list is no name of a GPU, but {type(text).__name__}.")
    name, colon, digits = text.partition(":")
    names = _MEANINGS.get(name.strip().upper())
    if names is None:
        raise _unknown(text, name.strip())
    count = _parse_count(text, digits.strip()) if colon else 1
    return tuple(GPUSpec(type, count) for type in names)


def _parse_count(text: str, digits: str) -> int:
    # isascii: int() would also take digits of other scripts, signs and underscores. The length is bounded because
    # int() of some thousand digits is an error of its own.
    valid = digits.isascii() and digits.isdigit() and len(digits) <= 3 and 1 <= int(digits) <= MAX_COUNT
    if not valid:
        raise InvalidError(f"gpu={text!r}: the count after the colon must be 1 to {MAX_COUNT}, not {digits!r}.")
    return int(digits)


def _unknown(text: str, name: str) -> InvalidError:
    import difflib

    # Nearest among all that can be typed; users who mistype want to see the spelling, not the canonical name.
    near = difflib.get_close_matches(name.upper(), _MEANINGS, n=1, cutoff=0.5)
    guess = f' Did you mean "{near[0].replace("ANY", "any")}"?' if near else ""
    return InvalidError(f'gpu={text!r}: there is no GPU "{name}".{guess}', hint=f"Known GPUs: {', '.join(TYPES)}.")
