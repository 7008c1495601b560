"""A user's program for tests: it opens an app, and calls what lines on its input say; what comes of it are lines too.

Args: the app's file, and seconds for `TTL` of claims: fewer than a user has, so that a dead client's expire soon.

In: {"id", "call": function's name, "args": [...]}; "map" instead of "call" for one input per argument; {"close": true}.
Out: {"id", "result"} or {"id", "error": class, "text"}; {"opened": true}, {"closed": true}.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from pathlib import Path
from typing import Any

import cloudfn
from cloudfn import controlled_fleet
from cloudfn.client import current

_writing = threading.Lock()


def say(**words: Any) -> None:
    with _writing:
        sys.stdout.write("::" + json.dumps(words) + "\n")
        sys.stdout.flush()


def serve(app: Any, request: dict[str, Any]) -> None:
    """One request; on a thread of its own."""
    try:
        if "map" in request:
            found: Any = list(app.registered_functions[request["map"]].map(request["args"]))
        else:
            found = app.registered_functions[request["call"]].remote(*request["args"])
    except Exception as error:  # noqa: BLE001 (told to the test, which knows what it expects)
        say(id=request["id"], error=type(error).__name__, text=str(error))
    else:
        say(id=request["id"], result=found)


def main() -> None:
    path, ttl = sys.argv[1], float(sys.argv[2])
    current.choose(Path.cwd())
    controlled_fleet.TTL, controlled_fleet._RENEW = ttl, ttl / 4
    spec = importlib.util.spec_from_file_location("app", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["app"] = module
    spec.loader.exec_module(module)
    threads: list[threading.Thread] = []
    with cloudfn.enable_output(), module.app.run():
        say(opened=True)
        for line in sys.stdin:
            request = json.loads(line)
            if request.get("close"):
                break
            thread = threading.Thread(target=serve, args=(module.app, request), daemon=True)
            thread.start()
            threads.append(thread)
        for thread in threads:
            thread.join()
    say(closed=True)


main()
