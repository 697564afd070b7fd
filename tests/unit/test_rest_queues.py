"""Queues over REST, and the fields of a job that say when it has its turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import ME, Rest, problem
from tests.unit.test_rest_owners import Holder


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


DEFAULT = {"name": "default", "paused": False, "pending": 0, "running": 0}


def test_fields_are_shown_where_they_are_not_the_usual_ones(rest: Rest) -> None:
    given: dict[str, Any] = {"priority": -7, "queue": "gpu", "labels": {"a": "b"}, "limits": {"db": 3}, "unique": "k"}
    job = rest.get(f"/jobs/{rest.submit(**given)}").json
    assert {name: job[name] for name in given} == given
    plain = rest.get(f"/jobs/{rest.submit(priority=0, queue='default', labels={}, limits={}, unique=None)}").json
    assert plain.keys().isdisjoint(given)


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("priority", 1_001, "#/priority"),
        ("priority", -1_001, "#/priority"),
        ("priority", 1.5, "#/priority"),
        ("queue", "", "#/queue"),
        ("queue", "*", "#/queue"),
        ("queue", "a b", "#/queue"),
        ("queue", "a" * 65, "#/queue"),
        ("labels", {"disk": ""}, "#/labels"),
        ("labels", {"a b": "c"}, "#/labels"),
        ("labels", {"disk": 1}, "#/labels"),
        ("labels", {f"k{n}": "v" for n in range(17)}, "#/labels"),
        ("limits", {"db": 0}, "#/limits"),
        ("limits", {"a b": 1}, "#/limits"),
        ("limits", {"": 1}, "#/limits"),
        ("limits", {f"k{n}": 1 for n in range(9)}, "#/limits"),
        ("limits", ["db"], "#/limits"),
        ("unique", "", "#/unique"),
        ("unique", "a b", "#/unique"),
    ],
)
def test_invalid_field_is_refused(rest: Rest, field: str, value: object, pointer: str) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", field: value})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"].startswith(pointer)


def test_unique_job_has_no_schedule(rest: Rest) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "schedule": "* * * * *", "unique": "k"})
    sentence = "not together with schedule: a recurring job has no end"
    problem(answer, 400, "invalid_request", f"unique: {sentence}", ("#/unique", sentence))


def test_unique_key_that_is_held_is_a_conflict_that_names_the_job(rest: Rest) -> None:
    first = rest.submit(unique="k")
    body = {"name": "j", "command": "true", "unique": "k"}
    answer = rest.post("/jobs", body)
    assert (answer.status_code, answer.json["code"], answer.json["existing"]) == (409, "unique", first)
    both = rest.post("/jobs", [{**body, "unique": "other"}, {**body, "unique": "other"}])
    assert (both.status_code, both.json["code"]) == (409, "unique")
    assert "existing" not in both.json
    # Repeated, the first submit is answered again.
    header = {"Idempotency-Key": '"1"'}
    made = rest.post("/jobs", {**body, "unique": "third"}, headers=header)
    again = rest.post("/jobs", {**body, "unique": "third"}, headers=header)
    assert (made.status_code, again.status_code, again.json["id"]) == (201, 201, made.json["id"])


def test_queue_is_paused_with_a_reason_and_resumed(rest: Rest) -> None:
    assert rest.get("/queues").json == [DEFAULT]
    rest.register("r1")
    job = rest.submit()
    paused = rest.post("/queues/default/pause", {"reason": "disk full"}).json
    assert paused.pop("paused_at")
    by = f"{ME} at 127.0.0.1"
    wanted = {**DEFAULT, "paused": True, "paused_by": by, "reason": "disk full", "pending": 1}
    assert paused == wanted
    assert rest.get("/workers/r1/next").json == {"job": None}
    why = {"code": "paused", "detail": "the queue default is paused: disk full"}
    assert rest.get(f"/jobs/{job}").json["why"] == why
    # Pausing it again changes nothing.
    again = rest.post("/queues/default/pause", {"reason": "another"}).json
    assert again["reason"] == "disk full"
    assert rest.post("/queues/default/resume").json == {**DEFAULT, "pending": 1}
    assert rest.take("r1")["id"] == job
    assert rest.get("/queues").json == [{**DEFAULT, "running": 1}]
    events = [(event["became"], event["detail"]) for event in rest.get("/events").json if "queue" in event["became"]]
    assert events == [("queue_paused", "default: disk full"), ("queue_resumed", "default")]


def test_pause_needs_no_body_and_takes_no_other_member(rest: Rest) -> None:
    assert rest.post("/queues/nightly/pause").json["paused"] is True
    assert "reason" not in rest.get("/queues").json[1]
    assert rest.post("/queues/nightly/pause", {"why": "x"}).status_code == 400
    assert rest.post("/queues/nightly/pause", {"reason": "x" * 257}).status_code == 400


@pytest.mark.parametrize("name", ["*", "a%20b", "-a", "a" * 65])
def test_name_that_no_queue_has_is_refused(rest: Rest, name: str) -> None:
    for answer in (rest.post(f"/queues/{name}/pause"), rest.call("PATCH", f"/queues/{name}", json={"fair": None})):
        assert answer.status_code == 400
        assert answer.json["errors"][0]["pointer"] == "queue"


def test_queue_is_shared_between_owners(rest: Rest) -> None:
    assert rest.call("PATCH", "/queues/q", json={"fair": "owner"}).json["fair"] == "owner"
    assert "fair" not in rest.call("PATCH", "/queues/q", json={"fair": None}).json
    for body in ({}, {"fair": "age"}, {"fair": "owner", "more": 1}):
        assert rest.call("PATCH", "/queues/q", json=body).status_code == 400


def test_queues_need_the_scope_operate(rest: Rest) -> None:
    reader, operator = Holder(rest), Holder(rest, "read", "operate")
    assert reader.call("GET", "/queues").status_code == 200
    for method, path, body in (
        ("POST", "/queues/q/pause", None),
        ("POST", "/queues/q/resume", None),
        ("PATCH", "/queues/q", {"fair": "owner"}),
    ):
        assert reader.call(method, path, body).status_code == 403
        assert operator.call(method, path, body).status_code == 200


def test_keys_of_a_token_are_its_own(rest: Rest) -> None:
    token, operator = Holder(rest), Holder(rest, "read", "submit", "operate")
    shared = rest.submit(unique="k", limits={"db": 1})
    own = token.submit(unique="k", limits={"db": 1})
    job = token.call("GET", f"/jobs/{own}").json
    assert (job["unique"], job["limits"]) == ("k", {"db": 1})
    body = {"name": "j", "command": "true", "unique": "k"}
    assert token.call("POST", "/jobs", body).json["existing"] == own
    assert operator.call("POST", "/jobs", body).json["existing"] == shared


def test_jobs_are_filtered_by_queue(rest: Rest) -> None:
    plain, gpu = rest.submit(), rest.submit(queue="gpu")
    assert [job["id"] for job in rest.get("/jobs?queue=gpu").json] == [gpu]
    assert [job["id"] for job in rest.get("/jobs?queue=default").json] == [plain]
    assert rest.get("/jobs?queue=none").json == []
    assert rest.get("/jobs?queue=").status_code == 400


def test_polling_worker_names_its_queues(rest: Rest) -> None:
    job = rest.submit(queue="gpu")
    assert "queues" not in rest.register("r1").json
    assert rest.register("r2", queues=["gpu", "x"]).json["queues"] == ["gpu", "x"]
    assert rest.get("/workers/r1/next").json == {"job": None}
    assert rest.take("r2")["id"] == job
    assert rest.register("r3", queues=["*"]).json["queues"] == ["*"]
    for queues in ([], ["a b"], ["q"] * 65, ["a*"]):
        assert rest.post("/workers/register", {"worker_id": "r4", "queues": queues}).status_code == 400


def test_limit_holds_a_job_back_and_says_so(rest: Rest) -> None:
    first, second = rest.submit(limits={"db": 1}), rest.submit(limits={"db": 1})
    rest.register("r1", slots=2)
    assert rest.take("r1")["id"] == first
    assert rest.get("/workers/r1/next").json["job"] is None
    why = rest.get(f"/jobs/{second}").json["why"]
    assert why == {"code": "limit", "detail": "as many runs as may be are running: 1 of 1 with the limit db"}
    rest.report(first, "r1", "success")
    assert rest.take("r1")["id"] == second
