"""A 201 is sent after the job is on the disk, and many callers share one sync. strace is the witness."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.process import ROOT

CALLERS = 100
BODY = b'{"name": "durable", "command": "true"}'
REQUEST = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)

# `123 sendto(7, "HTTP/1.1 201 Created"..., 200, 0, NULL, 0) = 200`, or cut in two lines when another thread came
# between.
LINE = re.compile(r"(?P<thread>\d+)\s+(?:<\.\.\. (?P<resumed>\w+) resumed>|(?P<call>\w+)\((?P<fd>\d+))(?P<rest>.*)")

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A scheduler under strace: its REST port, and where the trace goes."""
    trace, log = tmp_path / "trace", tmp_path / "log"
    command = [sys.executable, "-m", "zsched.commands.scheduler", "-db", str(tmp_path / "s.db")]
    ports = ["-host", "127.0.0.1", "-port", "0", "-zmq-port", "0"]
    calls = "trace=fdatasync,fsync,sendto,recvfrom"
    with log.open("wb") as errors:
        tracer = subprocess.Popen(
            ["strace", "-f", "-e", calls, "-s", "20", "-o", str(trace), *command, *ports], cwd=ROOT, stderr=errors
        )
    try:
        yield _port(log), trace
    finally:
        # strace passes the signal on to the scheduler only from a terminal, so the scheduler itself is told.
        for child in Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split():
            subprocess.run(["kill", child], check=True)
        assert tracer.wait(20) == 0


def test_every_201_follows_a_sync_of_its_job_and_a_hundred_share_a_few(traced: tuple[int, Path]) -> None:
    port, trace = traced
    began = len(trace.read_text().splitlines())
    assert post_all(port) == ["HTTP/1.1 201"] * CALLERS
    syncs, unsynced = judge(trace.read_text().splitlines()[began:])
    assert unsynced == []
    # Threads serve 16 callers at a time, so 7 syncs are the least. On a busy machine their requests come apart.
    assert syncs < CALLERS // 3


def test_the_judge_sees_an_answer_that_came_too_early() -> None:
    early = [
        '1 recvfrom(7, "POST /jobs HTTP/1.1"..., 8192, 0, NULL, NULL) = 90',
        '2 sendto(7, "HTTP/1.1 201 Created"..., 200, 0, NULL, 0) = 200',
        "3 fdatasync(5) = 0",
    ]
    assert judge(early) == (1, [7])
    begun_before = ["3 fdatasync(5 <unfinished ...>", early[0], "3 <... fdatasync resumed>) = 0", early[1]]
    assert judge(begun_before) == (1, [7])
    assert judge([early[0], early[2], early[1]]) == (1, [])


def judge(lines: list[str]) -> tuple[int, list[int]]:
    """How many syncs there were, and the connections whose 201 had no sync begun and ended since the request."""
    began: dict[str, int] = {}
    reads: dict[str, int] = {}
    syncs: list[tuple[int, int]] = []
    asked: dict[int, int] = {}
    unsynced = []
    for place, line in enumerate(lines):
        found = LINE.match(line)
        if found is None:
            continue
        call = found["call"] or found["resumed"]
        if call in ("fdatasync", "fsync"):
            if found["call"]:
                began[found["thread"]] = place
            if "unfinished" not in line:
                syncs.append((began[found["thread"]], place))
        elif call == "recvfrom" and "POST" in line:
            # A resumed line has no descriptor: that of the thread's last call is meant.
            asked[int(found["fd"] or reads[found["thread"]])] = place
        elif call == "recvfrom" and found["fd"]:
            reads[found["thread"]] = int(found["fd"])
        # Not any 201: the kernel is asked for callers' users by sendto as well, with numbers in it.
        elif call == "sendto" and "HTTP/1.1 201" in line and found["fd"]:
            request = asked[int(found["fd"])]
            if not any(request < start and end < place for start, end in syncs):
                unsynced.append(int(found["fd"]))
    return len(syncs), unsynced


def post_all(port: int) -> list[str]:
    """Post a job from each of many connections at the same moment; returns the beginnings of the answers."""
    together = threading.Barrier(CALLERS)
    answers: list[str] = []

    def post() -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as caller:
            together.wait(20)
            caller.sendall(REQUEST)
            answers.append(caller.recv(12).decode())

    threads = [threading.Thread(target=post) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def _port(log: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = re.search(r"listening on http://[^:]+:(\d+)", log.read_text())
        if found is not None:
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"the scheduler does not listen: {log.read_text()}")
