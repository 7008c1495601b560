"""Which APIs a project has switched on."""

from __future__ import annotations

from typing import Any

from cloudfn.account import Obstacle
from cloudfn.plan_spec import Plan
from cloudfn_gcp import inventory
from cloudfn_gcp.google_api import pages

FIRST = ("cloudresourcemanager", "compute", "serviceusage")
"""Without these `up` could neither switch on the others nor look which zones have the machines."""


def obstacles(service_usage: Any, plan: Plan, project: str) -> list[Obstacle]:
    """The stack switches on what it needs itself, so most of these only take time."""
    there = _enabled(service_usage, project)
    found = []
    for name in dict.fromkeys((*FIRST, *inventory.apis(plan))):
        service = f"{name}.googleapis.com"
        if service in there:
            continue
        fatal = name in FIRST
        message = f"{service} is not switched on in {project}"
        message += "" if fatal else ": `up` does that first, which can take some minutes"
        found.append(Obstacle("api", fatal, message, command(project, service)))
    return found


def command(project: str, *services: str) -> str:
    return f"gcloud services enable {' '.join(services)} --project={project}"


def _enabled(service_usage: Any, project: str) -> set[str]:
    services = service_usage.services()
    request = services.list(parent=f"projects/{project}", filter="state:ENABLED", pageSize=200)
    listed = pages(services, request, f"listing the APIs of {project}")
    return {service["config"]["name"] for page in listed for service in page.get("services", ())}
