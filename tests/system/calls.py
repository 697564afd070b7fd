"""Calls of REST from somewhere else: another network namespace, another user. Run as a program there, by `calls`.

It reads a JSON array of calls from stdin, and prints one of their answers.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 20.0


class Call(NamedTuple):
    """A request. A header named Host takes the place of the usual one."""

    method: str
    path: str
    headers: dict[str, str]
    body: str = ""


def calls(prefix: Sequence[str], host: str, port: int, asked: Sequence[Call]) -> list[tuple[int, str]]:
    """The status and the body of each answer. `prefix` is the command that goes there."""
    # By its text, because another user need not be able to read this file.
    python, program = os.path.realpath(sys.executable), Path(__file__).read_text("utf-8")
    done = subprocess.run(
        [*prefix, python, "-I", "-c", program, host, str(port)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=3 * TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    return [(status, body) for status, body in json.loads(done.stdout)]


def main(host: str, port: int) -> None:
    answers: list[tuple[int, str]] = []
    for asked in json.load(sys.stdin):
        answers.append(call(host, port, Call(*asked)))
    json.dump(answers, sys.stdout)


def call(host: str, port: int, asked: Call) -> tuple[int, str]:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    headers: dict[str, Any] = dict(asked.headers)
    connection.putrequest(asked.method, asked.path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if asked.body:
        connection.putheader("Content-Length", str(len(asked.body)))
    connection.endheaders(asked.body.encode() or None)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
