"""POST /jobs as lines of JSON: one array with a task for each line, stored as a whole, once, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from falcon import testing

from tests.unit.rest import Rest, problem
from zsched.api.idempotency import HEADER

JOB = {"name": "j", "command": 'cat "$ZSCHED_ENTRY"'}


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def post(rest: Rest, *lines: object, key: str | None = None, media: str = "application/x-ndjson") -> testing.Result:
    body = "".join(f"{json.dumps(line)}\n" for line in lines)
    headers = {"Content-Type": media} | ({} if key is None else {HEADER: key})
    return rest.post("/jobs", body=body, headers=headers)


def test_each_line_after_the_job_is_the_entry_of_a_task(rest: Rest) -> None:
    made = post(rest, JOB | {"array": "%2"}, "a b", {"x": [1, 2.5]}, "", media="Application/X-NDJSON; charset=utf-8")
    assert (made.status_code, made.headers["Location"]) == (201, "/jobs/1")
    assert (made.json["array"], made.json["entries"], made.json["tasks"]["total"]) == ("0-2%2", 3, 3)
    tasks = rest.get("/jobs/1/tasks").json
    assert [(task["task"], task["entry"]) for task in tasks] == [(0, "a b"), (1, '{"x":[1,2.5]}'), (2, "")]
    # The same as a body of JSON.
    other = rest.post("/jobs", JOB | {"array": "%2", "each": ["a b", {"x": [1, 2.5]}, ""]})
    assert other.json | {"id": 1} | {name: made.json[name] for name in ("created_at", "updated_at")} == made.json
    assert [task["entry"] for task in rest.get("/jobs/2/tasks").json] == [task["entry"] for task in tasks]


def test_lines_with_the_same_key_are_stored_once(rest: Rest) -> None:
    first = post(rest, JOB, "a", key="k")
    again = post(rest, JOB, "a", key="k")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.json == first.json
    assert post(rest, JOB, "b", key="k").status_code == 422
    assert len(rest.get("/jobs").json) == 1


def test_what_is_wrong_with_lines_is_named_and_nothing_is_stored(rest: Rest) -> None:
    twice = "in a body of lines, the entries are the lines after the first: leave each out"
    problem(post(rest, JOB | {"each": ["a"]}, "b"), 400, "invalid_request", f"each: {twice}", ("#/each", twice))
    # The job is looked at before the other lines have come.
    assert post(rest, JOB | {"queu": 1}, "a\0").json["error"] == "queu: unknown field"
    answer = post(rest, JOB, "a", "b\0")
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "#/each/1")
    assert answer.json["error"].startswith("line 3: a NUL character")
    answer = rest.post("/jobs", body=json.dumps(JOB) + '\n"a"\nb\n', headers={"Content-Type": "application/x-ndjson"})
    assert answer.json["errors"][0]["pointer"] == "#/each/1"
    other = post(rest, JOB, "a", media="application/json").json["error"]
    assert other.endswith("; lines of JSON have the Content-Type application/x-ndjson")
    assert post(rest, JOB | {"timeout": "x"}, "a").json["errors"][0]["pointer"] == "#/timeout"
    assert post(rest, JOB | {"array": "0-3"}, "a").status_code == 400
    assert post(rest, JOB | {"schedule": "* * * * *"}, "a").status_code == 400
    assert rest.get("/jobs").json == []
