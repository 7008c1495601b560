"""What can be done with the stack of a plan. One `Deployment` for one command; the engine runs in a thread of its own,
so that Ctrl-C comes here and ends it cleanly."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from cloudfn.account import Account, Leftover, Obstacle, Report, StateBackend
from cloudfn.cloud import Program
from cloudfn.engine import failures, passphrase
from cloudfn.engine.progress import Message, Sink, Watch
from cloudfn.exception import (
    AlreadyExistsError,
    DeploymentError,
    Error,
    LeftoverError,
    NotFoundError,
    PreflightError,
    StackLockedError,
    VersionError,
)
from cloudfn.plan_spec import Plan

if TYPE_CHECKING:
    from pulumi.automation import Stack

    from cloudfn.engine.command import Engine
    from cloudfn.engine.workspace import Workspace

T = TypeVar("T")


class Deployment:
    """A plan, and the stack in which it is or will be.

    Args:
        plan: what the program is given.
        program: the cloud's; see `cloudfn.cloud.Program`.
        backend: of the state; see `engine.backend`.
        caller: CIDR block of the caller's own address, for ports that are open to "caller"; "" where there are none.
    """

    def __init__(
        self,
        plan: Plan,
        account: Account,
        program: Program,
        engine: Engine,
        backend: StateBackend,
        caller: str = "",
    ) -> None:
        self.plan = plan
        self.account = account
        self.backend = backend
        self._config = {**account.provider_config(plan), **({"cloudfn:caller": caller} if caller else {})}
        self._engine = engine
        self._raised: list[Error] = []
        self._program = program
        self._workspace: Workspace | None = None

    def __enter__(self) -> Deployment:
        from cloudfn.engine import workspace

        self._workspace = workspace.Workspace(
            self._engine, self.plan.stack, self._run_program, self.backend, self._config
        )
        return self

    def __exit__(self, *exc: object) -> None:
        if self._workspace is not None:
            self._workspace.close()
            self._workspace = None

    # -- what is there -----------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the backend has the stack."""
        return bool(self._ask(self._space.exists))

    def outputs(self) -> dict[str, Any]:
        """What the stack exports; empty before the first `up` came to its end.

        Raises:
            NotFoundError: there is no such stack.
        """
        stack = self._open()
        found = self._ask(stack.outputs)
        return {name: "(secret)" if output.secret else output.value for name, output in found.items()}

    def resources(self) -> list[tuple[str, str, str]]:
        """Type token, logical name and id of each resource in the state; components and providers are left out."""
        stack = self._open()
        deployment: Any = self._ask(stack.export_stack).deployment or {}
        return [
            (entry["type"], entry["urn"].rpartition("::")[2], entry.get("id", ""))
            for entry in deployment.get("resources") or ()
            if entry.get("custom") and not entry["type"].startswith("pulumi:providers:") and not entry.get("delete")
        ]

    def deployed(self) -> Plan | None:
        """The plan that the last whole `up` made; None where there is no stack, or none was made to its end."""
        from cloudfn.engine import checkpoint

        if not self.exists():
            return None
        said = self.outputs().get(checkpoint.OUTPUT)
        return checkpoint.read(said) if said else None

    def adopt(self) -> bool:
        """Take the deployed plan for ours; False where the state holds none, because no `up` came to its end.

        Raises:
            NotFoundError: there is no such stack.
            VersionError: another version of cloudfn wrote it.
        """
        self._open()
        plan = self.deployed()
        if plan is not None:
            self.plan = plan
        return plan is not None

    # -- operations --------------------------------------------------------------------------------------------------

    def obstacles(self) -> list[Obstacle]:
        """The preflight: what would leave `up` less than was asked for.

        Raises:
            PreflightError: with all that would make `up` fail.
            AlreadyExistsError: the name belongs to another stack.
        """
        is_new = not self.exists() or not self.resources()
        if is_new:
            self._check_name()
        found = self.account.obstacles(self.plan)
        fatal = [obstacle for obstacle in found if obstacle.fatal]
        if fatal:
            others = [obstacle for obstacle in found if not obstacle.fatal]
            raise PreflightError(
                f"Nothing was made: `up` would fail for {len(fatal)} reason{'s' if len(fatal) > 1 else ''}.\n"
                + _in_lines(fatal)
                + (f"\nBesides, and not in its way:\n{_in_lines(others)}" if others else ""),
                hint="\n".join(dict.fromkeys(obstacle.mend for obstacle in (*fatal, *others) if obstacle.mend)),
            )
        return found

    def preview(self, sink: Sink) -> Watch:
        """What `up` would do; nothing is changed. A stack that is made for it is removed again."""
        was_there = self.exists()
        stack = self._open(create=True)
        try:
            return self._operate("preview", sink, lambda watch: stack.preview(on_event=watch, color="never"))
        finally:
            if not was_there:
                self._forget(stack)

    def up(self, sink: Sink) -> Watch:
        """Make what the plan says.

        Raises:
            StackLockedError, StateError, AuthError, PermissionDeniedError, DeploymentError: see `failures`. What was
                made is in the state; the next `up` goes on.
            KeyboardInterrupt: the user stopped it; the same holds.
        """
        stack = self._open(create=True)
        return self._operate("up", sink, lambda watch: stack.up(on_event=watch, color="never", show_secrets=False))

    def refresh(self, sink: Sink, *, forget_interrupted: bool = False) -> Watch:
        """Read into the state what the cloud really has. Raises as `up`.

        Args:
            forget_interrupted: take what `interrupted` names out of the state.
        """
        stack = self._open()
        return self._operate(
            "refresh",
            sink,
            lambda watch: stack.refresh(
                on_event=watch, color="never", show_secrets=False, clear_pending_creates=forget_interrupted
            ),
        )

    def down(self, sink: Sink, report: Report) -> Watch:
        """Drain, delete everything, remove the stack.

        Raises:
            NotFoundError: there is no such stack.
            LeftoverError: something still carries the stack's tags afterwards.
        """
        stack = self._open()
        there = self._there()
        self._interruptible(lambda: self.account.drain(there, report))
        watch = self._operate(
            "down", sink, lambda watch: stack.destroy(on_event=watch, color="never", show_secrets=False)
        )
        self._forget(stack)
        left = self.account.leftovers(there)
        if left:
            raise LeftoverError(
                f"Stack {self.plan.stack} is gone, but this still carries its tags:\n" + _listed(left),
                hint="Something else made it, or holds it. Delete it by hand: nothing of cloudfn knows of it any more.",
            )
        return watch

    def unlock(self) -> None:
        """Remove the lock of an operation that is dead; see `check_holder`."""
        self._ask(self._open().cancel)

    def interrupted(self) -> list[str]:
        """Logical names of what was being made when an operation was killed: it may be there, unknown to the state."""
        stack = self._open()
        deployment: Any = self._ask(stack.export_stack).deployment or {}
        return [entry["resource"]["urn"].rpartition("::")[2] for entry in deployment.get("pending_operations") or ()]

    # -- parts -------------------------------------------------------------------------------------------------------

    @property
    def _space(self) -> Workspace:
        assert self._workspace is not None, "use it in a `with` statement"
        return self._workspace

    def _run_program(self) -> None:
        """The inline program. The engine would know its error as text only: keep ours as they are."""
        try:
            self._program(self.plan)
        except Error as error:
            self._raised.append(error)
            raise

    def _open(self, *, create: bool = False) -> Stack:
        stack = self._ask(lambda: self._space.open(create=create))
        if stack is None:
            raise NotFoundError(
                f"There is no stack {self.plan.stack} in {self.backend.url}.",
                hint="`cloudfn up` makes it. Is it another environment (--env), or another state backend?",
            )
        return stack

    def _there(self) -> Plan:
        """The plan that is deployed: the user's file may have changed since. Ours, where that cannot be known."""
        try:
            return self.deployed() or self.plan
        except VersionError:
            return self.plan

    def _check_name(self) -> None:
        """A new stack of a name whose tags are in use already would fight with the other one over every resource."""
        left = self.account.leftovers(self.plan)
        if left:
            raise AlreadyExistsError(
                f"The state in {self.backend.url} knows nothing of stack {self.plan.stack}, but its tags are in use:\n"
                + _listed(left),
                hint="Another state backend holds a stack of this name (name it in the settings: state.url), or these "
                "are left over (delete them). Or call the app or the environment by another name.",
            )

    def _forget(self, stack: Stack) -> None:
        self._ask(lambda: stack.workspace.remove_stack(stack.name))
        if not any(self.backend.env.get(name) for name in passphrase.VARIABLES):
            passphrase.forget(self.backend.url, self.plan.stack)

    def _ask(self, call: Callable[[], T]) -> T:
        """Run a short command of the CLI; its failure becomes one of ours."""
        from pulumi.automation import CommandError

        try:
            return call()
        except CommandError as error:
            raise failures.of_backend(str(error), self.plan.stack, self.backend.url, self.account.explain) from None

    def _operate(self, command: str, sink: Sink, call: Callable[[Watch], object]) -> Watch:
        from pulumi.automation import CommandError

        region = self.plan.settings.regions[0] if self.plan.settings.regions else ""
        watch = Watch(sink, self.account.console_url, region)
        self._raised.clear()
        try:
            self._interruptible(
                lambda: call(watch),
                lambda: sink(Message("warning", "stopping: what has begun is finished first; Ctrl-C again: at once")),
            )
        except CommandError as error:
            if self._raised:
                raise self._raised[0] from None
            text = str(error)
            if not (watch.done or watch.failed or watch.errors):
                raise failures.of_backend(text, self.plan.stack, self.backend.url, self.account.explain) from None
            before = failures.of_backend(text, self.plan.stack, self.backend.url, lambda _: None)
            if type(before) is not DeploymentError and not (watch.done or watch.failed):
                raise before from None
            raise failures.of_steps(
                self.plan.stack, command, watch.done, watch.failed, watch.errors, self.account.explain
            ) from None
        return watch

    def _interruptible(self, call: Callable[[], object], warn: Callable[[], None] = lambda: None) -> None:
        """Run in a thread. Ctrl-C goes on to the engine and is waited for: raises `KeyboardInterrupt` at the end."""
        outcome: list[BaseException] = []
        # Not `Thread.join`: before Python 3.13 an interrupted one may take a running thread for ended.
        ended = threading.Event()

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
                outcome.append(error)
            finally:
                ended.set()

        threading.Thread(target=run, name="cloudfn-engine", daemon=True).start()
        was_interrupted = False
        while not ended.is_set():
            try:
                ended.wait(1.0)  # with a limit, so that signals are seen on every platform
            except KeyboardInterrupt:
                was_interrupted = True
                warn()
                self._engine.cancel()
        if was_interrupted:
            raise KeyboardInterrupt
        if outcome:
            raise outcome[0]


def check_holder(error: StackLockedError) -> None:
    """Raises the error again, with what to do, where the process that holds the lock still runs on this machine."""
    import os
    import socket

    if error.host != socket.gethostname() or error.pid is None:
        return
    try:
        os.kill(error.pid, 0)
    except ProcessLookupError:
        return
    except PermissionError:
        pass  # it runs, as somebody else
    raise StackLockedError(
        f"{error.message} That process still runs on this machine.",
        hint=f"Wait for it, or end it (kill {error.pid}) and run `cloudfn unlock` again; --force goes on all the same.",
    )


def _in_lines(found: list[Obstacle]) -> str:
    return "\n".join(f"  {obstacle.check}: {obstacle.message}" for obstacle in found)


def _listed(left: list[Leftover]) -> str:
    return "\n".join(f"  {item.type} {item.id} ({item.region})" for item in left)
