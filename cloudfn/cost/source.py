"""Who knows the prices of a cloud. Found by the entry-point group `cloudfn.prices`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Sequence

from cloudfn.catalogue import Catalogue
from cloudfn.exception import NotFoundError

GROUP = "cloudfn.prices"
Report = Callable[[str], None]


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        path: the table that was written.
        regions: whose prices are new.
        machines: how many machine types have a price in at least one of them.
        lost: those of the old table that these regions do not sell (any more).
        units: keys of the unit prices that are new; the others stay as they were, each with its own date.
    """

    path: Path
    regions: tuple[str, ...]
    machines: int
    lost: tuple[str, ...]
    units: tuple[str, ...] = ()


class PriceSource(ABC):
    """The prices of one cloud."""

    @abstractmethod
    def catalogue(self) -> Catalogue:
        """The shipped table, or a fresher one of the user's."""

    @abstractmethod
    def refresh(self, regions: Sequence[str], report: Report) -> Refreshed:
        """Read today's prices from the cloud's price API and write the user's table. On any error the old one stays.

        Args:
            regions: whose prices are wanted at least; empty: the cloud's own choice.
            report: gets a line about each step.

        Raises:
            InvalidError: a region that does not exist.
            AuthError: no credentials, or not good enough.
            ConnectionError: the API does not answer.
            ProtocolError: the answer is not what it should be.
        """


def installed() -> tuple[str, ...]:
    """Names of the clouds whose prices can be asked for."""
    from importlib.metadata import entry_points

    return tuple(sorted(point.name for point in entry_points(group=GROUP)))


def source(name: str) -> PriceSource:
    """The prices of the cloud of this name.

    Raises:
        NotFoundError: none of this name is installed.
    """
    from importlib.metadata import entry_points

    for point in entry_points(group=GROUP):
        if point.name == name:
            made: PriceSource = point.load()()
            return made
    raise NotFoundError(f"There are no prices of a cloud {name!r}. Installed: {', '.join(installed()) or 'none'}.")
