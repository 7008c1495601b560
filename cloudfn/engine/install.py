"""Finds the Pulumi CLI, and has it installed where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from cloudfn.exception import DeploymentError, NotFoundError, VersionError

if TYPE_CHECKING:
    from cloudfn.engine.command import Engine

VARIABLE = "CLOUDFN_PULUMI"
"""Path of the CLI to use, above all others."""

Ask = Callable[[str], bool]
"""Asked with one line on what would be done; True: the user agrees."""


def engine(ask: Ask) -> Engine:
    """The CLI: the one named by `CLOUDFN_PULUMI`, that of PATH, one that was installed before, or a new one.

    Args:
        ask: before anything is installed.

    Raises:
        NotFoundError: there is none, and the user does not want one.
        VersionError: the one that the user named or has on PATH is too old for the Automation API.
        DeploymentError: it could not be installed.
    """
    _need_sdk()
    found = _given() or _installed()
    return _open(found) if found else _install(ask)


def _need_sdk() -> None:
    from importlib.util import find_spec

    if find_spec("pulumi") is None:
        raise NotFoundError(
            "The Python package pulumi is not installed.", hint="Install the cloud's part: pip install 'cloudfn[all]'"
        )


def _given() -> Path | None:
    named = os.environ.get(VARIABLE)
    if named:
        if not os.access(named, os.X_OK):
            raise NotFoundError(f"{VARIABLE}={named}: there is no program.", hint="Name the Pulumi CLI, or unset it.")
        return Path(named).absolute()
    on_path = shutil.which("pulumi")
    return Path(on_path) if on_path else None


def _installed() -> Path | None:
    path = _root() / "bin" / "pulumi"
    return path if path.exists() else None


def _root() -> Path:
    """Where the Automation API installs by default."""
    from importlib.metadata import version

    return Path.home() / ".pulumi" / "versions" / version("pulumi")


def _open(path: Path) -> Engine:
    from pulumi.automation import InvalidVersionError

    from cloudfn.engine.command import Engine

    try:
        return Engine(path)
    except InvalidVersionError as error:
        raise VersionError(
            f"The Pulumi CLI {path} does not fit: {error}",
            hint="Update it (https://www.pulumi.com/docs/install), or take it from PATH and let cloudfn install one.",
        ) from None
    except (OSError, subprocess.CalledProcessError) as error:
        raise DeploymentError(f"The Pulumi CLI {path} does not run: {error}.") from None


def _install(ask: Ask) -> Engine:
    from pulumi.automation import PulumiCommand

    root = _root()
    if not ask(f"The Pulumi CLI is missing. Install version {root.name} from get.pulumi.com into {root}?"):
        raise NotFoundError(
            "The Pulumi CLI is missing.", hint="Install it: https://www.pulumi.com/docs/install, or say yes next time."
        )
    try:
        PulumiCommand.install(root=str(root))
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "output", b"") or b""
        raise DeploymentError(
            f"The Pulumi CLI could not be installed into {root}: {output.decode(errors='replace').strip() or error}.",
            hint="Install it by hand: https://www.pulumi.com/docs/install",
        ) from error
    return _open(root / "bin" / "pulumi")
