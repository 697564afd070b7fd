"""Callers with a token: what each scope may do, what is no token, and what a token does not excuse."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from tests.unit.rest import ME, Rest, problem
from tests.unit.test_rest_methods import real
from zsched.api.app import ACT, ROUTES
from zsched.api.gate import LOCAL_ADDRESS, PEER_UID, Trust
from zsched.model.access import Scope, Token
from zsched.model.limits import ATTEMPTS_MAX
from zsched.scheduler.dispatcher.commands import AddToken
from zsched.security import tokens
from zsched.security.keys import new_pair

DOCUMENT = Path(__file__).parents[2] / "docs" / "rest.md"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
ELSEWHERE: dict[str, Any] = {
    "remote_addr": "192.0.2.7",
    "host": "zsched.example",
    "extras": {LOCAL_ADDRESS: "192.0.2.1"},
}
BAD = "This token is not known, has expired or was revoked; `zsched token list` shows those that there are"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        started.submit()
        started.register("w1")
        yield started


@pytest.fixture(scope="module")
def holders(rest: Rest) -> dict[Scope, str]:
    """A token of each scope alone."""
    return {scope: add(rest, scope) for scope in Scope}


def add(rest: Rest, *scopes: Scope, life_ms: int | None = None, slots_max: int | None = None) -> str:
    shown = tokens.new()
    token = Token(
        token_id=shown.token_id,
        digest=shown.digest,
        scopes=frozenset(scopes),
        note="",
        created_ms=1,
        created_by="test",
        slots_max=slots_max,
    )
    rest.inbox.call(AddToken(token, life_ms))
    return shown.text


_others = count(1)


def elsewhere() -> dict[str, Any]:
    """A caller on another host, whose bad tokens count for nobody else."""
    return {**ELSEWHERE, "remote_addr": f"2001:db8::{next(_others):x}"}


def ask(rest: Rest, method: str, path: str, header: str | None, **caller: Any) -> testing.Result:
    body = b"{}" if method in ("POST", "PUT", "PATCH") else b""
    headers = {} if header is None else {"Authorization": header}
    return rest.call(method, path, body=body, headers=headers | caller.pop("headers", {}), **caller)


# --- scopes ----------------------------------------------------------------------------------------------------------


def table() -> str:
    """Who may do what, as docs/rest.md has it."""
    lines = [f"| path | {' | '.join(f'`{scope}`' for scope in Scope)} |", "|" + "---|" * (1 + len(Scope))]
    for path, _, needs in ROUTES:
        cells = [" ".join(method for method, scopes in needs.items() if column in scopes) for column in Scope]
        if not needs:
            cells = ["anybody", *[""] * (len(Scope) - 1)]
        named = re.sub(r"\{\w+\}", "{id}", path).replace("{path:path}", "{path}")
        lines.append(" | ".join((f"| `{named}`", *cells)) + " |")
    return "\n".join(line.replace("|  ", "| ") for line in lines)


def test_openapi_document_states_the_scope_of_each_operation() -> None:
    assert table() in DOCUMENT.read_text("utf-8")


@pytest.mark.parametrize("path", [path for path, _, _ in ROUTES])
def test_each_scope_does_what_is_its_own_and_nothing_else(rest: Rest, holders: dict[Scope, str], path: str) -> None:
    needs = next(needs for route, _, needs in ROUTES if route == path)
    for method in METHODS:
        needed = needs.get("GET" if method == "HEAD" else method)
        for scope, text in holders.items():
            for caller in ({}, ELSEWHERE):
                answer = ask(rest, method, real(path), f"Bearer {text}", **caller)
                where = f"{method} {path} by {scope}: {answer.status_code} {answer.text}"
                if needed is not None and scope not in (*needed, Scope.ADMIN) and answer.status_code != 405:
                    assert answer.status_code == 403, where
                    if method != "HEAD":
                        named = path.replace(":path}", "}")
                        detail = f"{method} {named} needs the scope {' or '.join(needed)}; this token has {scope}"
                        problem(answer, 403, "scope", detail)
                    told = f'Bearer error="insufficient_scope", scope="{needed[0]}"'
                    assert answer.headers["WWW-Authenticate"] == told
                elif (needed, scope) == (ACT, Scope.SUBMIT) and method != "PATCH" and "{job}" in path:
                    assert answer.json["code"] == "not_owner", where
                else:
                    assert answer.status_code not in (401, 403, 429, 500), where
                    # And nobody does what is not offered.
                    assert needed is not None or answer.status_code in (200, 405), where


def test_no_method_of_a_handler_is_without_a_scope(rest: Rest) -> None:
    """A method that somebody adds and forgets to name would be open to every token."""
    for path, handler, needs in ROUTES:
        if not needs:
            assert path in ("/healthz", "/readyz")
            continue
        made = handler(rest.context)
        found = {name.removeprefix("on_").upper() for name in dir(made) if name.startswith("on_")} - {"HEAD"}
        assert found == set(needs), path


def test_several_scopes_together_do_what_each_does(rest: Rest) -> None:
    text = add(rest, Scope.READ, Scope.SUBMIT)
    job = {"name": "j", "command": "true"}
    headers = {"Authorization": f"Bearer {text}"}
    made = rest.post("/jobs", job, headers=headers, **elsewhere())
    assert made.status_code == 201
    assert rest.get(f"/jobs/{made.json['id']}", headers=headers, **elsewhere()).status_code == 200
    assert ask(rest, "GET", "/tokens", f"Bearer {text}").json["code"] == "scope"


def test_a_refusal_for_want_of_a_scope_changes_nothing_and_never_counts(rest: Rest) -> None:
    text = add(rest, Scope.READ)
    caller = elsewhere()
    before = rest.get("/jobs").text, rest.get("/tokens").text, rest.get("/events").text
    for _ in range(5 * ATTEMPTS_MAX):
        answer = rest.post(
            "/jobs", {"name": "j", "command": "x"}, headers={"Authorization": f"Bearer {text}"}, **caller
        )
        assert answer.status_code == 403
    assert (rest.get("/jobs").text, rest.get("/tokens").text, rest.get("/events").text) == before
    # Nor does a call without any token.
    for _ in range(5 * ATTEMPTS_MAX):
        assert rest.get("/jobs", **caller).status_code == 403
    assert ask(rest, "GET", "/jobs", "Bearer x", **caller).status_code == 401


# --- what is no token ------------------------------------------------------------------------------------------------


ODD: dict[str, str] = {
    "nothing": "",
    "the scheme alone": "Bearer",
    "a space": "Bearer ",
    "no scheme": "{text}",
    "another scheme": "Basic {text}",
    "a scheme of ours": "Token {text}",
    "two tokens": "Bearer {text}, Bearer {text}",
    "a comma": "Bearer {text},",
    "quotes": 'Bearer "{text}"',
    "a parameter": "Bearer token={text}",
    "a tab": "Bearer\t{text}",
    "the id alone": "Bearer {id}",
    "truncated": "Bearer {cut}",
    "in capitals": "Bearer {upper}",
    "a wrong secret": "Bearer {wrong}",
    "an unknown id": "Bearer {unknown}",
    "a NUL": "Bearer {text}\0",
    "long": "Bearer " + "0" * 8_000,
    "not ASCII": "Bearer zs_\u00e9",
}


@pytest.mark.parametrize("case", ODD)
def test_invalid_token_is_401_for_every_caller(rest: Rest, case: str) -> None:
    """Also for a local caller: who shows a bad one believes that it matters."""
    text = add(rest, Scope.ADMIN)
    facts = {
        "text": text,
        "id": text.split("_")[1],
        "cut": text[:-1],
        "upper": text.upper(),
        "wrong": text[:-4] + ("0000" if text[-4:] != "0000" else "1111"),
        "unknown": tokens.new().text,
    }
    header = ODD[case].format(**facts)
    local = {"remote_addr": f"127.1.2.{list(ODD).index(case) + 1}"}
    for caller in (local, elsewhere()):
        answer = ask(rest, "GET", "/jobs", header, **caller)
        problem(answer, 401, "bad_token", BAD)
        assert answer.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        assert text not in answer.text
        made = rest.post("/jobs", {"name": "j", "command": "x"}, headers={"Authorization": header}, **caller)
        assert made.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
def test_a_good_one_is_served_however_its_scheme_is_written(rest: Rest, scheme: str) -> None:
    text = add(rest, Scope.READ)
    assert ask(rest, "GET", "/jobs", f"{scheme} {text}", **elsewhere()).status_code == 200


def test_every_answer_to_a_bad_token_is_the_same(rest: Rest) -> None:
    """Which ids there are, and what has become of them, is nobody's business."""
    revoked, expired, good = add(rest, Scope.READ), add(rest, Scope.READ, life_ms=0), add(rest, Scope.READ)
    assert rest.call("DELETE", f"/tokens/{revoked.split('_')[1]}").status_code == 200
    caller, told = elsewhere(), set()
    for text in (revoked, expired, good[:-1], good[:-1] + ("0" if good[-1] != "0" else "1"), tokens.new().text, "x"):
        answer = ask(rest, "GET", "/jobs", f"Bearer {text}", **caller)
        body = answer.json
        headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        del body["request_id"]
        told.add((answer.status_code, str(body), str(sorted(headers.items()))))
    assert len(told) == 1
    assert ask(rest, "GET", "/jobs", f"Bearer {good}", **caller).status_code == 200


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "Authorization"])
def test_token_in_an_address_or_a_cookie_is_ignored(rest: Rest, holders: dict[Scope, str], name: str) -> None:
    text = holders[Scope.ADMIN]
    for value in (text, f"Bearer {text}"):
        answer = ask(rest, "GET", "/jobs", None, params={name: value}, **elsewhere())
        assert (answer.status_code, answer.json["code"]) == (403, "protected_mode")
        for other in ("Cookie", "X-Authorization", "Proxy-Authorization", "X-Token"):
            answer = ask(rest, "GET", "/jobs", None, headers={other: f"{name}={value}"}, **elsewhere())
            assert (answer.status_code, answer.json["code"]) == (403, "protected_mode")
    answer = ask(rest, "GET", f"/{text}/jobs", None, **elsewhere())
    assert (answer.status_code, answer.json["code"]) == (403, "protected_mode")


