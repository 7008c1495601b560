"""AWS as a place to run: machines of a stack that `cloudfn up` made, which come when calls wait and go when none do."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Mapping, Sequence

from cloudfn.controlled_fleet import ControlledFleet
from cloudfn.cost.ledger import MachineDay, paged
from cloudfn.descriptor import Descriptor
from cloudfn.exception import NotFoundError, PermissionDeniedError
from cloudfn.folders import state_dir
from cloudfn.machines import KeyInfo, MachineInfo
from cloudfn.provider import Fleet, HasFleet, Report
from cloudfn.road import tunnel as roads
from cloudfn.road.destination import Destination
from cloudfn.road.identity import Identity, identity
from cloudfn.run_record import RunRecord
from cloudfn.settings import Settings
from cloudfn_aws import fleet
from cloudfn_aws.controller_client import PATIENCE, ControllerClient, StackGone
from cloudfn_aws.environment import Environments
from cloudfn_aws.secret_store import StackSecrets
from cloudfn_aws.session_manager import SessionManager

if TYPE_CHECKING:
    from boto3 import Session


class AWSProvider(HasFleet):
    """Needs credentials that boto3 finds, and the policy `<prefix>-call` of the stack."""

    def __init__(self) -> None:
        self._settings = Settings(provider="aws")

    def use(self, settings: Settings) -> None:
        self._settings = settings
        self.__dict__.pop("_environments", None)

    def fleet(self, app: str, report: Report) -> Fleet:
        stack = Stack(self._session, self._environments, app)
        own = self._identity()
        return ControlledFleet(
            stack.ask,
            stack.descriptor,
            roads.choose(own),
            stack.destination,
            lambda: stack.register(own),
            RunRecord(app, stack.descriptor.stack),
            self._settings.machine_timeout,
        )

    def machines(self, app: str) -> AWSMachines:
        return AWSMachines(Stack(self._session, self._environments, app), self._identity)

    def ledger(self, app: str, since: str, until: str) -> Sequence[MachineDay]:
        stack = Stack(self._session, self._environments, app)
        return paged(lambda first, last: stack.ask("ledger", since=first, until=last), since, until)

    def stack_secrets(self, app: str) -> StackSecrets:
        return StackSecrets(self._session, self._environments, app)

    def known_apps(self) -> Sequence[str]:
        return self._environments.known()

    def _identity(self) -> Identity:
        return identity(state_dir())

    @cached_property
    def _session(self) -> Session:
        import boto3

        return boto3.Session()

    @cached_property
    def _environments(self) -> Environments:
        return Environments(self._session, self._settings, state_dir() / "stacks")


class Stack:
    """A stack that is up, and its controller. What was known of it may be old: where nothing answers any more, it is
    looked up anew, once."""

    def __init__(self, session: Session, environments: Environments, app: str) -> None:
        self._session = session
        self._environments = environments
        self._app = app
        self._looked = False
        self._open(again=False)
        self._sessions = SessionManager(session, f"{self.descriptor.prefix}-call")

    def _open(self, again: bool) -> None:
        self.descriptor: Descriptor = self._environments.find(self._app, again)
        self._client = ControllerClient(self._session, self.descriptor)

    def ask(self, kind: str, patience: float = PATIENCE, **fields: Any) -> dict[str, Any]:
        try:
            return self._client.ask(kind, patience, **fields)
        except StackGone:
            if self._looked:
                raise
            self._looked = True
            before = self.descriptor
            self._environments.forget(self._app)
            self._open(again=True)
            if self.descriptor == before:
                raise
            return self._client.ask(kind, patience, **fields)

    def register(self, own: Identity) -> bytes:
        """Make our SSH key known to the stack's machines; the environment's key, which proves us to their agents."""
        return bytes.fromhex(self.ask("key", public=own.public, name=own.name)["key"])

    def destination(self, said: Mapping[str, Any], user: str = "") -> Destination:
        """The way to a machine that the controller told of. Raises as `fleet.destination`."""
        return fleet.destination(self.descriptor, self._sessions, said, user)


class AWSMachines:
    """See `cloudfn.machines.Machines`."""

    def __init__(self, stack: Stack, own: Callable[[], Identity]) -> None:
        self._stack = stack
        self._own = own

    def list(self) -> Sequence[MachineInfo]:
        said = [machine for machine in self._stack.ask("machines")["machines"] if machine.get("state") != "gone"]
        found = [fleet.info(self._stack.descriptor, machine) for machine in said]
        return sorted(found, key=lambda machine: (machine.started is None, machine.started or 0.0, machine.id))

    def login(self, machine: str) -> tuple[Destination, Identity]:
        stack = self._stack.descriptor
        if not stack.shell:
            raise PermissionDeniedError(
                f"Nobody may log in to machines of {stack.stack}.",
                hint="network.shell = true and `cloudfn up` allow it.",
            )
        said = self._find(machine)
        own = self._own()
        self._stack.register(own)
        return self._stack.destination(said, fleet.ADMIN), own

    def _find(self, machine: str) -> Mapping[str, Any]:
        known: list[Mapping[str, Any]] = self._stack.ask("machines")["machines"]
        up = {str(said["id"]): said for said in known if said.get("state") != "gone"}
        if machine in up:
            return up[machine]
        raise NotFoundError(
            f"There is no machine {machine!r} in {self._stack.descriptor.stack}.",
            hint=f"There are: {', '.join(sorted(up))}" if up else "There is none now: they come when calls wait.",
        )

    def ssh_keys(self) -> Sequence[KeyInfo]:
        return [
            KeyInfo(
                str(key["fingerprint"]),
                str(key.get("name") or ""),
                str(key.get("principal") or ""),
                None if key.get("registered") is None else float(key["registered"]),
            )
            for key in self._stack.ask("keys")["keys"]
        ]

    def revoke(self, fingerprint: str) -> None:
        if not self._stack.ask("revoke", fingerprint=fingerprint).get("revoked"):
            raise NotFoundError(f"The stack {self._stack.descriptor.stack} knows no key {fingerprint}.")
