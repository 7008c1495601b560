"""`cloudfn cost`: what machines have cost, by app, function or day."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Sequence

import click

if TYPE_CHECKING:
    from cloudfn.cost.ledger import HasLedger, Line, MachineDay


@click.command()
@click.option(
    "--app", "apps", multiple=True, help="Only this app; may be given several times. Default: all known here."
)
@click.option(
    "--by",
    "fields",
    default="function",
    show_default=True,
    help='What to sum by: "app", "function", "day", or several: "day,function".',
)
@click.option("--since", help='First day (UTC), "2026-11-01"; default: the first of this month.')
@click.option("--until", help="Last day; default: today.")
@click.option("--provider", "name", help="Where the app runs (aws, ...); default: the provider of cloudfn.toml.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object on stdout.")
def cost(
    apps: tuple[str, ...], fields: str, since: str | None, until: str | None, name: str | None, as_json: bool
) -> None:
    """Show what machines have cost so far, from the ledger that the controller keeps in your account.

    Time in which machines start or wait for work is nobody's, and is shown apart as (boot) and (idle).
    """
    from cloudfn.cost import ledger

    by = _fields(fields)
    today = datetime.now(timezone.utc).date()
    first = _day(since, today.replace(day=1), "--since")
    last = _day(until, today, "--until")
    found = _provider(name)
    rows: list[MachineDay] = []
    for app in apps or _known(found):
        rows.extend(found.ledger(app, first.isoformat(), last.isoformat()))
    lines = ledger.lines(rows, by)
    if as_json:
        click.echo(json.dumps(document(lines, rows, by, first, last), indent=2))
    elif not rows:
        click.echo(f"No machine ran from {first} to {last} (UTC).", err=True)
    else:
        click.echo("\n".join(table(lines, by)))


def _provider(name: str | None) -> HasLedger:
    from pathlib import Path

    from cloudfn import config, registry
    from cloudfn.cost.ledger import HasLedger
    from cloudfn.exception import UnimplementedError

    chosen = name or config.load(Path.cwd()).settings.provider
    found = registry.provider(chosen)
    if not isinstance(found, HasLedger):
        hint = "Functions run on this machine, which costs nothing: `cloudfn ps` shows how long they were busy."
        raise UnimplementedError(
            f"The provider {chosen!r} keeps no ledger.",
            hint=hint if chosen == "local" else "`cloudfn cost --provider aws` shows what runs on AWS.",
        )
    return found


def _known(found: HasLedger) -> Sequence[str]:
    from cloudfn.exception import UsageError
    from cloudfn.machines import HasMachines

    apps = found.known_apps() if isinstance(found, HasMachines) else ()
    if not apps:
        raise UsageError("No app was run from this machine yet.", hint="Name one: cloudfn cost --app NAME")
    return apps


def _fields(text: str) -> tuple[str, ...]:
    from cloudfn.cost.ledger import FIELDS
    from cloudfn.exception import UsageError

    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    unknown = [each for each in names if each not in FIELDS]
    if unknown or not names:
        raise UsageError(f"--by {text}: sum by {', '.join(FIELDS)}, or several of them with commas between.")
    return names


def _day(text: str | None, default: date, option: str) -> date:
    from cloudfn.exception import UsageError

    if text is None:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{option} {text}: a day looks like {default.isoformat()}.") from None


def document(
    lines: Sequence[Line], rows: Sequence[MachineDay], by: Sequence[str], first: date, last: date
) -> dict[str, object]:
    """What `--json` prints."""
    prices = [row.usd for row in rows]
    known = [usd for usd in prices if usd is not None]
    return {
        "since": first.isoformat(),
        "until": last.isoformat(),
        "by": list(by),
        "usd": sum(known) if len(known) == len(prices) else None,
        "machine_seconds": sum(row.seconds for row in rows),
        "lines": [
            {**dict(zip(by, line.key, strict=True)), **{k: v for k, v in asdict(line).items() if k != "key"}}
            for line in lines
        ],
    }


def table(lines: Sequence[Line], by: Sequence[str]) -> list[str]:
    """A line for each sum, and one for all of them, in aligned columns."""
    cells = [[*(name.upper() for name in by), "USD", "MACHINE TIME", "BUSY", "INPUTS", "MACHINES"]]
    for line in lines:
        used = [_time(line.busy_seconds), f"{line.inputs:,.0f}"] if line.worker_seconds or line.inputs else ["-", "-"]
        cells.append([*line.key, _usd(line.usd), _time(line.machine_seconds), *used, f"{line.machines:,}"])
    prices = [line.usd for line in lines]
    known = [usd for usd in prices if usd is not None]
    total = sum(known) if len(known) == len(prices) else None
    seconds = sum(line.machine_seconds for line in lines)
    cells.append(["total", *[""] * (len(by) - 1), _usd(total), _time(seconds), "", "", ""])
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column < len(by) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _usd(usd: float | None) -> str:
    return "unknown" if usd is None else f"{usd:,.4f}" if usd < 1 else f"{usd:,.2f}"


def _time(seconds: float) -> str:
    from cloudfn.cli.ps import duration

    return duration(seconds)
