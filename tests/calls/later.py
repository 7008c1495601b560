"""A call that goes on while the test does."""

from __future__ import annotations

import threading
from typing import Any


class Later:
    """A call on a thread of its own."""

    def __init__(self, function: Any, *args: Any) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(function, args), daemon=True)
        self._thread.start()

    def _run(self, function: Any, args: Any) -> None:
        try:
            self._result = function(*args)
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error

    def result(self) -> Any:
        self._thread.join(120)
        assert not self._thread.is_alive()
        if self._error:
            raise self._error
        return self._result
