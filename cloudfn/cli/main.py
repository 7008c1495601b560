"""The `cloudfn` command. Each subcommand is a file of this package, imported when it is asked for: `--help` and shell
use of one command should not pay for all others."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, NoReturn, Sequence

import click

from cloudfn.exception import InputCancellation

# The help lines stand here so that `cloudfn --help` need not import the commands.
COMMANDS = {
    "run": "Run a file's entrypoint, or one function of it.",
    "serve": "Serve a file's web functions, and again at each change.",
    "deploy": "Hand an app to this machine's host, which keeps it running.",
    "app": "List, show, roll back and stop deployed apps.",
    "host": "The process that keeps deployed apps: status, stop, install.",
    "top": "Watch what deployed apps do.",
    "plan": "Show what would exist in a cloud, and what it would cost.",
    "preview": "Show what up would do to the cloud as it is now.",
    "up": "Make what the plan shows, in your cloud account.",
    "down": "Delete everything that up made.",
    "refresh": "Find what was changed behind the stack's back.",
    "outputs": "Show the names and addresses of what is up.",
    "unlock": "Remove the lock that a dead operation left.",
    "export": "Write the stack as an ordinary Pulumi project.",
    "ps": "List the apps that run now, and machines.",
    "logs": "Show what a run printed.",
    "ssh": "Log in to a machine.",
    "shell": "Open a shell where a function's workers run.",
    "keys": "List and revoke the SSH keys of a stack.",
    "stop": "Stop a run, or all of them.",
    "init": "Write a commented cloudfn.toml.",
    "config": "Show the settings that hold here.",
    "prices": "Show what machines cost, and read today's prices.",
    "cost": "Show what machines have cost so far.",
    "secret": "Create, list and delete secrets.",
    "token": "Create and revoke tokens for web functions.",
    "volume": "Create volumes, and see and change what is in them.",
    "dict": "Create Dicts, and see what is in them.",
    "queue": "Create Queues, and see what is in them.",
    "doctor": "Say what this machine has and lacks.",
}

IMPORTS_USER_CODE = (
    "run",
    "shell",
    "deploy",
    "plan",
    "preview",
    "up",
    "down",
    "refresh",
    "outputs",
    "unlock",
    "export",
)
"""Commands that an error of the user's own code can end."""


class Commands(click.Group):
    """A group whose commands are attributes of modules of the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"cloudfn.cli.{cmd_name}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise _unknown(args[0])
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _unknown(name: str) -> Exception:
    from difflib import get_close_matches

    from cloudfn.exception import UsageError

    if name.partition("::")[0].endswith(".py"):
        hint = f"To run a file: cloudfn run {name}"
    else:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean `cloudfn {near[0]}`?" if near else "`cloudfn --help` lists the commands."
    return UsageError(f"There is no command {name!r}.", hint=hint)


def _version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"cloudfn {version('cloudfn')}")
        ctx.exit()


@click.group(cls=Commands, no_args_is_help=False, invoke_without_command=True)
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Show the version.")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Run decorated Python functions on autoscaling machines: this one, or those of your own cloud account."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def run(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console entry: runs a command line (`sys.argv` by default) and exits.

    Exit codes: 0; 1 an error; 2 a command line that can never work; 3 a plan that a check forbids; 130 Ctrl-C; what
    user code gave to `sys.exit`.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    # Not `cli.main()`: it turns a user's EOFError into an abort and a BrokenPipeError into silence.
    command = None
    try:
        with cli.make_context("cloudfn", arguments) as ctx:
            try:
                cli.invoke(ctx)
            finally:
                command = ctx.invoked_subcommand
            sys.stdout.flush()
        return 0
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return 130
    except (Exception, InputCancellation) as error:  # noqa: BLE001 - the boundary: what is left becomes a message
        from cloudfn.cli.failure import report

        return report(error, ran_user_code=command in IMPORTS_USER_CODE)
