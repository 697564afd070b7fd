"""What it costs to learn the user at the other end of a connection, over loopback and by a Unix socket.

Usage: python -m bench.callers [ROUNDS]      (10,000, if not said)

Over loopback: the look-up by a netlink socket that is kept open, by one that is opened for it, and in the table under
/proc; and the look at our own end that makes it believable. By a Unix socket: its credentials.
"""

from __future__ import annotations

import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.machine import facts
from zsched.security import peer


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    print(facts())
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        peer.SockDiag() as kernel,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, address = listener.accept()
        theirs, ours = peer.end(*address), peer.end(*accepted.getsockname())
        show("netlink, kept open", rounds, lambda: peer.uid_of(theirs, ours, kernel))
        show("netlink, opened each time", rounds, lambda: peer.uid_of(theirs, ours))
        show("/proc/net/tcp", rounds // 100, lambda: peer._by_table(theirs, ours))
        show("our own end's state", rounds, lambda: peer.connected(accepted))
        accepted.close()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(Path(folder) / "sock"))
        listener.listen()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(listener.getsockname())
            accepted, _ = listener.accept()
            show("credentials of a socket", rounds, lambda: peer.credentials(accepted))
            accepted.close()


def show(what: str, rounds: int, act: Callable[[], object]) -> None:
    """The median of single calls, in microseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter_ns()
        act()
        times.append(time.perf_counter_ns() - began)
    print(f"{what:26} {statistics.median(times) / 1e3:8.2f} us")


if __name__ == "__main__":
    main()
