"""What a user sets for an environment, as plain frozen data. `cloudfn.config` reads it from files and says where each
value came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Mapping


@dataclass(frozen=True)
class Caps:
    """The most that an app may cost in an environment, in US dollars; None: no cap."""

    hourly: float | None = None
    monthly: float | None = None


@dataclass(frozen=True)
class NetworkSettings:
    """Where machines are put, and how callers come to them.

    Attributes:
        id: an existing VPC (AWS: "vpc-..."; GCP: a network's name); "" makes a new one.
        subnets: existing subnets in it, by region ("subnet-..." or names); needs `id`.
        private: machines get no public address; what they fetch goes through the NAT that the user has there.
        road: how callers reach machines: "helper" (the cloud's tunnel: no inbound port at all), "ssh" (port 22, open to
            `ssh_from` only), or "auto": the helper where it is installed on the caller's machine, else ssh.
        ssh_from: CIDR blocks that may connect by SSH. Empty: the caller's own address, asked for at `up`.
        shell: callers may log in to machines, as administrators (`cloudfn ssh`, `cloudfn shell`).
    """

    id: str = ""
    subnets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    private: bool = False
    road: str = "auto"
    ssh_from: tuple[str, ...] = ()
    shell: bool = True


@dataclass(frozen=True)
class StateSettings:
    """Where the state of stacks is kept.

    Attributes:
        backend: "bucket" (versioned, encrypted, in the user's account), "file" or "pulumi" (Pulumi Cloud).
        url: of the backend, where it is not the default one: "s3://...", "gs://...", "file://..." or "https://...".
        secrets_provider: what encrypts secrets in the state: "" for the default (the cloud's KMS with a bucket, else a
            passphrase in a file of mode 0600), "passphrase", or a Pulumi URL ("awskms://...", "gcpkms://...").
    """

    backend: str = "bucket"
    url: str = ""
    secrets_provider: str = ""


@dataclass(frozen=True)
class Settings:
    """One environment.

    Attributes:
        provider: name of the cloud ("local" runs on this machine and needs no plan).
        environment: its name ("main", "prod", ...).
        account: AWS account id or GCP project, where the user pins it; "" takes what the credentials say.
        regions: in order of preference.
        spot: "never", "prefer" (spot first, on-demand behind it) or "only".
        max_machines: most machines of a group whose functions set no `max_containers`; keeps the worst case finite.
        idle_timeout: seconds without input after which a machine goes.
        machine_timeout: seconds that calls wait for a first machine, before they fail and say why none came.
        disk_gib: root disk of each machine in GiB, where functions ask for no more.
        log_retention: days that logs are kept.
        tags: more tags (labels) on every resource.
        owner: who is asked about it; a tag.
        permissions_boundary: AWS: ARN of the boundary that every role gets.
        images: machine images of the user's own by kind ("gpu-x86_64", see `Group.image`), as the cloud names them
            (AWS: an SSM parameter; GCP: "projects/P/global/images/family/F"); others are the cloud's default ones.
    """

    provider: str = "local"
    environment: str = "main"
    account: str = ""
    regions: tuple[str, ...] = ()
    spot: str = "never"
    max_machines: int = 10
    idle_timeout: float = 600.0
    machine_timeout: float = 3600.0
    disk_gib: int = 100
    log_retention: int = 30
    network: NetworkSettings = NetworkSettings()
    state: StateSettings = StateSettings()
    caps: Caps = Caps()
    tags: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    permissions_boundary: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
