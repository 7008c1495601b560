"""Shells where a function's workers run. A capability a provider may lack."""

from __future__ import annotations

from typing import Mapping, Protocol, Sequence, runtime_checkable

from cloudfn.provider import Runtime


@runtime_checkable
class HasShell(Protocol):
    """A provider that can put a person into a worker's place."""

    def shell(
        self, runtime: Runtime, environment: Mapping[str, str], folders: Sequence[str], command: Sequence[str]
    ) -> int:
        """Run a command, or a shell, with this process's terminal, as a worker of the image would run.

        Args:
            environment: variables of the function's secrets; on top of the image's own.
            folders: of the function's code, first on Python's path.
            command: words; () for the user's shell.

        Returns:
            Its exit code.
        """
