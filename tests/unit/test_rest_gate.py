"""Who is served without a token: programs on this very host, and nobody else, on every path and with every method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from falcon import testing

from tests.unit.rest import Rest, problem
from zsched.api.gate import LOCAL_ADDRESS

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
PATHS = [
    "/jobs",
    "/jobs/",
    "/jobs/1",
    "/jobs/1/runs",
    "/jobs/1/cancel",
    "/jobs/1/log",
    "/runs/1",
    "/runs/1/log",
    "/workers",
    "/workers/register",
    "/workers/heartbeat",
    "/workers/enrol",
    "/workers/w1",
    "/workers/w1/next",
    "/stats",
    "/version",
    "/tokens",
    "/tokens/1",
    "/access",
    "/access/w1",
    "/events",
    "/openapi.json",
    "/",
    "/nothing",
    "/healthz/x",
    "//healthz",
]
REMEDY = (
    "Without a token call http://localhost on the scheduler's host, for example through"
    " `ssh -L 8080:localhost:8080 HOST`; or run `zsched token add --scope submit` as the scheduler's user, and send"
    " that token as `Authorization: Bearer TOKEN` or set ZSCHED_TOKEN"
)
OTHER_HOST = "The call comes from another host"
OTHER_NAME = "The Host header is not localhost, 127.0.0.1 or [::1]"
OTHER_SITE = "The call comes from another site's page"
PROXY = "The call was forwarded by a proxy"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        started.submit()
        started.register("w1")
        yield started


def header(name: str, value: str) -> dict[str, Any]:
    return {"headers": {name: value}}


def ask(rest: Rest, method: str, path: str, **caller: Any) -> testing.Result:
    body = b'{"name": "j", "command": "true", "worker_id": "w1"}' if method in ("POST", "PUT", "PATCH") else b""
    return rest.call(method, path, body=body, **caller)


FOREIGN: dict[str, tuple[dict[str, Any], str]] = {
    "a peer elsewhere": ({"remote_addr": "192.0.2.7"}, OTHER_HOST),
    "a peer elsewhere, IPv6": ({"remote_addr": "2001:db8::7"}, OTHER_HOST),
    "a peer that is none": ({"remote_addr": ""}, OTHER_HOST),
    "this host by its own address": ({"extras": {LOCAL_ADDRESS: "192.0.2.2"}}, OTHER_HOST),
    "no local address": ({"extras": {LOCAL_ADDRESS: ""}}, OTHER_HOST),
    "every address": ({"remote_addr": "0.0.0.0"}, OTHER_HOST),
    "a foreign Host": ({"host": "example.com"}, OTHER_NAME),
    "a foreign Host that resolves here": ({"host": "localhost.example.com"}, OTHER_NAME),
    "a foreign Host that begins well": ({"host": "127.0.0.1.example.com"}, OTHER_NAME),
    "a Host with a foreign port": (header("Host", "example.com:8080"), OTHER_NAME),
    "a Host by its address": ({"host": "192.0.2.2"}, OTHER_NAME),
    "a Host with a user": (header("Host", "localhost@example.com"), OTHER_NAME),
    "two Hosts": (header("Host", "localhost, example.com"), OTHER_NAME),
    "an empty Host": (header("Host", ""), OTHER_NAME),
    "a foreign Origin": (header("Origin", "http://example.com"), f"{OTHER_SITE} (Origin)"),
    "an Origin that hides itself": (header("Origin", "null"), f"{OTHER_SITE} (Origin)"),
    "an Origin of another port": (header("Origin", "http://localhost:3000"), f"{OTHER_SITE} (Origin)"),
    "an Origin of another scheme": (header("Origin", "https://localhost"), f"{OTHER_SITE} (Origin)"),
    "an empty Origin": (header("Origin", ""), f"{OTHER_SITE} (Origin)"),
    "another site": (header("Sec-Fetch-Site", "cross-site"), f"{OTHER_SITE} (Sec-Fetch-Site)"),
    "a sister site": (header("Sec-Fetch-Site", "same-site"), f"{OTHER_SITE} (Sec-Fetch-Site)"),
    "Forwarded": (header("Forwarded", "for=127.0.0.1"), PROXY),
    "X-Forwarded-For": (header("X-Forwarded-For", "127.0.0.1"), PROXY),
    "X-Forwarded-Host": (header("X-Forwarded-Host", "localhost"), PROXY),
    "X-Forwarded-Proto": (header("X-Forwarded-Proto", "http"), PROXY),
    "X-Forwarded-Port": (header("X-Forwarded-Port", "80"), PROXY),
    "X-Forwarded": (header("X-Forwarded", "for=127.0.0.1"), PROXY),
    "X-Real-IP": (header("X-Real-IP", "127.0.0.1"), PROXY),
    "Via": (header("Via", "1.1 proxy"), PROXY),
    **{
        name: (header(name, "127.0.0.1"), PROXY)
        for name in (
            "CF-Connecting-IP",
            "CF-Ray",
            "CDN-Loop",
            "Client-IP",
            "Fastly-Client-IP",
            "Fly-Client-IP",
            "Proxy-Client-IP",
            "Tailscale-User-Login",
            "True-Client-IP",
            "WL-Proxy-Client-IP",
            "X-Amzn-Trace-Id",
            "X-Azure-ClientIP",
            "X-Client-IP",
            "X-Cluster-Client-IP",
            "X-Envoy-External-Address",
            "X-Original-Forwarded-For",
        )
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("case", FOREIGN)
def test_caller_that_is_not_local_is_refused_everywhere_and_stores_nothing(rest: Rest, case: str) -> None:
    caller, why = FOREIGN[case]
    before = [rest.get(path).text for path in ("/jobs", "/jobs/1", "/workers/w1")]
    for path in PATHS:
        for method in METHODS:
            answer = ask(rest, method, path, **caller)
            assert answer.status_code == 403, f"{method} {path}"
            if method != "HEAD":
                problem(answer, 403, "protected_mode", f"{why}. {REMEDY}")
            assert not any(name.lower().startswith("access-control-") for name in answer.headers)
    assert [rest.get(path).text for path in ("/jobs", "/jobs/1", "/workers/w1")] == before


def test_health_is_for_everybody_and_says_one_word(rest: Rest) -> None:
    for caller, _ in FOREIGN.values():
        for path, word in (("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/healthz/", "ok\n")):
            answer = ask(rest, "GET", path, **caller)
            assert (answer.status_code, answer.text) == (200, word)
            assert ask(rest, "HEAD", path, **caller).status_code == 200
            assert ask(rest, "POST", path, **caller).status_code == 405


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LocalHost"])
@pytest.mark.parametrize("port", ["", ":8080", ":1"])
def test_every_local_name_is_served_with_any_port(rest: Rest, host: str, port: str) -> None:
    """With any, because a tunnel's end has another than ours."""
    assert rest.get("/jobs", headers={"Host": host + port}).status_code == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_every_loopback_address_is_local(rest: Rest, address: str) -> None:
    assert rest.get("/jobs", remote_addr=address, extras={LOCAL_ADDRESS: address}).status_code == 200


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "localhost"])
@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_our_own_page_is_served(rest: Rest, host: str, site: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": site}
    assert rest.post("/jobs", {"name": "j", "command": "true"}, headers=headers).status_code == 201


def test_no_answer_invites_another_site(rest: Rest) -> None:
    headers = {"Origin": "http://localhost", "Access-Control-Request-Method": "POST"}
    for path in (*PATHS, "/healthz", "/readyz"):
        for method in METHODS:
            answer = rest.call(method, path, headers=headers)
            assert not any(name.lower().startswith("access-control-") for name in answer.headers)
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