def test_the_health_needs_no_token_and_a_bad_one_does_not_matter(rest: Rest) -> None:
    for header in (None, "Bearer x"):
        for path in ("/healthz", "/readyz"):
            answer = ask(rest, "GET", path, header, **elsewhere())
            assert (answer.status_code, len(answer.text.split())) == (200, 1)


# --- guessing --------------------------------------------------------------------------------------------------------


def test_address_with_ten_bad_tokens_a_minute_gets_429_but_good_ones_pass(
    rest: Rest, holders: dict[Scope, str]
) -> None:
    caller, told = elsewhere(), []
    for _ in range(ATTEMPTS_MAX + 15):
        answer = ask(rest, "GET", "/jobs", f"Bearer {tokens.new().text}", **caller)
        told.append(answer.status_code)
        assert ask(rest, "GET", "/jobs", f"Bearer {holders[Scope.READ]}", **caller).status_code == 200
    assert told == [401] * ATTEMPTS_MAX + [429] * 15
    assert (answer.json["code"], answer.headers["Retry-After"]) == ("too_many_attempts", "60")
    # Nobody else pays for it, and who was served without a token is so still.
    assert ask(rest, "GET", "/jobs", "Bearer x", **elsewhere()).status_code == 401
    assert rest.get("/jobs").status_code == 200
    assert rest.get("/jobs", **caller).status_code == 403


