"""`cloudfn volume`: create, list and delete volumes, and see and change what is in them."""

from __future__ import annotations

import os
import secrets
import sys
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from cloudfn.cli.stored import add_common, json_option, rows_of, show, yes_option
from cloudfn.exception import AlreadyExistsError

if TYPE_CHECKING:
    from cloudfn.volume import FileEntry, Volume


def _load() -> type[Volume]:
    from cloudfn.volume import Volume

    return Volume


@click.group()
def volume() -> None:
    """Manage volumes, and see and change what is in them."""


add_common(volume, _load, "Volume")


@volume.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the volumes that have names."""
    show(rows_of(_load().objects.list()), as_json, "No volumes. Make one: cloudfn volume create NAME")


@volume.command(no_args_is_help=True)
@click.argument("old_name")
@click.argument("new_name")
@yes_option
def rename(old_name: str, new_name: str, yes: bool) -> None:
    """Give the volume OLD_NAME the name NEW_NAME."""
    if not yes:
        click.confirm(f"Rename {old_name}? Apps that use it by its name will not find it.", abort=True, err=True)
    _load().rename(old_name, new_name)
    click.echo(f"Renamed Volume {old_name} to {new_name}.")


@volume.command(no_args_is_help=True)
@click.argument("name")
@click.argument("path", default="/")
@json_option
def ls(name: str, path: str, as_json: bool) -> None:
    """List what is in the folder PATH of the volume NAME."""
    entries = _load().from_name(name).listdir(path)
    if not as_json and not os.isatty(1):  # for other programs: one path a line
        for entry in entries:
            click.echo(entry.path)
        return
    show([_row(entry) for entry in entries], as_json, "Nothing is in it.")


def _row(entry: FileEntry) -> dict[str, str | int]:
    changed = datetime.fromtimestamp(entry.mtime, timezone.utc).isoformat(timespec="seconds")
    kinds = {1: "file", 2: "dir", 3: "link"}
    return {"filename": entry.path, "type": kinds[entry.type], "changed_at": changed, "size": entry.size}


@volume.command(no_args_is_help=True)
@click.argument("name")
@click.argument("local_path", type=click.Path(exists=True, path_type=Path))
@click.argument("remote_path", default="/")
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
def put(name: str, local_path: Path, remote_path: str, force: bool) -> None:
    """Upload a file or a folder to the volume NAME.

    A REMOTE_PATH that ends in "/" is a folder, into which LOCAL_PATH goes under its own name.
    """
    target = f"{remote_path}{local_path.name}" if remote_path.endswith("/") else remote_path
    with _load().from_name(name).batch_upload(force=force) as batch:
        if local_path.is_dir():
            batch.put_directory(local_path, target)
        else:
            batch.put_file(local_path, target)
    click.echo(f"Uploaded {local_path} to {target}.", err=True)


@volume.command(no_args_is_help=True)
@click.argument("name")
@click.argument("remote_path")
@click.argument("local_path", default=".", type=click.Path(path_type=Path, allow_dash=True))
@click.option("-f", "--force", is_flag=True, help="Replace files that are there.")
def get(name: str, remote_path: str, local_path: Path, force: bool) -> None:
    """Download a file or a folder of the volume NAME; LOCAL_PATH "-" is standard output."""
    found = _load().from_name(name)
    if str(local_path) == "-":
        out = sys.stdout.buffer
        for part in found.read_file(remote_path):
            out.write(part)
        out.flush()
        return
    entries = found.listdir(remote_path, recursive=True)
    root = PurePosixPath(remote_path.strip("/"))
    is_file = len(entries) == 1 and entries[0].path == str(root)
    if is_file:
        target = local_path / root.name if local_path.is_dir() else local_path
        _download(found, entries[0], target, force)
    else:
        for entry in entries:
            target = local_path / PurePosixPath(entry.path).relative_to("" if str(root) == "." else root)
            if entry.type == 2:
                target.mkdir(parents=True, exist_ok=True)
            elif entry.type == 1:
                _download(found, entry, target, force)
    click.echo(f"Downloaded {remote_path} to {local_path}.", err=True)


def _download(found: Volume, entry: FileEntry, target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise AlreadyExistsError(f"{target} exists already.", hint="Use --force to replace it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as file:
            for part in found.read_file(entry.path):
                file.write(part)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


@volume.command(no_args_is_help=True)
@click.argument("name")
@click.argument("paths", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Copy folders with all that is in them.")
def cp(name: str, paths: tuple[str, ...], recursive: bool) -> None:
    """Copy within the volume NAME: files to the last of PATHS."""
    if len(paths) < 2:
        raise click.UsageError("Name what to copy, and where to.")
    _load().from_name(name).copy_files(list(paths[:-1]), paths[-1], recursive)


@volume.command(no_args_is_help=True)
@click.argument("name")
@click.argument("path")
@click.option("-r", "--recursive", is_flag=True, help="Remove a folder with all that is in it.")
def rm(name: str, path: str, recursive: bool) -> None:
    """Remove a file or a folder of the volume NAME."""
    _load().from_name(name).remove_file(path, recursive)
