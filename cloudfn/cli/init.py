"""`cloudfn init`."""

from __future__ import annotations

from pathlib import Path

import click

from cloudfn.config import FILE
from cloudfn.exception import AlreadyExistsError

TEMPLATE = """\
# Settings of cloudfn for this folder and what lies below it. Every line is optional; what stands behind "#" is the
# default or an example. `cloudfn config show` says which value holds, and where it comes from.

# Where functions run: "local" (this machine), "aws" or "gcp".
provider = "{provider}"

# Regions in order of preference.
# regions = ["us-east-1"]

# AWS account id or GCP project; without it, the one that the credentials belong to.
# account = ""

# Spot machines: "never", "prefer" (spot first, on-demand behind it) or "only".
# spot = "never"

# Most machines of a group whose functions set no `max_containers`.
# max_machines = 10

# Seconds without input after which a machine goes.
# idle_timeout = 600

# Seconds that calls wait for a first machine, before they fail and say why none came.
# machine_timeout = 3600

# Root disk of each machine, in GiB.
# disk_gib = 100

# Days that logs are kept.
# log_retention = 30

# Who is asked about what this makes; a tag on every resource.
# owner = ""

# AWS: ARN of a permissions boundary that every role gets.
# permissions_boundary = ""

# Machine images of your own, by kind; the others are the cloud's default ones.
# images = {{ gpu-x86_64 = "projects/my-project/global/images/family/my-gpu-machines" }}

# The most that an app may cost, in US dollars. `cloudfn plan` fails when its worst case is above.
[caps]
# hourly = 20
# monthly = 500

[network]
# An existing network (AWS: "vpc-...", GCP: its name) and its subnets by region; without them, a new one is made.
# id = ""
# subnets = {{ us-east-1 = ["subnet-..."] }}

# true: machines get no public address, and reach the internet through your own NAT.
# private = false

# How callers reach machines: "helper" (Session Manager or IAP: no inbound port), "ssh", or "auto".
# road = "auto"
# ssh_from = ["203.0.113.7/32"]

# false: nobody can log in to machines; callers reach cloudfn's agent on them and nothing else.
# shell = true

# Where the state of stacks is kept: "bucket" (in your account, shared with your team), "file" or "pulumi".
[state]
# backend = "bucket"
# url = ""
# secrets_provider = ""

# More tags on every resource.
[tags]
# team = "ml"

# Any key above may be set for one environment alone; `--env prod` chooses it.
# [environments.prod]
# regions = ["eu-west-1"]
# [environments.prod.caps]
# monthly = 2000
"""


@click.command()
@click.option("--provider", default="local", help='Where functions run: "local", "aws" or "gcp".')
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
def init(provider: str, folder: Path) -> None:
    """Write a commented cloudfn.toml to FOLDER (default: this one)."""
    from cloudfn.config import load

    path = folder / FILE
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(provider=provider))
    except FileExistsError:
        raise AlreadyExistsError(
            f"{path} is there already.", hint="`cloudfn config show` says what is in it."
        ) from None
    load(folder)  # what we wrote is what we read
    click.echo(f"wrote {path}")
