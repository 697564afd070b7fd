"""What an operator sees of calls that were refused, by a real scheduler: its log and /stats."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.system.session import DEADLINE_S, Scheduler, until

pytestmark = pytest.mark.slow

BAD = "zs_0123456789ab_" + "0" * 64

OTHER_USER = """
import encodings.idna, http.client, os, sys
os.setuid(4242)
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
connection.request("POST", "/jobs", "{}", {"Host": "localhost"})
print(connection.getresponse().status)
"""


def ask(scheduler: Scheduler, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, Any]:
    """A GET from this host; the status, the headers, and the JSON of the body."""
    connection = http.client.HTTPConnection("127.0.0.1", scheduler.port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read())
    finally:
        connection.close()


def lines(scheduler: Scheduler, kind: str) -> list[str]:
    assert scheduler.program is not None
    return [line for line in scheduler.program.log().splitlines() if f"call refused ({kind}): " in line]


def logged(scheduler: Scheduler, kind: str) -> int:
    """How many refusals the lines of a kind stand for."""
    counts = [re.search(r" \((\d+) times since the last such line\)$", line) for line in lines(scheduler, kind)]
    return sum(int(count[1]) if count else 1 for count in counts)


def test_burst_of_bad_tokens_is_logged_to_its_last_one_in_few_lines(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        begun_s = time.monotonic()
        statuses = [ask(scheduler, "/jobs/5", Authorization=f"Bearer {BAD}")[0] for _ in range(15)]
        assert statuses == [401] * 10 + [429] * 5
        # Nothing else happens, so the rest of the burst comes by the loop's own clock.
        until(lambda: logged(scheduler, "bad_token") == 10 and logged(scheduler, "too_many_attempts") == 5)
        assert len(lines(scheduler, "bad_token")) <= 2 + time.monotonic() - begun_s
        last = lines(scheduler, "bad_token")[-1]
        assert re.search(
            r"request [0-9a-f]{16}: GET /jobs/\{job\} by token 0123456789ab at 127\.0\.0\.1 \(\d+ times", last
        )
        counts = scheduler.get("/stats")["refused"]
        assert (counts["bad_token"], counts["too_many_attempts"]) == (10, 5)
        assert scheduler.program is not None
        assert "0" * 64 not in scheduler.program.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as another user")
def test_call_of_another_user_of_the_host_is_logged_with_its_uid(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        done = subprocess.run(
            [sys.executable, "-c", OTHER_USER, str(scheduler.port)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "403\n"
        until(lambda: logged(scheduler, "protected_mode") == 1)
        assert lines(scheduler, "protected_mode")[0].endswith(": POST /jobs by user 4242 at 127.0.0.1")


def test_id_in_an_error_is_found_in_the_log(tmp_path: Path) -> None:
    with Scheduler(tmp_path) as scheduler:
        _, headers, body = ask(scheduler, "/jobs", Authorization="Bearer x")
        assert headers["X-Request-Id"] == body["request_id"]
        until(lambda: f"request {body['request_id']}: " in "".join(lines(scheduler, "bad_token")))
        # What is no request for the app has one too.
        _, headers, body = ask(scheduler, "/jobs", X_Request_Id="mine", Transfer_Encoding="gzip")
        assert (headers["X-Request-Id"], body["code"], body["request_id"]) == ("mine", "invalid_request", "mine")


@pytest.mark.parametrize(("trusted", "address"), [("127.0.0.0/8, ::1", "203.0.113.9"), ("192.0.2.1", "127.0.0.1")])
def test_forwarded_address_counts_from_a_trusted_proxy_only(tmp_path: Path, trusted: str, address: str) -> None:
    with Scheduler(tmp_path, "-trusted-proxies", trusted) as scheduler:
        token = scheduler.post("/tokens", {"scopes": ["admin"]})
        shown = {"Authorization": f"Bearer {token['token']}", "X-Forwarded-For": "198.51.100.1, 203.0.113.9"}
        connection = http.client.HTTPConnection("127.0.0.1", scheduler.port, timeout=DEADLINE_S)
        connection.request("POST", "/jobs", json.dumps({"name": "j", "command": "true"}), shown)
        assert connection.getresponse().status == 201
        connection.close()
        actors = [event["actor"] for event in scheduler.get("/events") if "actor" in event]
        assert actors[-1].endswith(f" at {address}"), actors
        # And without a token it is nobody's call, whoever forwards it.
        assert ask(scheduler, "/jobs", X_Forwarded_For="127.0.0.1")[0] == 403