def test_the_count_holds_over_all_paths_and_methods(rest: Rest) -> None:
    caller = elsewhere()
    told = [
        ask(rest, method, path, "Bearer x", **caller).status_code for path in ("/jobs", "/no") for method in METHODS
    ]
    assert told == [401] * ATTEMPTS_MAX + [429] * (2 * len(METHODS) - ATTEMPTS_MAX)


# --- what a token does not excuse ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://zsched.example:1"},
        {"Origin": "ftp://zsched.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_sites_page_is_refused_whatever_it_shows(
    rest: Rest, holders: dict[Scope, str], headers: dict[str, str]
) -> None:
    for method in METHODS:
        answer = ask(rest, method, "/jobs", f"Bearer {holders[Scope.ADMIN]}", headers=headers, **elsewhere())
        assert answer.status_code == 403
        assert method == "HEAD" or answer.json["code"] == "protected_mode"
        assert not any(name.lower().startswith("access-control-") for name in answer.headers)


@pytest.mark.parametrize("origin", ["http://zsched.example", "https://zsched.example"])
def test_our_own_page_is_served_also_behind_tls(rest: Rest, holders: dict[Scope, str], origin: str) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    text = f"Bearer {holders[Scope.ADMIN]}"
    assert ask(rest, "GET", "/jobs", text, headers=headers, **elsewhere()).status_code == 200


