"""Whether there may be Google credentials on this machine, told without Google's libraries, which would wait for a
metadata server that most machines have not."""

from __future__ import annotations

import os
from pathlib import Path

# https://cloud.google.com/docs/authentication/application-default-credentials; the second half are set by Google's own
# places to run (Cloud Run, App Engine, Cloud Shell).
VARIABLES = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GCE_METADATA_HOST",
    "GCE_METADATA_ROOT",
    "K_SERVICE",
    "CLOUD_RUN_JOB",
    "GAE_RUNTIME",
    "CLOUD_SHELL",
)
FOLDER_VARIABLE = "CLOUDSDK_CONFIG"
FILE = "application_default_credentials.json"
_PRODUCT = Path("/sys/class/dmi/id/product_name")


def may_exist(product: Path = _PRODUCT) -> bool:
    """False only where no place holds any: no variable, no file, and this is no machine of Google's.

    Args:
        product: where the kernel says what this machine is.
    """
    if any(os.environ.get(name) for name in VARIABLES):
        return True
    if (_folder() / FILE).is_file():
        return True
    try:
        return product.read_text(encoding="ascii", errors="replace").startswith("Google")
    except OSError:
        return False


def _folder() -> Path:
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given).expanduser()
    appdata = os.environ.get("APPDATA")
    return Path(appdata) / "gcloud" if appdata else Path("~/.config/gcloud").expanduser()
