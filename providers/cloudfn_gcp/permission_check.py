"""Which permissions of the deploy role the caller lacks."""

from __future__ import annotations

import re
from typing import Any

from cloudfn.account import Obstacle
from cloudfn.exception import InvalidError
from cloudfn.plan_spec import Plan
from cloudfn_gcp import deploy_role
from cloudfn_gcp.google_api import Body, call

MOST = 100
"""Permissions in one question."""


def obstacles(projects: Any, plan: Plan, project: str, principal: str) -> list[Obstacle]:
    """Those that the caller lacks, in one obstacle."""
    wanted = deploy_role.needed(plan)
    missing = [
        name for start in range(0, len(wanted), MOST) for name in _lacks(projects, project, wanted[start:][:MOST])
    ]
    if not missing:
        return []
    message = f"{principal} lacks on the project {project}: {', '.join(missing)}"
    mend = f"Ask an owner of {project} for a role that has them: https://console.cloud.google.com/iam-admin/iam?project={project}"
    return [Obstacle("permissions", True, message, mend)]


def _lacks(projects: Any, project: str, wanted: tuple[str, ...]) -> list[str]:
    """Google refuses a whole question for one permission that cannot be asked about on a project; such are left out:
    to ask about them is possible only once what they are about exists."""
    asked = list(wanted)
    while asked:
        request = projects.testIamPermissions(resource=project, body={"permissions": asked})
        try:
            answer: Body = call(request, f"asking which permissions there are on {project}")
        except InvalidError as error:
            named = [name for name in asked if re.search(rf"\b{re.escape(name)}\b", error.message)]
            if not named:
                raise
            asked = [name for name in asked if name not in named]
            continue
        return [name for name in asked if name not in answer.get("permissions", ())]
    return []
