"""Values of secrets: from the store of this machine into the cloud's containers, never through plan or state.

Only where the cloud has none yet. Once set, a value is the stack's own: whoever rotates it there must not find the old
one back because somebody else ran `up`.
"""

from __future__ import annotations

from typing import Mapping

from cloudfn.account import Account, Report
from cloudfn.exception import NotFoundError
from cloudfn.plan_spec import Plan, SecretPlan
from cloudfn.secret_store import SecretStore

Values = Mapping[str, Mapping[str, str]]


def read(plan: Plan, store: SecretStore, account: Account) -> Values:
    """The values of those secrets of a plan that have none in the cloud yet, by name. Read before anything is made: a
    missing one stops `up` in time.

    Raises:
        NotFoundError: a secret, or a key that functions require, is not stored here.
    """
    return {
        secret.name: _read(secret, store) for secret in plan.secrets if not account.secret_is_set(plan, secret.name)
    }


def _read(secret: SecretPlan, store: SecretStore) -> Mapping[str, str]:
    try:
        stored = store.get(secret.name)
    except NotFoundError as error:
        raise NotFoundError(
            f"The secret {secret.name!r} of {', '.join(secret.functions)} is not stored on this machine.",
            hint=f"Store it: cloudfn secret create {secret.name} KEY",
        ) from error
    missing = [key for key in secret.keys if key not in stored]
    if missing:
        raise NotFoundError(
            f"The secret {secret.name!r} has no {', '.join(missing)}, which {', '.join(secret.functions)} require.",
            hint=f"Store it again with all of its keys: cloudfn secret create {secret.name} --force ...",
        )
    return stored


def send(plan: Plan, values: Values, account: Account, report: Report) -> None:
    """Put the values into the cloud, and say of the others that they stay. Raises as `Account.set_secret`."""
    for secret in plan.secrets:
        if secret.name in values:
            value = values[secret.name]
            account.set_secret(plan, secret.name, value)
            report(f"secret {secret.name}: {len(value)} value{'s' if len(value) != 1 else ''} set")
        else:
            where = f"--cloud {plan.cloud} --app {plan.app} --env {plan.environment}"
            report(
                f"secret {secret.name}: keeps its values (to replace them: "
                f"cloudfn secret create {secret.name} {where} --force KEY)"
            )
