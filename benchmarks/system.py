"""What a system under test must offer. Measures are written once, over these verbs."""

from __future__ import annotations

from typing import Any, Iterable, Sequence


class System:
    """Two workers that run one function of `benchmarks.work`, reached the way a user of the system would.

    Attributes:
        map_inputs: inputs of the long map. Lower where a rate shows as well with fewer.
        calls: blocking calls that are timed, and inputs of 1 ms of the CPU measure. Lower where all of them would take
            minutes.
    """

    map_inputs = 20_000
    calls = 2000

    def start(self, work: str) -> None:
        """Bring up two workers for the function named `work`."""
        raise NotImplementedError

    def call(self, value: Any) -> Any:
        """One blocking call."""
        raise NotImplementedError

    def map(self, values: Sequence[Any]) -> Iterable[Any]:
        """Results in the order of `values`, one call for each, without batches made by hand."""
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def another_worker(self) -> float:
        """Seconds from asking for one more worker until its first result. Called after `start("noop")`."""
        raise NotImplementedError

    def round_trip(self, array: Any) -> Any:
        """Send an array to a worker and get it back."""
        return self.call(array)

    def use_road(self, road: str) -> None:
        """Before `start`: workers shall share no memory with us, and be reached by a road, as on another machine.

        Args:
            road: "tcp", a plain stream; "ssh", a stream through `ssh -L`. Systems without such a switch leave it out.
        """
        raise NotImplementedError
