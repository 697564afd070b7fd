"""A crowd of connections that send a request byte by byte, or none. A program: PORT COUNT SECONDS.

Each that is cut off comes again, once a second at most. Prints how many there were.
"""

from __future__ import annotations

import json
import random
import resource
import selectors
import socket
import sys
import time
from contextlib import suppress

STEP_S = 1.0
BODY = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
HEAD = b"GET /jobs HTTP/1.1\r\nHost: localhost\r\nX-Long: "
# What a connection begins with, and what it goes on with.
KINDS = ((b"", b""), (HEAD[:3], b"x"), (HEAD, b"x"), (BODY, b"x"), (b"", b"\r\n"))


def main(port: int, count: int, seconds: float) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    chance, selector = random.Random(port), selectors.DefaultSelector()
    made = cut = 0

    def connect() -> None:
        nonlocal made
        one = socket.socket()
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", port))
        selector.register(one, selectors.EVENT_READ | selectors.EVENT_WRITE, chance.choice(KINDS))
        made += 1

    began = steps_s = time.monotonic()
    while (past_s := time.monotonic() - began) < seconds:
        # A hundred at a time, as fast as they can: the crowd comes with a rush.
        for _ in range(min(100, count - len(selector.get_map()), int(count * (1 + past_s)) - made)):
            connect()
        step = began + past_s >= steps_s
        steps_s += STEP_S if step else 0.0
        for key, events in selector.select(0.01):
            one = key.fileobj
            assert isinstance(one, socket.socket)
            begins, goes_on = key.data
            try:
                if events & selectors.EVENT_READ and not one.recv(4096):
                    raise ConnectionResetError
                if events & selectors.EVENT_WRITE:
                    one.send(begins)
                    selector.modify(one, selectors.EVENT_READ, (b"", goes_on))
            except BlockingIOError:
                continue
            except OSError:
                cut += 1
                selector.unregister(one)
                one.close()
        if step:
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                if key.events == selectors.EVENT_READ:
                    with suppress(OSError):
                        key.fileobj.send(key.data[1])
    print(json.dumps({"made": made, "cut": cut, "held": len(selector.get_map())}))  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
