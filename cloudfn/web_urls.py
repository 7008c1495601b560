"""How a worker knows the URLs of its app's web functions: by a variable that whoever serves them sets."""

from __future__ import annotations

import os
from typing import Mapping

VARIABLE = "CLOUDFN_WEB_URLS"


def environment(urls: Mapping[str, str]) -> dict[str, str]:
    """For the workers of an app.

    Args:
        urls: by function ("hello", "Model.predict").
    """
    import json

    return {VARIABLE: json.dumps(dict(urls))} if urls else {}


def of_worker() -> Mapping[str, str]:
    """What this process was told; nothing where it is no such worker."""
    text = os.environ.get(VARIABLE)
    if not text:
        return {}
    import json

    found: Mapping[str, str] = json.loads(text)
    return found
