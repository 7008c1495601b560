"""What the commands share that work on a stack: their options, what they ask, and the deployment itself."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterator, TypeVar

import click

if TYPE_CHECKING:
    from cloudfn.account import Account
    from cloudfn.engine.operations import Deployment
    from cloudfn.engine.progress import Sink
    from cloudfn.plan_spec import Plan

F = TypeVar("F", bound=Callable[..., Any])
CALLER = "caller"
"""A source in `Port.sources`: the address of whoever runs `up`."""


@dataclass(frozen=True)
class Choice:
    """What the command line says. `yes`: nothing is asked."""

    reference: str | None
    is_module: bool
    environment: str | None
    cloud: str | None
    app: str | None
    as_json: bool
    yes: bool = False

    def plan(self) -> Plan:
        """The plan with its findings; raises as `cloudfn.plan.make`, and errors of the user's own code.

        Without a file: what the stack's name alone tells, until `Deployment.adopt` reads the deployed plan.

        Raises:
            UsageError: neither a file nor an app is named.
        """
        from cloudfn.cli import importer, planning

        if self.reference is None:
            return planning.named(self.app, self.environment, self.cloud)
        where = importer.Reference.parse(self.reference, self.is_module)
        settings = planning.load_settings(where, self.environment, self.cloud)
        return planning.make(planning.load_app(where, self.app), settings)

    def ask(self, question: str) -> bool:
        """Whether the user agrees; a pipe cannot, and says so."""
        from cloudfn.exception import UsageError

        if self.yes:
            click.echo(question.removesuffix("?") + ": yes", err=True)
            return True
        if not sys.stdin.isatty():
            raise UsageError(f"{question} There is nobody to ask.", hint="Say yes beforehand: --yes")
        return click.confirm(question, err=True)


def options(*, asks: bool, needs_file: bool = True) -> Callable[[F], F]:
    """The options and the argument of every command on a stack; the command gets them as a `Choice`.

    Args:
        asks: whether it has `--yes`.
        needs_file: whether it makes a plan; else `--app` names a stack as well as the file does.
    """

    def decorate(command: F) -> F:
        import functools

        @functools.wraps(command)
        def with_choice(**given: Any) -> Any:
            names = [name for name in Choice.__dataclass_fields__ if name in given]
            return command(choice=Choice(**{name: given.pop(name) for name in names}), **given)

        made: Any = with_choice
        made = click.argument("reference", metavar="FILE" if needs_file else "[FILE]", required=needs_file)(made)
        made = click.option("--json", "as_json", is_flag=True, help="JSON on stdout: an event a line, or a document.")(
            made
        )
        if asks:
            made = click.option("--yes", "-y", is_flag=True, help="Do not ask.")(made)
        of_app = "The app, where FILE has several: its name or its variable."
        made = click.option("--app", help=of_app if needs_file else f"{of_app} Without FILE: the deployed app's name.")(
            made
        )
        made = click.option("--cloud", help="The cloud (aws, gcp); default: the provider of cloudfn.toml.")(made)
        made = click.option("--env", "environment", help="The environment; default: CLOUDFN_ENVIRONMENT, or main.")(
            made
        )
        made = click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")(made)
        return made  # type: ignore[no-any-return]

    return decorate


@contextmanager
def opened(plan: Plan, choice: Choice, account: Account | None = None, caller: str = "") -> Iterator[Deployment]:
    """The deployment of a plan: CLI found or installed, credentials proved, backend there.

    Raises:
        NotFoundError, VersionError, AuthError, StateError: see `install`, `Account.identity` and `backend.of`.
    """
    from cloudfn import clouds
    from cloudfn.engine import install

    account = account or clouds.account(plan.cloud)
    who = account.identity(plan.settings)
    click.echo(f"{plan.stack} in {plan.cloud} account {who.account}, as {who.principal}", err=True)
    engine = install.engine(choice.ask)  # before what imports Pulumi's SDK: it says so where that is missing
    from cloudfn.engine import backend
    from cloudfn.engine.operations import Deployment

    place = backend.of(plan.settings, account, choice.ask)
    with Deployment(plan, account, clouds.program(plan.cloud), engine, place, caller) as deployment:
        if choice.reference is None and not deployment.adopt():
            click.echo(f"the last `up` of {plan.stack} did not come to its end: its state holds no plan", err=True)
        yield deployment


@contextmanager
def progress(*, as_json: bool) -> Iterator[Sink]:
    """Shows what the engine does: JSON on stdout, else for readers on stderr."""
    from cloudfn.engine import progress as readers

    reader = readers.reader(sys.stdout if as_json else sys.stderr, as_json=as_json)
    try:
        yield reader
    finally:
        reader.close()


def show(plan: Plan, deployment: Deployment) -> None:
    """Print the plan, and what changes against the one that is deployed."""
    from cloudfn import plan_diff
    from cloudfn.cli import plan as command

    before = deployment.deployed()
    difference = plan_diff.diff(before, plan) if before else None
    command.show(plan, difference, "table", explain=False, policies=False)


def caller_block(plan: Plan, account: Account, choice: Choice, given: str | None) -> str:
    """The CIDR block that stands for "caller" in the plan's ports; "" where no port is open to the caller.

    Args:
        given: `--ssh-from`.

    Raises:
        UsageError: it is no block, or open to everybody, or nobody says what it is.
    """
    if not any(CALLER in port.sources for port in plan.ports):
        return ""
    from cloudfn.engine import address

    if given:
        return address.block(given)
    service = account.address_service
    if service and choice.ask(f"Ask {service} for this machine's public address, to open SSH to it alone?"):
        return address.ask(service)
    from cloudfn.exception import UsageError

    raise UsageError(
        "SSH is open to the caller's own address only, and nobody says which that is.",
        hint="Give it: --ssh-from 203.0.113.7/32, or network.ssh_from in cloudfn.toml.",
    )
