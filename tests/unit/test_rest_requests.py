"""What every call has, an id and its sender's address, and the trace that a refused one leaves."""

from __future__ import annotations

import ast
import logging
import re
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from tests.unit.rest import Rest
from tests.unit.test_rest_tokens import ELSEWHERE, add
from zsched.api.app import make_app
from zsched.api.context import CallerPolicy, Context
from zsched.api.forwarded import Proxies
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID
from zsched.api.refusals import Refusals
from zsched.model.access import Scope
from zsched.model.limits import ATTEMPTS_MAX, LINE_INTERVAL_MS, REQUEST_ID_CHARS_MAX

ROOT = Path(__file__).parents[2]
PROXY: dict[str, Any] = {"remote_addr": "127.0.0.1", "host": "zsched.example"}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


@pytest.fixture
def behind(tmp_path: Path) -> Iterator[Rest]:
    """A scheduler that trusts a proxy on its own host."""
    with Rest(tmp_path) as started:
        proxies = Proxies([ip_network("127.0.0.1")])
        own = started.context
        started.context = Context(own.inbox, lambda: own.reader, own.facts, policy=CallerPolicy(proxies=proxies))
        started.app = make_app(started.context)
        yield started


# --- Request ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["a", "0123456789abcdef", "A.b_c-9", "x" * REQUEST_ID_CHARS_MAX])
def test_request_id_of_the_caller_is_taken_over(rest: Rest, sent: str) -> None:
    headers = {"X-Request-Id": sent}
    assert rest.get("/version", headers=headers).headers["X-Request-Id"] == sent
    refused = rest.get("/jobs/x", headers=headers)
    assert (refused.headers["X-Request-Id"], refused.json["request_id"]) == (sent, sent)


@pytest.mark.parametrize(
    "sent", ["", "x" * (REQUEST_ID_CHARS_MAX + 1), "a b", "a\n", "a,b", "é", "<b>", "a\x1b[1m", "a/b"]
)
def test_request_id_of_another_form_is_replaced_by_a_random_one(rest: Rest, sent: str) -> None:
    answer = rest.ask(rest.app, "GET", "/version", extras={"HTTP_X_REQUEST_ID": sent})
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-Request-Id"])


def test_every_answer_has_its_own_request_id(rest: Rest) -> None:
    paths = ("/version", "/healthz", "/readyz", "/nothing", "/jobs/99", "/openapi.json", "/workers/w/next")
    answers = [rest.call(method, path) for path in paths for method in ("GET", "PUT", "OPTIONS")]
    answers.append(rest.ask(rest.app, "GET", "/jobs", **ELSEWHERE))
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert len(set(ids)) == len(answers)


