"""`cloudfn plan`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cloudfn.cli.plan_sections import Section
    from cloudfn.engine.deployed import Look
    from cloudfn.plan_diff import Difference
    from cloudfn.plan_spec import Plan

    Compared = tuple[Difference | None, str]
    """What changes, where that is known; and one line: against what, or why it is not known."""

FORBIDDEN = 3
"""Exit code where a check forbids to make the plan."""


@click.command()
@click.option("-m", "is_module", is_flag=True, help="FILE is the dotted name of a module.")
@click.option("--env", "environment", help="The environment; default: CLOUDFN_ENVIRONMENT, or the file's, or main.")
@click.option("--cloud", help="The cloud to plan for (aws, gcp); default: the provider of cloudfn.toml.")
@click.option("--app", "app_name", help="The app, where FILE has several: its name or its variable.")
@click.option("--format", "form", type=click.Choice(["table", "markdown", "json"]), default="table", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--explain", is_flag=True, help="Which machine types were weighed for each function, and why not.")
@click.option("--policies", is_flag=True, help="Each role's permissions as the cloud's own policy document.")
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PLAN.json",
    help="Show what changes against a plan that --format json wrote before; what is deployed is not looked at.",
)
@click.option("--no-diff", "--offline", "no_diff", is_flag=True, help="Do not look at what is deployed.")
@click.argument("reference", metavar="FILE")
@click.pass_context
def plan(
    ctx: click.Context,
    is_module: bool,
    environment: str | None,
    cloud: str | None,
    app_name: str | None,
    form: str,
    as_json: bool,
    explain: bool,
    policies: bool,
    against: Path | None,
    no_diff: bool,
    reference: str,
) -> None:
    """Show what would exist, who could do what, what would be open, and what it would cost.

    Nothing is created, and neither credentials nor a network are needed. Where the state of what is deployed can be
    read, it is, for a second at most, and what would change is shown. Exit code 3: a check forbids the plan (a cap
    would be broken, a port open to everybody, ...).
    """
    from cloudfn.cli import importer, planning

    where = importer.Reference.parse(reference, is_module)
    settings = planning.load_settings(where, environment, cloud)
    app = planning.load_app(where, app_name)
    before = _saved(against) if against else None
    look = None if against or no_diff else planning.look(app, settings)
    made = planning.make(app, settings)
    made = replace(made, notes=(*made.notes, *_age(made)))
    difference, said = _against_file(before, made, against) if before else _against_deployed(look, made)
    if as_json or form == "json":
        click.echo(json.dumps(document(made, difference, explain=explain), indent=2))
        if look and not difference:
            click.echo(said, err=True)
    else:
        show(made, difference, form, explain=explain, policies=policies, said=said)
    _exit(ctx, made)


def _against_file(before: Plan, made: Plan, path: Path | None) -> Compared:
    from cloudfn import plan_diff

    return plan_diff.diff(before, made), f"against {path}"


def _against_deployed(look: Look | None, made: Plan) -> Compared:
    if look is None:
        return None, ""
    from cloudfn import plan_diff

    found = look.result()
    if found.unknown:
        return None, f"not compared with what is deployed: {found.unknown}"
    if found.plan is None:
        return plan_diff.diff(None, made), f"nothing of {made.stack} is deployed yet: all of it is new"
    return plan_diff.diff(found.plan, made), "against what is deployed"


def document(made: Plan, difference: Difference | None, *, explain: bool) -> dict[str, Any]:
    """What `--format json` prints: the plan as `docs/plan.schema.json` says, with what changes, where that is known.

    Args:
        explain: keep the candidates, which are many.
    """
    from cloudfn import plan_json

    if not explain:
        made = replace(made, functions=tuple(replace(function, candidates=()) for function in made.functions))
    data = plan_json.to_json(made)
    return {**data, "difference": asdict(difference)} if difference else data


def show(
    made: Plan, difference: Difference | None, form: str, *, explain: bool, policies: bool, said: str = ""
) -> None:
    """Print the plan for readers: tables on a terminal, aligned lines in a pipe or a log, or Markdown.

    Args:
        said: a line above what changes.
    """
    from cloudfn.cli import plan_sections
    from cloudfn.plain import is_terminal

    sections: list[Section] = plan_sections.of(made, difference, explain=explain, policies=policies, said=said)
    if form == "markdown":
        from cloudfn.cli import plan_markdown

        click.echo(plan_markdown.render(sections))
    elif is_terminal(sys.stdout):
        from rich.console import Console

        from cloudfn.cli import plan_table

        Console(highlight=False).print(plan_table.render(sections))
    else:
        from cloudfn.cli import plan_lines

        click.echo(plan_lines.render(sections))


def _age(made: Plan) -> tuple[str, ...]:
    from datetime import date

    from cloudfn.cost.age import age_note

    read = [group.price.date for group in made.groups if group.price.date]
    note = age_note(min(read), date.today()) if read else ""
    return (note,) if note else ()


def _saved(path: Path) -> Plan:
    from cloudfn import plan_json
    from cloudfn.exception import InvalidError, NotFoundError

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no file {path}.", hint="`cloudfn plan FILE --format json > PLAN.json` writes one."
        ) from None
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} cannot be read as JSON: {error}.") from error
    if isinstance(data, dict):
        data.pop("difference", None)
    try:
        return plan_json.from_json(data)
    except InvalidError as error:
        raise InvalidError(f"{path}: {error.message}", hint=error.hint) from error


def _exit(ctx: click.Context, made: Plan) -> None:
    from cloudfn import policy

    if policy.fails(made):
        errors = [finding for finding in made.findings if finding.level == policy.ERROR]
        for finding in errors:
            click.echo(f"error: {finding.check}: {finding.where}: {finding.message}", err=True)
        ctx.exit(FORBIDDEN)
