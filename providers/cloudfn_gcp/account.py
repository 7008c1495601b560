"""Google Cloud with the credentials of this machine."""

from __future__ import annotations

import json
import time
from typing import Any, Callable, Mapping

from cloudfn.account import Account, Identity, Leftover, Obstacle, Report, StateBackend
from cloudfn.exception import AuthError, Error, NotFoundError, PermissionDeniedError
from cloudfn.plan_spec import Plan
from cloudfn.settings import Settings
from cloudfn_gcp import (
    console,
    drain,
    enabled,
    failures,
    google_api,
    leftovers,
    offering,
    permission_check,
    quota,
    secret_values,
    state_bucket,
)
from cloudfn_gcp.cloud import GCP
from cloudfn_gcp.google_api import ApiDisabledError, call


class GCPAccount(Account):
    """One project. Nothing is asked of Google before a method needs it.

    Args:
        load: finds the credentials and their project.
        connect: makes clients of APIs; None: with the credentials.
        sleep: waits a number of seconds.
    """

    def __init__(
        self,
        *,
        load: google_api.Load = google_api.load,
        connect: google_api.Connect | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._load = load
        self._given = connect
        self._sleep = sleep
        self._loaded: tuple[Any, str] | None = None

    def identity(self, settings: Settings) -> Identity:
        project = self.project(settings)
        principal = self._principal()
        try:
            call(self._connect("cloudresourcemanager", "v1").projects().get(projectId=project), f"as {principal}")
        except ApiDisabledError:
            raise
        except (NotFoundError, PermissionDeniedError) as error:
            raise AuthError(
                f"{principal} cannot see the project {project!r}: it does not exist, or is not theirs to see.",
                hint="Look: gcloud projects list; who you are: gcloud auth list. "
                "The project is `account` in cloudfn.toml, or else the credentials' own.",
            ) from error
        return Identity(project, principal)

    def project(self, settings: Settings) -> str:
        """The one that the settings pin, else the credentials' own. Raises `AuthError` where neither names one."""
        project = settings.account or self._credentials()[1]
        if not project:
            raise AuthError(
                "The Google credentials of this machine belong to no project.",
                hint='Name it: account = "my-project" in cloudfn.toml, or run: gcloud config set project my-project',
            )
        return project

    def obstacles(self, plan: Plan) -> list[Obstacle]:
        identity = self.identity(plan.settings)
        project = identity.account
        projects = self._connect("cloudresourcemanager", "v1").projects()
        checks: list[Callable[[], list[Obstacle]]] = [
            lambda: enabled.obstacles(self._connect("serviceusage", "v1"), plan, project),
            lambda: permission_check.obstacles(projects, plan, project, identity.principal),
            lambda: quota.obstacles(self._connect("compute", "v1"), plan, project),
            lambda: offering.obstacles(self._connect("compute", "v1"), plan, project),
        ]
        found: list[Obstacle] = []
        for check in checks:
            try:
                found += check()
            except ApiDisabledError as error:
                unknown = _unknown(error, project)
                if all(obstacle.mend != unknown.mend for obstacle in found):
                    found.append(unknown)
        return found

    def state(self, settings: Settings, *, create: Callable[[str], bool]) -> StateBackend:
        project = self.project(settings)
        region = settings.regions[0] if settings.regions else GCP.default_region
        url = settings.state.url or f"gs://{state_bucket.name(project)}"
        bucket = url.removeprefix("gs://").partition("/")[0]
        projects = self._connect("cloudresourcemanager", "v1").projects()
        storage = self._connect("storage", "v1")
        location = state_bucket.ensure_bucket(storage, projects, bucket, project, region, create)
        state_bucket.check_rights(storage, bucket)
        provider = settings.state.secrets_provider
        provider = provider or state_bucket.ensure_key(self._connect, project, location, create)
        return StateBackend(url, provider, {})

    def read_state(self, settings: Settings, path: str) -> bytes | None:
        project = self.project(settings)
        url = settings.state.url or f"gs://{state_bucket.name(project)}"
        projects = self._connect("cloudresourcemanager", "v1").projects()
        return state_bucket.read(self._connect("storage", "v1"), projects, url, project, path)

    def drain(self, plan: Plan, report: Report) -> None:
        drain.drain(self._connect("compute", "v1"), plan, self.project(plan.settings), report, self._sleep)

    def leftovers(self, plan: Plan) -> list[Leftover]:
        return leftovers.find(self._connect, plan, self.project(plan.settings))

    def console_url(self, type: str, id: str, region: str) -> str:
        # Most ids name their project; without credentials the others get a link that the console asks about.
        return console.url(type, id, region, self._loaded[1] if self._loaded else "")

    def provider_config(self, plan: Plan) -> Mapping[str, str]:
        project = self.project(plan.settings)
        config = {"gcp:project": project, "gcp:region": plan.settings.regions[0]}
        try:
            zones = offering.zones(self._connect("compute", "v1"), plan, project)
        except ApiDisabledError:  # `obstacles` says so, before anything is made
            return config
        return {**config, "cloudfn:zones": json.dumps({name: found for name, found in zones.items() if found})}

    def set_secret(self, plan: Plan, name: str, values: Mapping[str, str]) -> None:
        secrets = self._connect("secretmanager", "v1").projects().secrets()
        secret_values.put(secrets, plan, self.project(plan.settings), name, values)

    def quotas(self, plan: Plan) -> Mapping[str, int]:
        return quota.machines(self._connect("compute", "v1"), plan, self.project(plan.settings))

    def explain(self, message: str) -> Error | None:
        return failures.explain(message)

    # -- credentials -----------------------------------------------------------------------------------------------

    def _credentials(self) -> tuple[Any, str]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _connect(self, name: str, version: str) -> Any:
        return (self._given or google_api.connect_with(self._credentials()[0]))(name, version)

    def _principal(self) -> str:
        """An e-mail address. A service account's key holds it; for a person Google is asked, which also proves that
        the credentials are good."""
        known = getattr(self._credentials()[0], "service_account_email", "")
        if known and "@" in known:
            return str(known)
        asked = call(self._connect("oauth2", "v2").userinfo().get(), "asking whose credentials these are")
        return str(asked.get("email") or asked.get("id") or "somebody unknown")


def _unknown(error: ApiDisabledError, project: str) -> Obstacle:
    """What an API would have told is not known while it is off; `enabled` says which ones stop `up`."""
    first = error.service.partition(".")[0] in enabled.FIRST
    message = f"{error.service} is off in {project}, so what it would tell could not be looked up"
    return Obstacle("api", first, message, enabled.command(project, error.service))
