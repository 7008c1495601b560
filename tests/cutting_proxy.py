"""A proxy that cuts the connections of leases: between two reads, in the middle of a frame, during a handshake.

The control stream does not run through it, because a session ends with that.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator

import pytest

from cloudfn import App
from cloudfn.client.site import Site


class Proxy:
    """Passes bytes on between clients and an agent's door, and cuts the connections of leases.

    Args:
        path: where it listens.
        target: path of the agent's Unix socket.
    """

    def __init__(self, path: Path, target: str) -> None:
        self.cuts = 0
        self._target = target
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._lock = threading.Lock()
        self._leases: set[tuple[socket.socket, socket.socket]] = set()
        self._budget: int | None = None  # bytes until the next cut
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def cut(self) -> None:
        """Cut every connection of a lease now."""
        with self._lock:
            for pair in self._leases:
                self._end(pair)

    def cut_after(self, size: int) -> None:
        """Cut the connection that passes this many bytes from now on, in the midst of them."""
        with self._lock:
            self._budget = size

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.cuts += 1
        for sock in pair:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is cut already
                pass

    def _accept(self) -> None:
        while True:
            try:
                near = self._listener.accept()[0]
            except OSError:  # `close`
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            for pair in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._pump, args=pair))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """One direction of one connection, to its end."""
        pair = (source, sink)
        try:
            while data := source.recv(65536):
                with self._lock:
                    self._leases.add(pair)
                    if self._budget is not None:
                        passed, self._budget = data[: self._budget], self._budget - len(data)
                        if self._budget <= 0:
                            self._budget = None
                            sink.send(passed, socket.MSG_DONTWAIT)
                            self._end(pair)
                            return
                sink.sendall(data)
        except OSError:  # it was cut, or the other direction has ended
            pass
        finally:
            with self._lock:
                self._leases.discard(pair)
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


@contextmanager
def running(app: App) -> Iterator[tuple[Proxy, Path]]:
    """Run an app behind such a proxy; with a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="cfn-cut-"))
    proxies: list[Proxy] = []
    listen = Site.listen

    def through_proxy(self: Site, sock: socket.socket) -> None:
        listen(self, sock)
        proxies.append(Proxy(folder / "p", self.address.removeprefix("unix:")))
        self.address = f"unix:{folder / 'p'}"

    patch = pytest.MonkeyPatch()
    patch.setattr(Site, "listen", through_proxy)
    patch.setenv("CLOUDFN_STATE_DIR", str(folder))
    try:
        with app.run():
            yield proxies[0], folder
    finally:
        patch.undo()
        for proxy in proxies:
            proxy.close()
        shutil.rmtree(folder)
