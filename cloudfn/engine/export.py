"""A plan as an ordinary Pulumi project, for those who want to go on without our command line."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cloudfn import plan_json
from cloudfn.exception import AlreadyExistsError, PermissionDeniedError
from cloudfn.plan_spec import Plan

PROJECT = """\
name: cloudfn
description: {stack}, written by cloudfn {version}
runtime:
  name: python
  options:
    virtualenv: .venv
"""

PROGRAM = '''\
"""Makes what plan.json says. Edit the plan, or replace this program by your own resources."""

import json
from pathlib import Path

from cloudfn import plan_json
from {module} import {function}

plan = plan_json.from_json(json.loads(Path(__file__).with_name("plan.json").read_text(encoding="utf-8")))
{function}(plan)
'''

README = """\
# {stack}

An ordinary [Pulumi](https://www.pulumi.com) project, written by `cloudfn export`. It makes the same resources as
`cloudfn up` for the app {app} in the environment {environment}.

    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    pulumi login {login}
    pulumi stack select --create {stack}
{config}    pulumi preview
    pulumi up

- `plan.json` is the plan: every group, role, port and tag. A change there is a change of the cloud.
- `__main__.py` hands it to cloudfn's program, which is made of component resources ({module}). To leave cloudfn
  altogether, copy these components into this folder, or write your own.
- A stack that `cloudfn up` made goes on here, with the same state, if `pulumi login` names the same backend. Do not use
  both at once: whoever runs last wins.
- The values of secrets are in none of these files; `cloudfn up` sets them, and so can you, with the cloud's own tools.
{notes}"""


def write(plan: Plan, folder: Path) -> list[Path]:
    """Write the project, and return its files.

    Raises:
        AlreadyExistsError: there is something in the folder already.
        PermissionDeniedError: it cannot be written to.
        NotFoundError: the cloud's stacks are not installed.
    """
    files = _files(plan)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise AlreadyExistsError(f"The folder {folder} is not empty.", hint="Name a new one.")
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise PermissionDeniedError(f"{folder} cannot be written to: {error.strerror}.") from error
    return [folder / name for name in files]


def _files(plan: Plan) -> dict[str, str]:
    from cloudfn import clouds

    program = clouds.program(plan.cloud)
    where = {"module": program.__module__, "function": program.__qualname__}
    region = plan.settings.regions[0] if plan.settings.regions else ""
    asks = any("caller" in port.sources for port in plan.ports)
    config = f"    pulumi config set {plan.cloud}:region {region}\n" if region else ""
    config += "    pulumi config set cloudfn:caller 203.0.113.7/32   # who may reach machines by SSH\n" if asks else ""
    data = json.dumps(plan_json.to_json(plan), indent=2) + "\n"
    return {
        "Pulumi.yaml": PROJECT.format(stack=plan.stack, version=_version("cloudfn")),
        "__main__.py": PROGRAM.format(**where),
        "plan.json": data,
        "requirements.txt": _requirements(plan),
        "README.md": README.format(
            stack=plan.stack,
            app=plan.app,
            environment=plan.environment,
            login=plan.settings.state.url or "<the backend of the state>",
            module=program.__module__.rpartition(".")[0],
            config=config,
            notes="".join(f"- {note}\n" for note in plan.notes),
        ),
    }


def _requirements(plan: Plan) -> str:
    """The versions that run here: a plan is read by the version that wrote it."""
    pinned = [f"cloudfn[{plan.cloud}]=={_version('cloudfn')}"]
    pinned += [f"{name}=={_version(name)}" for name in ("pulumi", f"pulumi-{plan.cloud}") if _version(name)]
    return "\n".join(pinned) + "\n"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
