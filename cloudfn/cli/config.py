"""`cloudfn config`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click


@click.group()
def config() -> None:
    """Show the settings that hold here."""


@config.command()
@click.option("--env", "environment", help="The environment; default: CLOUDFN_ENVIRONMENT, or the file's, or main.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
@click.argument("folder", default=".", type=click.Path(exists=True, path_type=Path))
def show(environment: str | None, as_json: bool, folder: Path) -> None:
    """Every setting with its value, and where that came from: a file's line, a variable or the default.

    FOLDER is where to look for cloudfn.toml or pyproject.toml, and upward from there (default: this one).
    """
    from cloudfn.config import load, value_of

    loaded = load(folder, environment)
    if as_json:
        document = {"file": str(loaded.path) if loaded.path else None, "settings": asdict(loaded.settings)}
        click.echo(json.dumps({**document, "origins": dict(loaded.origins)}, indent=2))
        return
    rows = [(key, _shown(value_of(loaded.settings, key)), origin) for key, origin in loaded.origins.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    click.echo(f"file: {loaded.path or 'none (`cloudfn init` writes one)'}")
    for key, value, origin in rows:
        click.echo(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {origin}")


def _shown(value: Any) -> str:
    return "-" if value is None else json.dumps(value)
