"""Values of secrets: from the store of this machine into the cloud's containers, never through plan or state."""

from __future__ import annotations

from typing import Mapping

from cloudfn.account import Account, Report
from cloudfn.exception import NotFoundError
from cloudfn.plan_spec import Plan
from cloudfn.secret_store import SecretStore

Values = Mapping[str, Mapping[str, str]]


def read(plan: Plan, store: SecretStore) -> Values:
    """The values of all secrets of a plan, by name. Read before anything is made: a missing one stops `up` in time.

    Raises:
        NotFoundError: a secret, or a key that functions require, is not stored here.
    """
    values = {}
    for secret in plan.secrets:
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
        values[secret.name] = stored
    return values


def send(plan: Plan, values: Values, account: Account, report: Report) -> None:
    """Put the values into the cloud. Raises as `Account.set_secret`."""
    for name, value in values.items():
        account.set_secret(plan, name, value)
        report(f"secret {name}: {len(value)} value{'s' if len(value) != 1 else ''} set")
