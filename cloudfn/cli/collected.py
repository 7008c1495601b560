"""What `cloudfn serve` and its collector tell each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Sequence

if TYPE_CHECKING:
    from cloudfn.client.target import FunctionPayload


@dataclass(frozen=True)
class Order:
    """What to look at; as JSON the process's only argument.

    Attributes:
        out: the descriptor that takes the pickled `Found`.
        preload: modules to import beforehand.
    """

    out: int
    reference: str
    is_module: bool
    environment: str | None
    cloud: str | None
    preload: Sequence[str]


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        functions: with secrets: never to be logged or written.
        files: that it comes from, whatever went wrong.
        packages: installed modules that it imported.
        code: 0, or what the process that showed the error would exit with.
    """

    app: str
    functions: list[FunctionPayload]
    files: list[str]
    packages: list[str]
    code: int