@pytest.mark.parametrize(
    "host", ["", "a, b", "localhost, localhost", "a b", "a/b", "user@a", "a:b", "a:123456", "[::1", "::1", "\u00e9"]
)
def test_one_host_is_demanded_with_a_token_too(rest: Rest, holders: dict[Scope, str], host: str) -> None:
    answer = ask(
        rest, "GET", "/jobs", f"Bearer {holders[Scope.ADMIN]}", headers={"Host": host}, remote_addr="192.0.2.9"
    )
    problem(answer, 400, "invalid_request", "Host: one header with a host's name or address, and its port")


@pytest.mark.parametrize("host", ["zsched.example", "zsched.example:8080", "192.0.2.1:80", "[2001:db8::1]:8080", "a_b"])
def test_any_host_will_do_with_a_token(rest: Rest, holders: dict[Scope, str], host: str) -> None:
    headers = {"Host": host, "X-Forwarded-For": "192.0.2.9", "Via": "1.1 proxy"}
    answer = ask(rest, "GET", "/jobs", f"Bearer {holders[Scope.READ]}", headers=headers, remote_addr="192.0.2.9")
    assert answer.status_code == 200


def test_head_and_options_do_not_bypass_the_token(rest: Rest) -> None:
    for path, _, needs in ROUTES:
        for method in ("HEAD", "OPTIONS"):
            answer = ask(rest, method, real(path), None, **elsewhere())
            assert answer.status_code == (403 if needs else 200), path
            answer = ask(rest, method, real(path), "Bearer x", **elsewhere())
            assert answer.status_code == (401 if needs else 200), path


# --- who needs none --------------------------------------------------------------------------------------------------


def uid(number: int | None) -> dict[str, Any]:
    return {"extras": {PEER_UID: lambda: number}}


def test_another_user_of_this_host_is_not_served(rest: Rest) -> None:
    for number in (os.geteuid() + 1, 65_534, None):
        answer = rest.get("/jobs", **uid(number))
        assert answer.status_code == 403
        assert answer.json["code"] == "protected_mode"
        error = answer.json["error"]
        caller = "The user of this call is unknown" if number is None else f"User {number} needs a token"
        assert error.startswith(f"{caller}")
        assert ": run `zsched token add --scope submit` as the scheduler's user, " in error
        assert len(error) < 200
        assert error.endswith(f"; or add {number} to local_uids") == (number is not None)
        assert ("local_uids" in answer.text) is (number is not None)
        assert rest.get("/healthz", **uid(number)).status_code == 200
    for number in (0, os.geteuid()):
        assert rest.get("/jobs", **uid(number)).status_code == 200


def test_another_user_of_this_host_is_served_by_a_token(rest: Rest, holders: dict[Scope, str]) -> None:
    assert ask(rest, "GET", "/jobs", f"Bearer {holders[Scope.READ]}", **uid(65_534)).status_code == 200


def test_listed_users_are_served(tmp_path: Path) -> None:
    with Rest(tmp_path, trust=Trust(uids=frozenset({1_234}))) as rest:
        assert rest.get("/jobs", **uid(1_234)).status_code == 200
        assert rest.get("/jobs", **uid(0)).status_code == 200
        assert rest.get("/jobs", **uid(1_235)).status_code == 403
        assert rest.get("/jobs", **uid(None)).status_code == 403
        assert rest.get("/jobs", **{**uid(1_234), **ELSEWHERE}).status_code == 403


