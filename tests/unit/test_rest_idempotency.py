"""Submits with an Idempotency-Key over REST: what is the same request, whose key it is, and what is answered."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from falcon import testing

from tests.unit.rest import Rest, problem
from zsched.api.idempotency import HEADER
from zsched.model.limits import IDEMPOTENCY_KEY_CHARS_MAX

JOB = {"name": "j", "command": "true"}
MOST = IDEMPOTENCY_KEY_CHARS_MAX


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def post(rest: Rest, key: str, value: object = JOB, path: str = "/jobs", **more: Any) -> testing.Result:
    headers = {HEADER: key, **more.pop("headers", {})}
    return rest.post(path, value, headers=headers, **more)


def count(rest: Rest) -> int:
    return len(rest.get("/jobs").json)


def replayed(answer: testing.Result) -> bool:
    assert answer.status_code == 201, answer.text
    assert answer.headers.get("Idempotency-Replayed") in (None, "true")
    return "Idempotency-Replayed" in answer.headers


def test_the_same_again_is_answered_with_the_job_as_it_is_now(rest: Rest) -> None:
    first = post(rest, "k")
    assert not replayed(first)
    again = post(rest, "k")
    assert replayed(again)
    assert (again.json, again.headers["Location"]) == (first.json, "/jobs/1")

    rest.register("w1")
    rest.take("w1")
    rest.report(1, "w1", "success")
    later = post(rest, "k")
    assert replayed(later)
    assert (later.json["id"], later.json["status"]) == (1, "success")
    assert count(rest) == 1


def test_an_array_is_answered_as_an_array_in_its_order(rest: Rest) -> None:
    asked = [{**JOB, "name": name} for name in "abc"]
    first = post(rest, "k", asked)
    rest.submit()
    again = post(rest, "k", asked)
    assert replayed(again)
    assert again.json == first.json
    assert [job["name"] for job in again.json] == ["a", "b", "c"]
    assert "Location" not in again.headers
    # An array of one is an array.
    assert post(rest, "l", [JOB]).json == post(rest, "l", [JOB]).json == rest.get("/jobs?limit=1").json
    assert count(rest) == 5


def test_without_a_key_each_submit_is_a_new_one(rest: Rest) -> None:
    assert [replayed(rest.post("/jobs", JOB)) for _ in range(2)] == [False, False]
    assert count(rest) == 2


def test_another_body_with_the_key_is_422_and_stores_nothing(rest: Rest) -> None:
    post(rest, "k")
    for other in ({**JOB, "name": "other"}, [JOB], {"command": "true", "name": "j"}):
        problem(
            post(rest, "k", other),
            422,
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request: send the same one, or a new key with this one",
        )
    # Byte for byte, not value for value.
    assert post(rest, "k", body=json.dumps(JOB, indent=1)).status_code == 422
    assert post(rest, "k").json["id"] == 1
    assert count(rest) == 1


def test_a_slash_at_the_end_and_another_content_type_are_the_same_request(rest: Rest) -> None:
    post(rest, "k")
    assert replayed(post(rest, "k", path="/jobs/"))
    assert replayed(post(rest, "k", body=json.dumps(JOB), headers={"Content-Type": "text/plain"}))


@pytest.mark.parametrize(
    "key",
    ["k", "8e03978e-40d5-43dd-bc93-6894a57f9324", "a b", 'a"b', "~!#$", "k" * MOST, r"a\b"],
)
def test_a_bare_key_is_the_same_as_the_quoted_one(rest: Rest, key: str) -> None:
    post(rest, key)
    escaped = key.replace("\\", r"\\").replace('"', r"\"")
    assert replayed(post(rest, f'"{escaped}"'))
    assert not replayed(post(rest, f'"{escaped[1:]}l"'))


def test_a_quoted_key_may_have_all_that_is_printable(rest: Rest) -> None:
    for key in (r'"a, b"', r'"\"a\\"', r'" a"', f'"{"k" * MOST}"', rf'"{chr(92) * 2 * MOST}"'):
        assert not replayed(post(rest, key))
        assert replayed(post(rest, key))


@pytest.mark.parametrize(
    "key",
    [
        "",
        " ",
        '""',
        '"',
        '"a',
        '"a"b"',
        r'"a\b"',
        '"a";x=1',
        '"a", "b"',
        "a,b",
        "schlüssel",
        '"ü"',
        "a\tb",
        "k" * (MOST + 1),
        f'"{"k" * (MOST + 1)}"',
    ],
)
def test_invalid_key_is_400_and_names_the_header_and_the_remedy(rest: Rest, key: str) -> None:
    remedy = (
        "one key of 1 to 255 printable ASCII characters, such as a UUID, new for each request that is to be done; in"
        " double quotes when it has a comma or begins with a quote"
    )
    problem(post(rest, key), 400, "invalid_request", f"Idempotency-Key: {remedy}", (HEADER, remedy))
    assert count(rest) == 0


def test_a_refused_submit_does_not_use_its_key_up(rest: Rest) -> None:
    assert post(rest, "k", {"name": "j"}).status_code == 400
    assert not replayed(post(rest, "k"))


def test_a_token_has_keys_of_its_own_from_wherever_it_calls(rest: Rest) -> None:
    tokens = [rest.post("/tokens", {"scopes": ["submit"]}).json["token"] for _ in range(2)]
    callers = [{}, *({"Authorization": f"Bearer {token}"} for token in tokens)]
    for _ in range(2):
        assert [post(rest, "k", headers=headers).json["id"] for headers in callers] == [1, 2, 3]
    away = post(rest, "k", headers=callers[1], remote_addr="192.0.2.1", host="zsched.example")
    assert away.json["id"] == 2
    # What is another request for one caller is none for the next.
    assert not replayed(post(rest, "l", {**JOB, "name": "of ann"}, headers=callers[1]))
    assert not replayed(post(rest, "l", {**JOB, "name": "of bob"}, headers=callers[2]))


def test_caller_without_the_submit_scope_may_not_ask_by_a_key(rest: Rest) -> None:
    post(rest, "k")
    token = rest.post("/tokens", {"scopes": ["read"]}).json["token"]
    assert post(rest, "k", headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_of_fifty_at_once_one_is_done(rest: Rest) -> None:
    together = threading.Barrier(50)
    answers: list[testing.Result] = []

    def submit() -> None:
        together.wait(20)
        answers.append(post(rest, "k"))

    threads = [threading.Thread(target=submit) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.json["id"] for answer in answers] == [1] * 50
    assert sum(not replayed(answer) for answer in answers) == 1
    assert count(rest) == 1


def test_a_full_scheduler_answers_what_it_has_done_and_takes_nothing_new(tmp_path: Path) -> None:
    with Rest(tmp_path, pending_max=2) as rest:
        asked = [JOB, JOB]
        post(rest, "k", asked)
        assert replayed(post(rest, "k", asked))
        assert post(rest, "k", JOB).status_code == 422
        for headers in ({}, {HEADER: "l"}):
            answer = rest.post("/jobs", JOB, headers=headers)
            assert (answer.status_code, answer.json["code"]) == (429, "too_many_pending")
            # Before anything of the body is looked at.
            assert rest.post("/jobs", body=b"{", headers=headers).status_code == 429
        rest.post("/jobs/1/cancel")
        # What was refused for want of room is done when there is some.
        assert not replayed(post(rest, "l", JOB))


def test_more_jobs_than_may_ever_be_pending_are_refused_for_good(tmp_path: Path) -> None:
    with Rest(tmp_path, pending_max=2) as rest:
        answer = rest.post("/jobs", [JOB] * 3)
        assert (answer.status_code, answer.json["code"]) == (413, "too_many")
        assert answer.json["error"] == "3 jobs at once, and at most 2 runs may be pending: submit fewer"
        assert rest.post("/jobs", [JOB] * 2).status_code == 201


def test_jobs_that_are_not_kept_any_more_are_410_and_not_done_again(rest: Rest, tmp_path: Path) -> None:
    post(rest, "k", [JOB, JOB, JOB])
    # By hand: nothing deletes a job yet.
    connection = apsw.Connection(str(tmp_path / "scheduler.db"))
    connection.set_busy_timeout(5_000)
    connection.execute("PRAGMA foreign_keys = 0; DELETE FROM jobs WHERE job_id = 2")
    connection.close()
    for _ in range(2):
        sentence = "What this Idempotency-Key has submitted was done, and is not kept any more"
        problem(post(rest, "k", [JOB, JOB, JOB]), 410, "purged", sentence)
    assert count(rest) == 2


def test_of_a_key_only_its_digest_is_kept(rest: Rest, tmp_path: Path) -> None:
    post(rest, "a-key-that-is-mine")
    path = tmp_path / "scheduler.db"
    stored = b"".join(file.read_bytes() for file in tmp_path.glob(f"{path.name}*"))
    assert b"a-key-that-is-mine" not in stored
    with apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        [row] = connection.execute("SELECT caller, length(idem_key), length(digest) FROM idempotency")
    assert row[0].startswith("user ")
    assert row[1:] == (32, 32)
