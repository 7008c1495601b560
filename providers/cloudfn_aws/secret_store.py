"""Values of a stack's secrets in AWS Secrets Manager. The stack makes an empty secret for each that its functions name;
`cloudfn up` and `cloudfn secret create` set their values, and callers read them to send them to workers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from cloudfn.exception import AlreadyExistsError, DeploymentError, InvalidError, NotFoundError, PermissionDeniedError
from cloudfn.record import dataclass
from cloudfn.secret import check_values
from cloudfn_aws import errors
from cloudfn_aws.environment import Environments

if TYPE_CHECKING:
    from boto3 import Session

    from cloudfn.descriptor import Descriptor

LARGEST = 65536
"""Bytes that AWS takes for one secret, all its keys and values together."""
_CURRENT = "AWSCURRENT"


@dataclass(frozen=True)
class StoredSecret:
    """See `cloudfn.secret_store.StoredSecret`."""

    name: str
    keys: tuple[str, ...] = ()
    created_at: float | None = None


class SecretValues:
    """The secrets named `prefix/...` in one region. Every method raises `NotFoundError` where the stack has no such
    secret, and `PermissionDeniedError`, `AuthError` or `ConnectionError` as AWS says.

    Args:
        prefix: of the stack.
    """

    def __init__(self, session: Session, region: str, prefix: str) -> None:
        self._client = session.client("secretsmanager", region_name=region)
        self._prefix = prefix

    def is_set(self, name: str) -> bool:
        """Whether it has values; reads none. For whoever may set them: it takes rights of the role `deploy`."""
        said = self._ask("describe_secret", name, f"the secret {self._prefix}/{name} could not be looked up")
        return any(_CURRENT in stages for stages in said.get("VersionIdsToStages", {}).values())

    def put(self, name: str, values: Mapping[str, str]) -> None:
        """Set the values. Raises `InvalidError` where they are too large."""
        text = json.dumps(dict(values), sort_keys=True)
        if len(text.encode()) > LARGEST:
            raise InvalidError(
                f"The values of {name!r} are {len(text.encode())} bytes long; AWS takes {LARGEST} for one secret.",
                hint="Split them between several secrets.",
            )
        self._ask("put_secret_value", name, f"the secret {self._prefix}/{name} could not be set", SecretString=text)

    def get(self, name: str) -> tuple[dict[str, str], float] | None:
        """The values, and since when they hold (epoch seconds); None where it has none yet. Takes the role `call`.

        Raises:
            InvalidError: what was set by other means is no JSON object of strings; the message shows nothing of it.
        """
        what = f"the secret {self._prefix}/{name} could not be read"
        try:
            said = self._ask("get_secret_value", name, what, role=f"{self._prefix}-call")
        except NotFoundError as error:
            # AWS gives both the same code: "... the specified secret value for staging label: AWSCURRENT".
            if "staging label" in str(error.__cause__):
                return None
            raise
        created: datetime = said["CreatedDate"]
        return _decoded(said.get("SecretString"), f"{self._prefix}/{name}"), created.timestamp()

    def _ask(self, operation: str, name: str, what: str, role: str = "", **fields: Any) -> dict[str, Any]:
        where = f"{self._prefix}/{name}"
        try:
            with errors.translated(what, role):
                answer: dict[str, Any] = getattr(self._client, operation)(SecretId=where, **fields)
                return answer
        except PermissionDeniedError as error:
            if role:  # a stack's policy is as old as its last `up`
                error.hint += " If it is already, `cloudfn up` brings it up to date."
            raise
        except DeploymentError as error:
            if "ResourceNotFoundException" in error.message:
                raise NotFoundError(
                    f"There is no secret {where} in AWS.",
                    hint="Name it in `secrets=` of a function (or of the app), and `cloudfn up` makes it.",
                ) from error.__cause__
            if "marked for deletion" in error.message:
                raise NotFoundError(
                    f"The secret {where} is being deleted in AWS.",
                    hint=f"Take it back (aws secretsmanager restore-secret --secret-id {where}), or run `cloudfn up`.",
                ) from error
            raise


class StackSecrets:
    """See `cloudfn.secret_store.SecretStore`: the secrets of one app's stack. Values are read once."""

    def __init__(self, session: Session, environments: Environments, app: str) -> None:
        self._session = session
        self._environments = environments
        self._app = app
        self._known: dict[str, dict[str, str]] = {}
        self.options = f" --cloud aws --app {app} --env {environments.name}"

    def is_set(self, name: str) -> bool:
        return self._of(self._environments.find(self._app)).is_set(name)

    def create(self, name: str, values: Mapping[str, str], force: bool = False) -> None:
        """Set the values of a secret that the stack has. Raises `AlreadyExistsError` where it has some, unless `force`
        replaces them, and as `SecretValues`."""
        found = self._of(self._environments.find(self._app))
        if not force and found.is_set(name):
            raise AlreadyExistsError(f"The secret {name!r} has values already.", hint="Use --force to replace them.")
        found.put(name, values)
        self._known.pop(name, None)

    def get(self, name: str) -> dict[str, str]:
        """The values. Raises `NotFoundError` where the stack has no such secret, or nobody has set it yet."""
        if name not in self._known:
            stack = self._environments.find(self._app)
            found = self._of(stack).get(name)
            if found is None:
                raise NotFoundError(
                    f"The secret {name!r} of {stack.stack} has no values yet.",
                    hint=f"Set them: cloudfn secret create {name}{self.options} KEY (it asks for the value).",
                )
            self._known[name] = found[0]
        return dict(self._known[name])

    def list(self) -> Sequence[StoredSecret]:
        """All that the stack has, set or not."""
        stack = self._environments.find(self._app, again=True)
        values = self._of(stack)
        found = ((name, values.get(name)) for name in stack.secrets)
        return [StoredSecret(name, tuple(said[0]), said[1]) if said else StoredSecret(name) for name, said in found]

    def delete(self, name: str) -> None:
        raise InvalidError(
            f"The secret {name!r} is part of the stack of {self._app!r}, and goes with it.",
            hint="Take it out of the functions and run `cloudfn up`. To replace its values: cloudfn secret create "
            f"{name}{self.options} --force KEY",
        )

    def _of(self, stack: Descriptor) -> SecretValues:
        return SecretValues(self._session, stack.region, stack.prefix)


def _decoded(text: str | None, where: str) -> dict[str, str]:
    try:
        values = json.loads(text or "")
    except ValueError:
        values = None
    if not isinstance(values, dict):  # raised out here, because the decoder's exception holds the whole text
        raise InvalidError(
            f"The secret {where} in AWS holds no JSON object with strings for values.",
            hint="Set it by `cloudfn secret create`, or as key/value pairs in AWS's console.",
        )
    return check_values(values, f"The secret {where} in AWS")
