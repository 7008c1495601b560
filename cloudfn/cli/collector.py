"""A process that imports the user's file once, for `cloudfn serve`: `python -m cloudfn.cli.collector`.

A process of its own for each look, since an import cannot be undone. It is started before it is needed, imports what
the last one needed of installed packages, and waits for a line on its standard input: an edit is then seen in the time
that the user's own code takes.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Sequence

from cloudfn.cli.collected import Found, Order

if TYPE_CHECKING:
    from cloudfn.client.target import FunctionPayload


def main() -> int:
    order = Order(**json.loads(sys.argv[1]))
    _preload(order.preload)
    if not sys.stdin.readline():
        return 0  # nobody needs us any more
    # Nothing that the user's code does with descriptors 0 to 2 may reach whoever started us.
    found = _look(order, set(sys.modules) - set(order.preload))
    with open(order.out, "wb") as out:
        pickle.dump(found, out)
    return found.code


def _preload(names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception:  # noqa: BLE001 (it is the user's code that will say what is wrong with it)
            pass


def _look(order: Order, before: set[str]) -> Found:
    from cloudfn.cli import failure, importer
    from cloudfn.client import current
    from cloudfn.collect import collect
    from cloudfn.exception import InputCancellation
    from cloudfn.secret_store import for_app

    app_name: str = ""
    functions: list[FunctionPayload] = []
    code = 0
    try:
        where = importer.Reference.parse(order.reference, order.is_module)
        current.choose(Path.cwd() if where.is_module else Path(where.target).parent, order.environment, order.cloud)
        app, _ = importer.find_app(importer.load(where), where)
        functions = collect(app, for_app(current.provider(), app.label))
        app_name = app.label
    except SystemExit as exit:  # the user's module ended the program
        code = exit.code if isinstance(exit.code, int) and exit.code else 1
        print(f"error: {order.reference} ends the program when it is imported", file=sys.stderr)
    except (Exception, InputCancellation) as error:  # noqa: BLE001 - the boundary: it becomes a message
        code = failure.report(error, ran_user_code=True)
    files, packages = _modules(before)
    return Found(app_name, functions, sorted({*files, *_shipped(functions)}), packages, code)


def _modules(before: set[str]) -> tuple[set[str], list[str]]:
    """The user's own files among those of the modules, and names of installed modules that are new."""
    ours = str(Path(__file__).parents[1])
    installed = [*{sys.prefix, sys.base_prefix, sys.exec_prefix}, ours]
    files, packages = set(), []
    for name, module in list(sys.modules.items()):
        file: Any = getattr(module, "__file__", None)
        if not isinstance(file, str):
            continue
        if file.startswith(tuple(place + os.sep for place in installed)):
            if name not in before and name != "__main__":
                packages.append(name)
        elif name != "__main__":
            files.add(os.path.realpath(file))
    return files, packages


def _shipped(functions: Sequence[FunctionPayload]) -> set[str]:
    found: set[str] = set()
    for payload in functions:
        if payload.bundle is not None:
            found.update(str(payload.bundle.root / file.path) for file in payload.bundle.files)
        for tree in payload.materials.trees.values():
            found.update(file.path for file in tree.values())
    return found


if __name__ == "__main__":
    sys.exit(main())
