"""A relay between the scheduler and a server on a Unix socket: it delays what it passes on, or cuts it off."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The socket that libpq looks for in the folder that a URL names as its host.
NAME = ".s.PGSQL.5432"


class Relay:
    """Listens in `folder`, and passes on to the server that listens in `server`."""

    def __init__(self, folder: Path, server: Path, delay_s: float = 0) -> None:
        self.folder = folder
        self._server = server
        self._delay_s = delay_s
        # Bytes from a client at which its connection ends: before they are passed on, or when their answer comes.
        self.cut_before: bytes | None = None
        self.cut_after: bytes | None = None
        # Set when a connection was cut.
        self.was_cut = threading.Event()
        # Whether new connections are refused.
        self.closed = False
        # Cleared, it passes nothing on, and ends nothing: as a server that hangs.
        self.flows = threading.Event()
        self.flows.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / NAME))
        self._listener.listen()
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.closed:
                    client.close()
                    continue
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        """Serve one connection to its end."""
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server / NAME))
            self._sockets += (client, server)
            cut = threading.Event()
            outward = threading.Thread(target=self._pass, args=(client, server, cut, True), daemon=True)
            outward.start()
            self._pass(server, client, cut, False)
            outward.join()

    def _pass(self, source: socket.socket, target: socket.socket, cut: threading.Event, outward: bool) -> None:
        """Pass on what the source sends. `cut`: the answer that comes next is to be cut off."""
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._delay_s:
                    time.sleep(self._delay_s)
                self.flows.wait()
                if outward and self.cut_before is not None and self.cut_before in data:
                    self.cut_before = None
                    break
                if outward and self.cut_after is not None and self.cut_after in data:
                    self.cut_after = None
                    cut.set()
                if not outward and cut.is_set():
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.was_cut.set()

    def cut(self) -> None:
        """Cut all connections."""
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.flows.set()
        self._listener.close()
        self.cut()


@contextmanager
def relay(folder: Path, server: Path, delay_s: float = 0) -> Iterator[Relay]:
    opened = Relay(folder, server, delay_s)
    try:
        yield opened
    finally:
        opened.close()
