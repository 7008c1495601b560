"""From a command line to a plan: what `plan` does and `up` begins with."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from cloudfn.cli import importer
from cloudfn.exception import InvalidError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

    from cloudfn.app import App
    from cloudfn.engine.deployed import Look
    from cloudfn.plan_spec import Plan
    from cloudfn.policy import Quotas
    from cloudfn.settings import Settings
    from cloudfn.spec import AppSpec

LOCAL = "local"
"""The provider that is this machine."""


def load_app(reference: importer.Reference, name: str | None) -> App:
    """The app of a file or module. What its top level prints goes to stderr: stdout is for the plan.

    Args:
        name: the app's variable or its own name, where there are several; None takes `FILE::NAME`, or the only one.

    Raises:
        UsageError: there is none, or several and nothing says which; and as `importer.load`.
    """
    with redirect_stdout(sys.stderr):
        module = importer.look_at(reference)
    if name is not None:
        return _named(module, name, reference)
    app, rest = importer.find_app(module, reference)
    if rest:
        raise UsageError(f"{rest!r} is no app of {reference.target}.", hint="A plan is for a whole app.")
    return app


def load_settings(reference: importer.Reference, environment: str | None, cloud: str | None) -> Settings:
    """The settings that hold for a file, or for a module in the current folder.

    Raises:
        InvalidError: a mistake in a file; or the provider is this machine, which needs no plan.
    """
    start = Path.cwd() if reference.is_module else Path(reference.target).parent
    return _of_a_cloud(start, environment, cloud, reference.target)


def named(app: str | None, environment: str | None, cloud: str | None) -> Plan:
    """What is known of a stack by its name and the settings of the current folder: no function and no group.

    Raises:
        UsageError: no app is named.
        InvalidError: as `load_settings`.
    """
    from cloudfn import clouds, plan

    if app is None:
        raise UsageError("Which stack?", hint="Give the app's FILE, or the name of a deployed app: --app NAME")
    settings = _of_a_cloud(Path.cwd(), environment, cloud, f"The app {app!r}")
    return plan.unmade(app, settings, clouds.cloud(settings.provider))


def _of_a_cloud(start: Path, environment: str | None, cloud: str | None, who: str) -> Settings:
    from cloudfn import config

    settings = config.load(start, environment, {"provider": cloud} if cloud else None).settings
    if settings.provider == LOCAL:
        raise InvalidError(
            f'{who} runs on this machine (provider = "local"): nothing would be created, nothing costs.',
            hint='For a cloud: give --cloud aws or --cloud gcp, or set provider = "aws" in cloudfn.toml '
            "(`cloudfn init` writes one).",
        )
    return settings


def make(app: App, settings: Settings, quotas: Quotas | None = None) -> Plan:
    """The plan of an app, with the findings of all checks; raises as `cloudfn.plan.make` and `cloudfn.policy.apply`."""
    from cloudfn import clouds, collect, plan, policy

    spec: AppSpec = collect.spec(app)
    return policy.apply(plan.make(spec, settings, clouds.cloud(settings.provider)), quotas)


def look(app: App, settings: Settings) -> Look:
    """Begins to look at what is deployed."""
    from cloudfn import clouds, plan_names
    from cloudfn.engine.deployed import Look

    stack = plan_names.stack(app.label, settings.environment)
    return Look(settings, stack, clouds.cloud(settings.provider))


def _named(module: ModuleType, name: str, reference: importer.Reference) -> App:
    from cloudfn.app import App

    apps = {variable: value for variable, value in vars(module).items() if isinstance(value, App)}
    for variable, app in apps.items():
        if name in (variable, app.label):
            return app
    known = ", ".join(sorted({app.label for app in apps.values()})) or "none"
    raise UsageError(f"There is no app {name!r} in {reference.target}.", hint=f"It has: {known}.")