def test_bug_is_logged_with_the_request_id_and_a_bounded_path(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    del rest.context.live
    answer = rest.ask(rest.app, "GET", "/events")
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert caplog.messages == [f"request {answer.json['request_id']}: GET /events failed"]


def test_path_of_a_bug_is_logged_cut_and_in_ascii(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    rest.context._open_reader = lambda: 1 / 0  # type: ignore[assignment,return-value]
    assert rest.ask(rest.app, "GET", "/workers/\u202e\x1b" + "x" * 5_000).status_code == 500
    (line,) = caplog.messages
    assert r": GET /workers/\u202e\x1bxxx" in line
    assert line.isascii()
    assert len(line) < 300


def test_each_call_is_one_debug_line(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "zsched.api.requests")
    rest.get("/jobs/1/runs", headers={"X-Request-Id": "mine"})
    (line,) = caplog.messages
    assert re.fullmatch(r"request mine: GET /jobs/\{job\}/runs by user:\S+ at 127\.0\.0\.1: 404 in [0-9.]+ ms", line)


# --- Refused calls ----------------------------------------------------------------------------------------------------


def test_refused_calls_are_logged_and_counted_by_kind(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    reader = add(rest, Scope.READ)
    shown = {"X-Request-Id": "r1"}
    bad = "zs_0123456789ab_" + "0" * 64
    rest.get("/jobs/7", headers={**shown, "Authorization": f"Bearer {bad}"}, **ELSEWHERE)
    rest.post("/jobs", {}, headers={**shown, "Authorization": f"Bearer {reader}"}, **ELSEWHERE)
    rest.get("/runs/3/log", headers=shown, extras={PEER_UID: lambda: 4242})
    patterns = [
        r"\(bad_token\): request r1: GET /jobs/\{job\} by token 0123456789ab at 192\.0\.2\.7",
        r"\(scope\): request r1: POST /jobs by token:[0-9a-f]{12} at 192\.0\.2\.7",
        r"\(protected_mode\): request r1: GET /runs/\{run\}/log by user 4242 at 127\.0\.0\.1",
    ]
    for line, pattern in zip(caplog.messages, patterns, strict=True):
        assert re.fullmatch("call refused " + pattern, line), line
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    counts = rest.get("/stats").json["refused"]
    assert {kind: count for kind, count in counts.items() if count} == {"bad_token": 1, "protected_mode": 1, "scope": 1}


def test_too_many_attempts_are_a_kind_of_their_own(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(ATTEMPTS_MAX + 3):
        rest.get("/jobs", headers={"Authorization": "Bearer nothing"}, **ELSEWHERE)
    counts = rest.get("/stats").json["refused"]
    assert (counts["bad_token"], counts["too_many_attempts"]) == (ATTEMPTS_MAX, 3)
    assert "call refused (too_many_attempts): request " in caplog.text


def test_errors_about_the_content_are_not_refusals(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    for answer in (rest.post("/jobs", {}), rest.get("/jobs/9"), rest.get("/nothing"), rest.call("PUT", "/jobs")):
        assert 400 <= answer.status_code < 500
    assert caplog.messages == []
    assert set(rest.get("/stats").json["refused"].values()) == {0}


@pytest.mark.parametrize(
    ("method", "path", "shown"),
    [
        ("GET", "/tokens/zs_0123456789ab_SECRETSECRET", "GET /tokens/{token}"),
        ("GET", "/token/zs_0123456789ab_SECRETSECRET", "GET (unknown path)"),
        ("GET", "/" + "SECRET" * 5_000, "GET (unknown path)"),
        ("GET", "/\x1b[31m\nSECRET", "GET (unknown path)"),
        ("GET", "/jobs?token=SECRET", "GET /jobs"),
        ("GET", "/jobs/", "GET /jobs"),
        ("GET", "//jobs", "GET (unknown path)"),
        ("SECRET" * 100, "/jobs", "(unknown method) /jobs"),
    ],
)
def test_refusal_line_has_nothing_that_the_caller_may_have_written(
    rest: Rest, caplog: pytest.LogCaptureFixture, method: str, path: str, shown: str
) -> None:
    path, _, query = path.partition("?")
    headers = {"Authorization": "Bearer zs_0123456789ab_SECRETSECRET" + "x" * 9_000, "X-Request-Id": "SECRET SECRET"}
    env = testing.create_environ(query_string=query, headers=headers, host="h", remote_addr="192.0.2.7")
    env.update({"REQUEST_METHOD": method, "PATH_INFO": path, LOCAL_ADDRESS: "192.0.2.1"})
    rest.app(env, testing.StartResponseMock())
    (line,) = caplog.messages
    assert f": {shown} by " in line
    assert "SECRET" not in line
    assert len(line) < 200


def test_flood_of_refused_calls_makes_few_lines_and_is_counted(rest: Rest, caplog: pytest.LogCaptureFixture) -> None:
    begun_s = time.monotonic()
    for _ in range(500):
        rest.get("/jobs", **ELSEWHERE)
    most = 1 + (time.monotonic() - begun_s) * 1000 / LINE_INTERVAL_MS
    assert 1 <= len(caplog.messages) <= most
    assert rest.get("/stats").json["refused"]["protected_mode"] == 500


def test_flush_logs_the_end_of_each_kinds_burst(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    for _ in range(100):
        refusals.note("scope", "one", 50)
        refusals.note("bad_token", "two", 50)
    refusals.flush(50 + LINE_INTERVAL_MS - 1)
    assert caplog.messages == ["call refused (scope): one", "call refused (bad_token): two"]
    for _ in range(2):
        refusals.flush(50 + LINE_INTERVAL_MS)
    assert caplog.messages[2:] == [
        "call refused (scope): one (99 times since the last such line)",
        "call refused (bad_token): two (99 times since the last such line)",
    ]


def raised_codes() -> set[str]:
    """The codes of 401 and 403 that the sources raise: by a Problem, a class of refusals, or a subclass of it."""
    codes = set()
    for folder in ("api", "scheduler/dispatcher"):
        for path in sorted((ROOT / "zsched" / folder).glob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            refusing = {"ForbiddenError", "BadTokenError"}
            classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
            in_classes = [
                node for one in classes if refusing & {one.name, *map(ast.unparse, one.bases)} for node in ast.walk(one)
            ]
            for node in ast.walk(tree):
                match node:
                    case ast.Call(ast.Name("Problem"), [ast.Constant(401 | 403), ast.Constant(str(code)), *_]):
                        codes.add(code)
                    case ast.Call(ast.Name(name), [ast.Constant(str(code)), *_]) if name in refusing:
                        codes.add(code)
                    case ast.Call(ast.Attribute(attr="__init__"), [ast.Constant(str(code)), *_]) if node in in_classes:
                        codes.add(code)
    return codes


def test_all_kinds_of_refused_calls_are_counted_from_the_start() -> None:
    raised = raised_codes()
    assert {"bad_token", "not_owner", "scope"} <= raised
    assert set(Refusals().counts()) == raised | {"too_many_attempts"}


def test_documented_refusals_are_those_that_are_counted() -> None:
    rows = re.findall(r"^\| (?:401|403) \| (.*?) \|", (ROOT / "docs/rest.md").read_text("utf-8"), re.MULTILINE)
    assert {*re.findall(r"`(\w+)`", " ".join(rows)), "too_many_attempts"} == set(Refusals().counts())


# --- Behind a proxy ---------------------------------------------------------------------------------------------------


def test_event_of_a_forwarded_call_has_the_callers_address(behind: Rest) -> None:
    headers = {"Authorization": f"Bearer {add(behind, Scope.SUBMIT)}", "X-Forwarded-For": "203.0.113.9"}
    answer = behind.post("/jobs", {"name": "j", "command": "true"}, headers=headers, **PROXY)
    assert answer.status_code == 201, answer.text
    actors = [event.get("actor") for event in behind.get("/events").json if event.get("job_id") == answer.json["id"]]
    assert actors[0].endswith(" at 203.0.113.9"), actors


def test_forged_address_of_a_peer_that_is_not_a_proxy_is_ignored(behind: Rest) -> None:
    headers = {"Authorization": f"Bearer {add(behind, Scope.SUBMIT)}", "X-Forwarded-For": "203.0.113.9"}
    answer = behind.post("/jobs", {"name": "j", "command": "true"}, headers=headers, **ELSEWHERE)
    actors = [event.get("actor") for event in behind.get("/events").json if event.get("job_id") == answer.json["id"]]
    assert actors[0].endswith(" at 192.0.2.7"), actors


def test_forwarded_call_is_never_a_local_one(behind: Rest, caplog: pytest.LogCaptureFixture) -> None:
    for address in ("127.0.0.1", "203.0.113.9", "::1", ""):
        answer = behind.get("/jobs", headers={"X-Forwarded-For": address})
        assert (answer.status_code, answer.json["code"]) == (403, "protected_mode")
    assert "by 127.0.0.1" in caplog.text
    # Nor does a proxy's address make a caller on another host a local one.
    extras = {LOCAL_ADDRESS: "192.0.2.1"}
    assert behind.get("/jobs", remote_addr="192.0.2.7", extras=extras).status_code == 403


def test_bad_tokens_count_for_the_caller_behind_the_proxy(behind: Rest, caplog: pytest.LogCaptureFixture) -> None:
    def status(address: str) -> int:
        headers = {"Authorization": "Bearer nothing", "X-Forwarded-For": address}
        return behind.get("/jobs", headers=headers, **PROXY).status_code

    assert [status("203.0.113.9") for _ in range(ATTEMPTS_MAX + 1)] == [401] * ATTEMPTS_MAX + [429]
    assert status("203.0.113.10") == 401
    # A caller who writes addresses of its own in front of what the proxy appends is still the same one.
    assert status("198.51.100.7, 203.0.113.9") == 429
    assert "by 203.0.113.9 through 127.0.0.1" in caplog.text
