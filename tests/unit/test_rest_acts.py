"""Hold, release, rerun, edit and removal of jobs over REST, one by one and in bulk, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import ME, Rest

NEVER = "0 0 1 1 *"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def good(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json


def refused(answer: Any, status: int, code: str) -> str:
    """The sentence of an error."""
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    return str(answer.json["detail"])


def failed(rest: Rest) -> int:
    """A job that has failed on a polling worker."""
    job = rest.submit()
    rest.register("w1")
    assert rest.take("w1")["id"] == job
    rest.report(job, "w1", "running")
    rest.report(job, "w1", "failed", exit_code=1)
    return job


def events(rest: Rest, job: int) -> list[tuple[str, str | None]]:
    """The events about a job itself: what, and the detail."""
    found = rest.get(f"/events?job={job}").json
    return [(event["became"], event.get("detail")) for event in found if "runs" not in event]


# --- hold and release ---


def test_held_job_says_since_when_and_why_and_is_not_handed_out(rest: Rest) -> None:
    job = rest.submit()
    view = good(rest.post(f"/jobs/{job}/hold?reason=disk+full"))
    assert (view["status"], view["hold_reason"]) == ("pending", "disk full")
    assert view["why"]["code"] == "held"
    assert "(disk full)" in view["why"]["detail"]
    assert f"zsched release {job}" in view["why"]["detail"]
    rest.register("w1")
    assert rest.get("/workers/w1/next").json == {"job": None}
    again = good(rest.post(f"/jobs/{job}/hold?reason=another"))
    assert (again["held_at"], again["hold_reason"]) == (view["held_at"], "disk full")
    released = good(rest.post(f"/jobs/{job}/release?reason=mended"))
    assert not {"held_at", "hold_reason"} & released.keys()
    assert good(rest.post(f"/jobs/{job}/release"))["status"] == "pending"
    assert rest.take("w1")["id"] == job
    assert events(rest, job) == [("held", "disk full"), ("released", "mended")]


def test_job_is_submitted_held(rest: Rest) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "hold": True})
    assert answer.status_code == 201
    assert answer.json["held_at"] == answer.json["created_at"]
    assert rest.get(f"/jobs/{answer.json['id']}").json["why"]["code"] == "held"
    body = {"name": "j", "command": "true", "hold": True, "schedule": NEVER}
    assert refused(rest.post("/jobs", body), 400, "invalid_request").startswith("hold: not together with schedule")


def test_ended_and_recurring_jobs_are_not_held(rest: Rest) -> None:
    job, cron = failed(rest), rest.submit(schedule=NEVER)
    assert "has ended" in refused(rest.post(f"/jobs/{job}/hold"), 409, "finished")
    for call in ("hold", "release", "rerun"):
        assert f"zsched pause {cron}" in refused(rest.post(f"/jobs/{cron}/{call}"), 409, "recurring")
    refused(rest.post("/jobs/99/hold"), 404, "unknown_job")


@pytest.mark.parametrize("reason", ["x" * 501, "a%00b", "a%1bb"])
def test_invalid_reason_is_refused(rest: Rest, reason: str) -> None:
    job = rest.submit()
    refused(rest.post(f"/jobs/{job}/hold?reason={reason}"), 400, "invalid_request")
    assert "held_at" not in rest.get(f"/jobs/{job}").json


def test_reason_of_a_cancel_is_shown(rest: Rest) -> None:
    job = rest.submit()
    view = good(rest.post(f"/jobs/{job}/cancel?reason=no+need"))
    assert (view["status"], view["cancel_reason"]) == ("cancelled", "no need")
    (event,) = [event for event in rest.get(f"/events?job={job}").json if event["became"] == "cancelled"]
    assert event["detail"] == "no need"


def test_reasons_of_schedules_are_in_their_events(rest: Rest) -> None:
    cron = rest.submit(schedule=NEVER)
    for call in ("pause", "resume"):
        good(rest.post(f"/jobs/{cron}/{call}?reason=because"))
    good(rest.call("PATCH", f"/jobs/{cron}?reason=typo", json={"name": "n"}))
    good(rest.call("DELETE", f"/jobs/{cron}?reason=done"))
    assert events(rest, cron)[1:] == [
        ("schedule_paused", "because"),
        ("schedule_resumed", "because"),
        ("job_edited", "name; typo"),
        ("schedule_ended", "done"),
    ]


# --- rerun ---


def test_ended_job_runs_again_with_its_id(rest: Rest) -> None:
    job = failed(rest)
    view = good(rest.post(f"/jobs/{job}/rerun?reason=fixed"))
    assert (view["id"], view["status"], view["last_run"]["attempt"]) == (job, "pending", 2)
    refused(rest.post(f"/jobs/{job}/rerun"), 409, "live")
    assert rest.take("w1")["attempt"] == 2
    rest.report(job, "w1", "success", exit_code=0)
    assert rest.get(f"/jobs/{job}").json["status"] == "success"
    (event,) = [event for event in rest.get(f"/events?job={job}").json if event.get("reason") == "rerun"]
    assert (event["became"], event["detail"]) == ("pending", "fixed")


def test_rerun_of_tasks_that_can_not_run_again_is_refused(rest: Rest) -> None:
    job = rest.submit(array="0-3")
    for call, said in (
        ("only=failed", "No task of job 1 has failed"),
        ("task=1-2", "None of these tasks of job 1 has ended"),
    ):
        answer = rest.post(f"/jobs/{job}/rerun?{call}")
        refused(answer, 409, "live")
        assert answer.json["error"] == said


def test_rerun_needs_room_for_a_pending_run(tmp_path: Path) -> None:
    with Rest(tmp_path, pending_max=1) as rest:
        job = failed(rest)
        rest.submit()
        refused(rest.post(f"/jobs/{job}/rerun"), 429, "too_many_pending")


def test_rerun_takes_the_unique_key_again(rest: Rest) -> None:
    rest.register("w1")
    first = rest.submit(unique="k")
    rest.report(rest.take("w1")["id"], "w1", "failed", exit_code=1)
    second = rest.submit(unique="k")
    refused(rest.post(f"/jobs/{first}/rerun"), 409, "unique")
    rest.report(rest.take("w1")["id"], "w1", "success", exit_code=0)
    good(rest.post(f"/jobs/{first}/rerun"))
    refused(rest.post(f"/jobs/{second}/rerun"), 409, "unique")
    bulk = good(rest.post("/jobs/bulk", {"action": "rerun", "select": [first, second]}))
    assert bulk["live"] == {"count": 1, "jobs": str(first)}
    assert bulk["unique"] == {"count": 1, "jobs": str(second)}
    assert rest.post("/jobs", {"name": "j", "command": "true", "unique": "k"}).json["existing"] == first


# --- edits ---


def test_pending_job_is_edited(rest: Rest) -> None:
    job = rest.submit(timeout="1h")
    body = {
        "name": "new",
        "tags": ["b", "a"],
        "timeout": None,
        "retries": 2,
        "retry_on": [75],
        "deadline": "2099-01-01T00:00:00Z",
    }
    view = good(rest.call("PATCH", f"/jobs/{job}", json=body))
    assert (view["name"], view["tags"], view["retries"], view["retry_on"]) == ("new", ["a", "b"], 2, [75])
    assert view["deadline"] == "2099-01-01T00:00:00.000Z"
    assert "timeout" not in view
    assert [found["id"] for found in rest.get("/jobs?tag=a").json] == [job]
    assert events(rest, job) == [("job_edited", "name, tags, deadline, timeout, retries, retry_on")]
    rest.register("w1")
    handed = rest.take("w1")
    assert (handed["id"], handed["name"]) == (job, "new")
    assert "is running" in refused(rest.call("PATCH", f"/jobs/{job}", json={"name": "x"}), 409, "started")


def test_priority_and_queue_of_a_pending_job_change(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    rest.register("w1")
    away, first, urgent = (rest.submit() for _ in range(3))
    good(rest.call("PATCH", f"/jobs/{away}", json={"queue": "other"}))
    view = good(rest.call("PATCH", f"/jobs/{urgent}", json={"priority": 5}))
    assert view["priority"] == 5
    for job in (urgent, first):
        assert rest.take("w1")["id"] == job
        rest.report(job, "w1", "success", exit_code=0)
    view = good(rest.get(f"/jobs/{away}"))
    assert (view["queue"], view["why"]["code"]) == ("other", "no_match")
    assert [job["id"] for job in rest.get("/jobs?queue=other").json] == [away]
    assert {queue["name"]: queue["pending"] for queue in rest.get("/queues").json} == {"default": 0, "other": 1}
    assert (events(rest, away), events(rest, urgent)) == ([("job_edited", "queue")], [("job_edited", "priority")])
    monkeypatch.setattr("zsched.scheduler.dispatcher.queues.DEMANDS_MAX", 1)
    job = rest.submit()
    refused(rest.call("PATCH", f"/jobs/{job}", json={"queue": "third"}), 429, "too_many_demands")
    assert "queue" not in rest.get(f"/jobs/{job}").json


def test_deadline_of_a_pending_job_moves_and_goes(rest: Rest) -> None:
    job = rest.submit(deadline="1h")
    good(rest.call("PATCH", f"/jobs/{job}", json={"deadline": "0s"}))
    assert good(rest.get(f"/jobs/{job}?wait=5s"))["last_run"]["reason"] == "expired"
    job = rest.submit(deadline="1h")
    assert "deadline" not in good(rest.call("PATCH", f"/jobs/{job}", json={"deadline": None}))


@pytest.mark.parametrize(
    ("fields", "body", "code"),
    [
        ({}, {"schedule": NEVER}, "no_schedule"),
        ({}, {"retry_on": [75]}, "retry_on"),
        ({"retries": 1, "retry_on": [75]}, {"retries": 0}, "retry_on"),
        ({"timeout": "1h", "signal": "USR1@1m"}, {"timeout": None}, "signal"),
        ({"run_at": "2099-01-01T00:00:00Z"}, {"deadline": "2098-01-01T00:00:00Z"}, "deadline"),
        ({"schedule": NEVER}, {"deadline": "1h"}, "recurring"),
    ],
)
def test_changes_that_do_not_fit_the_job_are_refused(rest: Rest, fields: Any, body: Any, code: str) -> None:
    job = rest.submit(**fields)
    before = rest.get(f"/jobs/{job}").json
    refused(rest.call("PATCH", f"/jobs/{job}", json=body), 409, code)
    assert rest.get(f"/jobs/{job}").json == before


def test_ended_job_is_not_edited(rest: Rest) -> None:
    job = failed(rest)
    assert "has ended" in refused(rest.call("PATCH", f"/jobs/{job}", json={"name": "x"}), 409, "started")


# --- removal ---


def test_ended_job_is_removed_and_answered_as_it_was(rest: Rest) -> None:
    job = failed(rest)
    before = rest.get(f"/jobs/{job}").json
    assert good(rest.call("DELETE", f"/jobs/{job}?reason=tidy")) == before
    refused(rest.get(f"/jobs/{job}"), 404, "unknown_job")
    refused(rest.call("DELETE", f"/jobs/{job}"), 404, "unknown_job")
    (purged,) = rest.get("/events?kind=purged").json
    assert purged["detail"] == f"1 job: {job}; tidy"
    assert rest.get("/stats").json["tasks"]["failed"] == 0


def test_live_job_is_not_removed(rest: Rest) -> None:
    job = rest.submit()
    assert f"zsched cancel {job}" in refused(rest.call("DELETE", f"/jobs/{job}"), 409, "live")
    assert rest.get(f"/jobs/{job}").status_code == 200


def test_delete_has_a_parameter_for_the_kind_of_job(rest: Rest) -> None:
    job, cron = failed(rest), rest.submit(schedule=NEVER)
    refused(rest.call("DELETE", f"/jobs/{cron}?only=ended"), 409, "recurring")
    refused(rest.call("DELETE", f"/jobs/{job}?only=schedule"), 409, "no_schedule")
    refused(rest.call("DELETE", f"/jobs/{job}?only=x"), 400, "invalid_request")
    good(rest.call("DELETE", f"/jobs/{cron}?only=schedule"))
    good(rest.call("DELETE", f"/jobs/{job}?only=ended"))


# --- bulk ---


def group(*jobs: int) -> dict[str, object]:
    return {"count": len(jobs), "jobs": ",".join(map(str, jobs))}


def bulk(rest: Rest, action: str, select: object, **more: object) -> dict[str, Any]:
    body = good(rest.post("/jobs/bulk", {"action": action, "select": select, **more}))
    assert body.pop("action") == action
    return dict(body)


def test_bulk_holds_and_releases_with_a_reason(rest: Rest) -> None:
    ended, first, cron = failed(rest), rest.submit(), rest.submit(schedule=NEVER)
    last = rest.submit()
    found = bulk(rest, "hold", f"{ended}-{last + 1}", reason="disk full")
    assert found == {
        "done": {"count": 2, "jobs": f"{first},{last}"},
        "finished": group(ended),
        "recurring": group(cron),
        "unknown_job": group(last + 1),
    }
    assert rest.get(f"/jobs/{last}").json["hold_reason"] == "disk full"
    assert bulk(rest, "release", "all") == {"done": group(first, last)}
    assert bulk(rest, "release", "all") == {}
    # A recurring job has not ended.
    assert bulk(rest, "hold", "all") == {"done": group(first, last)}


def test_bulk_reruns_what_has_failed(rest: Rest) -> None:
    bad, good_one = failed(rest), rest.submit()
    assert rest.take("w1")["id"] == good_one
    rest.report(good_one, "w1", "success", exit_code=0)
    live = rest.submit()
    assert bulk(rest, "rerun", f"{bad}-{live}", status="failed") == {"done": group(bad)}
    assert bulk(rest, "rerun", "all", status="failed") == {}
    assert bulk(rest, "rerun", "all") == {"done": group(good_one)}
    assert bulk(rest, "rerun", [live]) == {"live": group(live)}


def test_bulk_removes_what_has_ended(rest: Rest) -> None:
    ended, live, cron = failed(rest), rest.submit(), rest.submit(schedule=NEVER)
    assert bulk(rest, "delete", f"{ended}-{cron}") == {
        "done": group(ended),
        "live": group(live),
        "recurring": group(cron),
    }
    assert bulk(rest, "delete", "all") == {}
    assert [job["id"] for job in rest.get("/jobs").json] == [cron, live]


# --- usage ---


def test_usage_is_counted_by_owner(rest: Rest) -> None:
    failed(rest)
    (used,) = good(rest.get("/usage"))
    assert (used["key"], used["success"], used["failed"], used["cancelled"]) == (ME, 0, 1, 0)
    assert 0 <= used["run_seconds"] < 60
    assert good(rest.get("/usage?by=owner&since=1d&limit=1")) == [used]
    assert good(rest.get("/usage?since=2099-01-01T00:00:00Z")) == []
    refused(rest.get("/usage?by=color"), 400, "invalid_request")
