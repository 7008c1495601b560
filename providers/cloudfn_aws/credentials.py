"""Whether there may be AWS credentials on this machine, told without boto3 and without asking anybody."""

from __future__ import annotations

import os
from pathlib import Path

# https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
FILES = {"AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials", "AWS_CONFIG_FILE": "~/.aws/config"}
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")


def may_exist(vendor: Path = _VENDOR) -> bool:
    """False only where no place holds any: no variable, no file, and this is no machine of EC2's.

    Args:
        vendor: where the kernel says who made this machine.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return True
    if any(Path(os.environ.get(name, default)).expanduser().is_file() for name, default in FILES.items()):
        return True
    return os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() != "true" and _is_ec2(vendor)


def _is_ec2(vendor: Path) -> bool:
    try:
        return vendor.read_text(encoding="ascii", errors="replace").startswith("Amazon")
    except OSError:
        return False