def test_local_any_serves_every_user_of_this_host_only(tmp_path: Path) -> None:
    with Rest(tmp_path, trust=Trust("any")) as rest:
        assert rest.get("/jobs", **uid(65_534)).status_code == 200
        assert rest.get("/jobs", **uid(None)).status_code == 200
        assert rest.get("/jobs", **ELSEWHERE).status_code == 403
        assert rest.get("/jobs", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 403
        assert rest.get("/jobs", headers={"Origin": "http://evil.example"}).status_code == 403
        assert ask(rest, "GET", "/jobs", "Bearer x").status_code == 401


def test_local_none_refuses_every_caller_without_a_token(tmp_path: Path) -> None:
    with Rest(tmp_path, trust=Trust("none")) as rest:
        text = add(rest, Scope.READ)
        for number in (0, os.geteuid()):
            answer = rest.get("/jobs", **uid(number))
            assert (answer.status_code, answer.json["code"]) == (403, "protected_mode")
            assert answer.text.count("Callers without a token are not served") == 2
        assert ask(rest, "GET", "/jobs", f"Bearer {text}").status_code == 200
        assert rest.get("/healthz").status_code == 200


def test_insecure_serves_all_but_other_sites_pages_and_bad_tokens(tmp_path: Path) -> None:
    with Rest(tmp_path, trust=Trust(insecure=True)) as rest:
        job = {"name": "j", "command": "true"}
        assert rest.post("/jobs", job, **ELSEWHERE).status_code == 201
        assert rest.get("/tokens", **uid(65_534)).status_code == 200
        assert rest.get("/jobs", headers={"X-Forwarded-For": "192.0.2.9"}, remote_addr="127.0.0.1").status_code == 200
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert rest.post("/jobs", job, headers=headers, **ELSEWHERE).status_code == 403
        assert ask(rest, "GET", "/jobs", "Bearer x", **ELSEWHERE).status_code == 401
        for host in ("a, b", ""):
            answer = rest.get("/jobs", headers={"Host": host}, remote_addr="192.0.2.9")
            assert answer.status_code == 400


# --- /tokens ---------------------------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_stored_without_its_secret(rest: Rest) -> None:
    answer = rest.post("/tokens", {"scopes": ["read", "submit"], "note": "for ann", "expires": "1d"})
    assert answer.status_code == 201
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.json["token"]
    _, token_id, secret = text.split("_")
    told = {name: answer.json[name] for name in ("id", "scopes", "note", "created_by")}
    me = f"{ME} at 127.0.0.1"
    assert told == {"id": token_id, "scopes": ["read", "submit"], "note": "for ann", "created_by": me}
    assert rest.get("/jobs", headers={"Authorization": f"Bearer {text}"}, **elsewhere()).status_code == 200
    for path in ("/tokens", "/events"):
        assert token_id in rest.get(path, params={"limit": "1000"} if path == "/events" else {}).text
        assert secret not in rest.get(path).text
    assert rest.call("DELETE", f"/tokens/{token_id}").json["revoked_at"]
    assert rest.get("/jobs", headers={"Authorization": f"Bearer {text}"}, **elsewhere()).status_code == 401
    assert rest.call("DELETE", f"/tokens/{token_id}").json["code"] == "unknown_token"
    assert rest.call("DELETE", "/tokens/nothing").json["code"] == "unknown_token"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": "admin"},
        {"scopes": ["read"] * 6},
        {"scopes": ["read"], "expires": "0s"},
        {"scopes": ["read"], "expires": "-1d"},
        {"scopes": ["read"], "expires": "100000d"},
        {"scopes": ["read"], "expires": "soon"},
        {"scopes": ["read"], "note": "x" * 201},
        {"scopes": ["read"], "secret": "mine"},
        {"scopes": ["read"], "id": "000000000000"},
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(rest: Rest, body: dict[str, Any]) -> None:
    before = rest.get("/tokens").text
    assert rest.post("/tokens", body).status_code == 400
    assert rest.get("/tokens").text == before


# --- enrolling -------------------------------------------------------------------------------------------------------


def test_whoever_enrols_brings_a_key_and_learns_the_schedulers(tmp_path: Path) -> None:
    server, mine, other = (new_pair().public for _ in range(3))
    with Rest(tmp_path, server_key=server) as rest:
        text = add(rest, Scope.WORKER)
        headers = {"Authorization": f"Bearer {text}"}
        told = rest.post("/workers/enrol", {"worker_id": "w1", "public_key": mine}, headers=headers, **elsewhere())
        assert told.json == {"endpoint": "tcp://127.0.0.1:5555", "db": rest.db, "server_key": server}
        assert rest.post("/workers/enrol", {"worker_id": "w1", "public_key": mine}).status_code == 200
        taken = rest.post("/workers/enrol", {"worker_id": "w2", "public_key": mine})
        assert (taken.status_code, taken.json["code"]) == (409, "key_taken")
        for key in ("", "x", "0" * 39, "#" * 40):
            assert rest.post("/workers/enrol", {"worker_id": "w1", "public_key": key}).status_code == 400
        (found,) = rest.get("/access").json
        assert (found["worker_id"], found["public_key"]) == ("w1", mine)
        # A new key for a name that nobody lives under takes the place of the old.
        assert rest.post("/workers/enrol", {"worker_id": "w1", "public_key": other}).status_code == 200
        gone = rest.post("/workers/enrol", {"worker_id": "w1", "public_key": mine})
        assert (gone.status_code, gone.json["code"]) == (409, "key_revoked")
        assert rest.call("DELETE", "/access/w1").json["public_key"] == other
        assert rest.call("DELETE", "/access/w1").json["code"] == "unknown_key"
        assert [key["public_key"] for key in rest.get("/access").json if "revoked_at" not in key] == []
