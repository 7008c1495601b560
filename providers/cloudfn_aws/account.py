"""An AWS account with credentials: those that boto3 finds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Mapping

from cloudfn.account import Account, Identity, Leftover, Obstacle, Report, StateBackend
from cloudfn.exception import AuthError, Error, NotFoundError
from cloudfn.plan_spec import Plan
from cloudfn.settings import Settings
from cloudfn_aws import console, drain, errors, leftovers, preflight, quotas, state_bucket
from cloudfn_aws.secret_store import SecretValues

if TYPE_CHECKING:
    from boto3 import Session

DEFAULT_REGION = "us-east-1"


class AWSAccount(Account):
    """See `cloudfn.account.Account`."""

    address_service = "https://checkip.amazonaws.com"

    def __init__(self) -> None:
        import boto3

        self._session: Session = boto3.Session()
        self._identity: Identity | None = None

    def identity(self, settings: Settings) -> Identity:
        if self._identity is None:
            with errors.translated("who you are cannot be asked of AWS"):
                said = self._session.client("sts", region_name=_home(settings)).get_caller_identity()
            self._identity = Identity(said["Account"], said["Arn"])
        if settings.account and settings.account != self._identity.account:
            raise AuthError(
                f"These credentials are of the AWS account {self._identity.account} ({self._identity.principal}), "
                f"but the settings pin {settings.account}.",
                hint="Choose other credentials (AWS_PROFILE), or another environment (--env).",
            )
        return self._identity

    def obstacles(self, plan: Plan) -> list[Obstacle]:
        who = self.identity(plan.settings)
        with errors.translated("the preflight could not ask AWS"):
            return list(preflight.obstacles(self._session, plan, who))

    def quotas(self, plan: Plan) -> Mapping[str, int]:
        with errors.translated("quotas could not be asked of AWS"):
            return quotas.machines(self._session, plan.groups)

    def state(self, settings: Settings, *, create: Callable[[str], bool]) -> StateBackend:
        if settings.state.url:
            return StateBackend(settings.state.url, settings.state.secrets_provider, {})
        who = self.identity(settings)
        with errors.translated("the state's bucket could not be looked up or made"):
            return state_bucket.backend(self._session, who.account, _home(settings), create)

    def read_state(self, settings: Settings, path: str) -> bytes | None:
        with errors.translated("the state could not be read"):
            return state_bucket.read(self._session, settings, _home(settings), path)

    def drain(self, plan: Plan, report: Report) -> None:
        with errors.translated("machines could not be drained"):
            drain.drain(self._session, plan, report)

    def leftovers(self, plan: Plan) -> list[Leftover]:
        who = self.identity(plan.settings)
        with errors.translated("AWS could not be searched for what carries the stack's tags"):
            return leftovers.leftovers(self._session, plan, who)

    def console_url(self, type: str, id: str, region: str) -> str:
        return console.url(type, id, region)

    def provider_config(self, plan: Plan) -> Mapping[str, str]:
        return {"aws:region": _home(plan.settings)}

    def secret_is_set(self, plan: Plan, name: str) -> bool:
        try:
            return self._secrets(plan).is_set(name)
        except NotFoundError:
            return False

    def set_secret(self, plan: Plan, name: str, values: Mapping[str, str]) -> None:
        self._secrets(plan).put(name, values)

    def explain(self, message: str) -> Error | None:
        return errors.explain(message)

    def _secrets(self, plan: Plan) -> SecretValues:
        return SecretValues(self._session, _home(plan.settings), plan.prefix)


def _home(settings: Settings) -> str:
    return settings.regions[0] if settings.regions else DEFAULT_REGION
