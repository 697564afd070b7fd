"""Submits in an open loop: one is due at each tick of the clock, however long the answers to others take.

Usage: python -m tests.faults.submits PORT PER_SECOND SECONDS COMMAND

HTTP by hand over connections that stay open, one submit at a time on each, as many connections as it takes up to a
bound. Prints one line of JSON: the milliseconds of each answer by its code, the jobs that were acked.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time

CONNECTIONS_MAX = 100
# After the last submit, for the last answers.
PATIENCE_S = 35.0


class Connection:
    """A connection, and the submit that is on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.began_s = 0.0
        self._answer = b""

    def send(self, request: bytes) -> None:
        self._answer = b""
        self.began_s = time.monotonic()
        self.socket.sendall(request)

    def receive(self) -> tuple[bytes, bytes] | None:
        """Head and body of the answer when it is whole."""
        part = self.socket.recv(65_536)
        assert part, "the connection was closed"
        self._answer += part
        head, blank, body = self._answer.partition(b"\r\n\r\n")
        if not blank:
            return None
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return (head, body) if len(body) == length else None


def main() -> None:
    port, per_s, seconds, command = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    body = json.dumps({"name": "crowd", "command": command}).encode()
    request = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    selector = selectors.DefaultSelector()
    free: list[Connection] = []
    opened = sent = due = unsent = without_retry_after = 0
    times_ms: dict[str, list[float]] = {}
    jobs: list[int] = []

    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds + PATIENCE_S:
        due = int(min(passed, seconds) * per_s)
        while sent + unsent < due:
            if not free and opened == CONNECTIONS_MAX:
                unsent = due - sent
                break
            if free:
                connection = free.pop()
            else:
                connection = Connection(port)
                selector.register(connection.socket, selectors.EVENT_READ, connection)
                opened += 1
            connection.send(request)
            sent += 1
        if passed > seconds and len(free) == opened:
            break
        next_s = began + (due + 1) / per_s - time.monotonic()
        for key, _ in selector.select(max(0.0, next_s) if passed < seconds else 0.1):
            connection = key.data
            answer = connection.receive()
            if answer is None:
                continue
            head, content = answer
            code = head[9:12].decode()
            times_ms.setdefault(code, []).append(round((time.monotonic() - connection.began_s) * 1e3, 2))
            if code == "201":
                jobs.append(json.loads(content)["id"])
            elif b"retry-after:" not in head.lower():
                without_retry_after += 1
            free.append(connection)
    unanswered = opened - len(free)
    assert not unanswered, f"{unanswered} submits were never answered"
    told = {"times_ms": times_ms, "jobs": jobs, "unsent": unsent, "without_retry_after": without_retry_after}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
