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
    from cloudfn.plan_diff import Difference
    from cloudfn.plan_spec import Plan

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
    help="Show what changes against a plan that --format json wrote before.",
)
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
    reference: str,
) -> None:
    """Show what would exist, who could do what, what would be open, and what it would cost.

    Nothing is created, and neither credentials nor a network are needed. Exit code 3: a check forbids it (a cap would
    be broken, a port open to everybody, ...).
    """
    from cloudfn import plan_diff
    from cloudfn.cli import importer, planning

    where = importer.Reference.parse(reference, is_module)
    settings = planning.load_settings(where, environment, cloud)
    made = planning.make(planning.load_app(where, app_name), settings)
    made = replace(made, notes=(*made.notes, *_age(made)))
    difference = plan_diff.diff(_saved(against), made) if against else None
    if as_json or form == "json":
        click.echo(json.dumps(document(made, difference, explain=explain), indent=2))
    else:
        show(made, difference, form, explain=explain, policies=policies)
    _exit(ctx, made)


def document(made: Plan, difference: Difference | None, *, explain: bool) -> dict[str, Any]:
    """What `--format json` prints: the plan as `docs/plan.schema.json` says; with a difference, both under their names.

    Args:
        explain: keep the candidates, which are many.
    """
    from cloudfn import plan_json

    if not explain:
        made = replace(made, functions=tuple(replace(function, candidates=()) for function in made.functions))
    data = plan_json.to_json(made)
    return {"plan": data, "difference": asdict(difference)} if difference else data


def show(made: Plan, difference: Difference | None, form: str, *, explain: bool, policies: bool) -> None:
    """Print the plan for readers: tables on a terminal, aligned lines in a pipe or a log, or Markdown."""
    from cloudfn.cli import plan_sections
    from cloudfn.plain import is_terminal

    sections: list[Section] = plan_sections.of(made, difference, explain=explain, policies=policies)
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
    try:
        return plan_json.from_json(data["plan"] if isinstance(data, dict) and "difference" in data else data)
    except InvalidError as error:
        raise InvalidError(f"{path}: {error.message}", hint=error.hint) from error


def _exit(ctx: click.Context, made: Plan) -> None:
    from cloudfn import policy

    if policy.fails(made):
        errors = [finding for finding in made.findings if finding.level == policy.ERROR]
        for finding in errors:
            click.echo(f"error: {finding.check}: {finding.where}: {finding.message}", err=True)
        ctx.exit(FORBIDDEN)
