"""What the cloud tells a machine about its end: a spot instance is taken back, or its group lets it go."""

from __future__ import annotations

import datetime
import json
from typing import Callable

from cloudfn.record import dataclass

_GROUP = "meta-data/autoscaling/target-lifecycle-state"
_SPOT = "meta-data/spot/instance-action"


@dataclass(frozen=True)
class Notice:
    """`reason` is "spot" or "terminate"; `seconds` until the machine is gone, None where nobody says."""

    reason: str
    seconds: float | None


def look(get: Callable[[str], str | None], now: float) -> Notice | None:
    """Whether there is such a notice.

    Args:
        get: reads the metadata service; None for what is not there.
        now: epoch seconds.
    """
    text = get(_SPOT)
    if text is not None:
        return Notice("spot", _seconds(text, now))
    if (get(_GROUP) or "").strip() == "Terminated":
        return Notice("terminate", None)
    return None


def _seconds(text: str, now: float) -> float:
    """Of `{"action": "terminate", "time": "2026-01-02T03:04:05Z"}`; two minutes, the usual time, for anything else."""
    try:
        then = datetime.datetime.strptime(json.loads(text)["time"], "%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, KeyError, TypeError):
        return 120.0
    return max(0.0, then.replace(tzinfo=datetime.timezone.utc).timestamp() - now)
