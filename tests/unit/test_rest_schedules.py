"""Recurring jobs over REST: pause, resume, edit, end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import Rest, problem
from zsched.model.edits import EditBody
from zsched.model.limits import COMMAND_BYTES_MAX, NAME_CHARS_MAX

NEVER = "0 0 1 1 *"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def patch(rest: Rest, job: int, value: object, **more: Any) -> Any:
    return rest.call("PATCH", f"/jobs/{job}", json=value, **more)


def changes(rest: Rest) -> list[tuple[str, str, str | None]]:
    """Events about schedules: what, by which actor, and the detail."""
    return [
        (event["became"], event["actor"], event.get("detail"))
        for event in rest.get("/events").json
        if event["became"].startswith("schedule_") or event["became"] == "job_edited"
    ]


def live(rest: Rest) -> int:
    """A recurring job whose run is running on a worker that polls."""
    job = rest.submit(schedule=NEVER, run_now=True)
    rest.register("w1")
    assert rest.take("w1")["id"] == job
    return job


# --- pause and resume ------------------------------------------------------------------------------------------------


def test_a_paused_job_shows_since_when_and_has_no_next_fire(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    fire = rest.get(f"/jobs/{job}").json["next_fire_at"]
    answer = rest.post(f"/jobs/{job}/pause")
    assert answer.status_code == 200
    assert answer.json["paused_at"] == answer.json["updated_at"]
    assert "next_fire_at" not in answer.json
    assert (answer.json["status"], answer.json["schedule"], answer.json["live"]) == ("pending", NEVER, False)
    assert answer.json["why"]["code"] == "paused"
    assert rest.get("/jobs").json == [{name: value for name, value in answer.json.items() if name != "why"}]

    resumed = rest.post(f"/jobs/{job}/resume")
    assert resumed.status_code == 200
    assert "paused_at" not in resumed.json
    assert resumed.json["next_fire_at"] == fire
    [paused_by, resumed_by] = changes(rest)
    assert (paused_by[0], resumed_by[0]) == ("schedule_paused", "schedule_resumed")
    assert paused_by[1] == resumed_by[1]
    assert paused_by[1].endswith(" at 127.0.0.1")


def test_pausing_and_resuming_twice_is_200_and_changes_nothing_more(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    for call, events in (("pause", 1), ("resume", 2)):
        first = rest.post(f"/jobs/{job}/{call}")
        second = rest.post(f"/jobs/{job}/{call}")
        assert (second.status_code, second.json) == (200, first.json)
        assert len(changes(rest)) == events


# --- end -------------------------------------------------------------------------------------------------------------


def test_ended_schedule_stays_visible_and_is_cancelled_when_it_never_fired(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    answer = rest.call("DELETE", f"/jobs/{job}")
    assert answer.status_code == 200
    view = answer.json
    assert view["ended_at"] == view["updated_at"]
    assert (view["status"], view["schedule"], view["live"]) == ("cancelled", NEVER, False)
    assert "next_fire_at" not in view
    assert rest.get("/jobs?status=cancelled").json == [view]
    assert rest.get("/jobs?status=pending").json == []
    assert rest.get("/stats").json["tasks"]["cancelled"] == 0
    assert [event[0] for event in changes(rest)] == ["schedule_ended"]
    assert rest.call("DELETE", f"/jobs/{job}").json == view
    assert [event[0] for event in changes(rest)] == ["schedule_ended"]


def test_wait_for_a_job_is_answered_when_its_schedule_ends(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    rest.call("DELETE", f"/jobs/{job}")
    assert rest.get(f"/jobs/{job}?wait=20s").json["status"] == "cancelled"


def test_a_live_job_is_ended_only_with_cancel(rest: Rest) -> None:
    job = live(rest)
    sentence = (
        f"The last fire of job {job} has not ended: cancel it as well with `zsched end --cancel {job}`"
        f" (DELETE /jobs/{job}?cancel=1), or pause the job and end it later"
    )
    for query in ("", "?cancel=0", "?cancel=false"):
        problem(rest.call("DELETE", f"/jobs/{job}{query}"), 409, "live", sentence)
    assert "ended_at" not in rest.get(f"/jobs/{job}").json

    answer = rest.call("DELETE", f"/jobs/{job}?cancel=1")
    assert answer.status_code == 200
    assert (answer.json["status"], answer.json["live"]) == ("cancelled", False)
    assert answer.json["last_run"]["status"] == "cancelled"
    assert "cancelled_at" not in answer.json


def test_an_ended_job_keeps_its_runs_and_their_output(rest: Rest) -> None:
    job = live(rest)
    rest.report(job, "w1", "failed", exit_code=3, logs="so it went")
    view = rest.call("DELETE", f"/jobs/{job}").json
    assert (view["status"], view["last_run"]["logs"]) == ("failed", "so it went")
    assert len(rest.get(f"/jobs/{job}/runs").json) == 1


@pytest.mark.parametrize("query", ["cancel=yes", "cancel=", "cancel=2"])
def test_a_flag_is_on_or_off(rest: Rest, query: str) -> None:
    job = rest.submit(schedule=NEVER)
    answer = rest.call("DELETE", f"/jobs/{job}?{query}")
    problem(answer, 400, "invalid_request", "cancel: 1 or 0", ("cancel", "1 or 0"))
    assert "ended_at" not in rest.get(f"/jobs/{job}").json


def test_an_unknown_parameter_ends_nothing(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    assert rest.call("DELETE", f"/jobs/{job}?force=1").status_code == 400
    assert "ended_at" not in rest.get(f"/jobs/{job}").json


# --- edit ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("media", ["application/json", "application/merge-patch+json"])
def test_an_edit_changes_what_it_names_and_nothing_else(rest: Rest, media: str) -> None:
    job = rest.submit(schedule="* * * * *", timeout="1m", retries=2, env={"A": "b"})
    before = rest.get(f"/jobs/{job}").json
    answer = patch(rest, job, {"schedule": NEVER, "name": "nightly"}, headers={"Content-Type": media})
    assert answer.status_code == 200
    changed = {"schedule": NEVER, "name": "nightly"}
    moved = {"next_fire_at", "updated_at"}
    view = answer.json
    assert {name: value for name, value in view.items() if name not in moved} == {
        name: value for name, value in (before | changed).items() if name not in moved
    }
    assert re.fullmatch(r"\d{4}-01-01T00:00:00\.000Z", view["next_fire_at"])
    assert [(event[0], event[2]) for event in changes(rest)] == [
        ("job_edited", f"name, schedule: * * * * * -> {NEVER}")
    ]


def test_a_timeout_is_changed_and_removed(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER, timeout="1m")
    assert patch(rest, job, {"timeout": 90}).json["timeout"] == "1m30s"
    assert "timeout" not in patch(rest, job, {"timeout": None}).json


def test_the_command_of_an_edit_is_in_no_event(rest: Rest) -> None:
    job = rest.submit(schedule=NEVER)
    assert patch(rest, job, {"command": "curl -u me:hunter2"}).json["command"] == "curl -u me:hunter2"
    assert [event[2] for event in changes(rest)] == ["command"]
    assert "hunter2" not in rest.get("/events").text


@pytest.mark.parametrize(
    ("body", "sentence", "pointer", "detail"),
    [
        (
            {},
            f"nothing to change: give at least one of {', '.join(EditBody.__struct_fields__)}",
            "#",
            "",
        ),
        ({"comand": "true"}, "comand: unknown field", "#/comand", "unknown field"),
        ({"name": "n", "user": "a"}, "user: unknown field", "#/user", "unknown field"),
        ({"name": ""}, "Name and command are required", "#/name", "required"),
        ({"name": None}, "Name and command are required", "#/name", "required"),
        ({"command": " "}, "Name and command are required", "#/command", "required"),
        ({"command": None}, "Name and command are required", "#/command", "required"),
        ({"name": "x" * (NAME_CHARS_MAX + 1)}, f"name: at most {NAME_CHARS_MAX} characters, not 257", "#/name", ""),
        (
            {"command": "x" * (COMMAND_BYTES_MAX + 1)},
            f"command: at most {COMMAND_BYTES_MAX} bytes, not {COMMAND_BYTES_MAX + 1}: put it into a script",
            "#/command",
            "",
        ),
        ({"timeout": 0}, "timeout: longer than nothing: null means no limit", "#/timeout", ""),
        ({"schedule": None}, "schedule: a recurring job keeps a schedule: DELETE the job to end it", "#/schedule", ""),
        ({"schedule": " "}, "schedule: a recurring job keeps a schedule: DELETE the job to end it", "#/schedule", ""),
        (
            {"schedule": "* * * *"},
            "schedule: five fields: minute, hour, day of month, month, day of week, such as '*/5 * * * *'",
            "#/schedule",
            "",
        ),
        ({"schedule": 5}, "schedule: Expected `str | null`, got `int`", "#/schedule", ""),
    ],
)
def test_an_edit_that_can_not_be_kept_is_refused_by_name(
    rest: Rest, body: object, sentence: str, pointer: str, detail: str
) -> None:
    job = rest.submit(schedule="* * * * *")
    before = rest.get(f"/jobs/{job}").json
    detail = detail or sentence.removeprefix(f"{pointer.removeprefix('#/')}: ")
    problem(patch(rest, job, body), 400, "invalid_request", sentence, (pointer, detail))
    assert rest.get(f"/jobs/{job}").json == before
    assert changes(rest) == []


@pytest.mark.parametrize("body", [b"[]", b"", b"null", b'{"name": "a", "name": "b"}'])
def test_an_edit_is_a_json_object(rest: Rest, body: bytes) -> None:
    job = rest.submit(schedule=NEVER)
    assert rest.call("PATCH", f"/jobs/{job}", body=body).status_code == 400


# --- jobs that take none of this -------------------------------------------------------------------------------------

CALLS = [("POST", "/pause"), ("POST", "/resume"), ("DELETE", ""), ("PATCH", "")]


def call(rest: Rest, method: str, path: str) -> Any:
    return rest.call(method, path, **({"json": {"name": "n"}} if method == "PATCH" else {}))


@pytest.mark.parametrize(("method", "call_"), [*CALLS[:2], ("DELETE", "?only=schedule")])
def test_a_job_without_a_schedule_is_409(rest: Rest, method: str, call_: str) -> None:
    job = rest.submit()
    before = rest.get(f"/jobs/{job}").json
    instead = f"cancel it with `zsched cancel {job}` (POST /jobs/{job}/cancel)"
    told = instead if method == "DELETE" else "only recurring jobs take this call"
    answer = call(rest, method, f"/jobs/{job}{call_}")
    problem(answer, 409, "no_schedule", f"Job {job} has no schedule: {told}")
    assert rest.get(f"/jobs/{job}").json == before


@pytest.mark.parametrize(("method", "call_"), [one for one in CALLS if one[0] != "DELETE"])
def test_an_ended_job_is_409(rest: Rest, method: str, call_: str) -> None:
    job = rest.submit(schedule=NEVER)
    rest.call("DELETE", f"/jobs/{job}")
    answer = call(rest, method, f"/jobs/{job}{call_}")
    problem(answer, 409, "schedule_ended", f"The schedule of job {job} has ended: submit the job again")


@pytest.mark.parametrize(("method", "call_"), CALLS)
def test_a_job_that_is_not_there_is_404_and_no_number_400(rest: Rest, method: str, call_: str) -> None:
    problem(call(rest, method, f"/jobs/9{call_}"), 404, "unknown_job", "Job not found")
    problem(call(rest, method, f"/jobs/x{call_}"), 400, "invalid_id", "Invalid job ID")


# --- whose jobs they are ---------------------------------------------------------------------------------------------


def bearer(rest: Rest, *scopes: str) -> dict[str, str]:
    """The header of a new token."""
    return {"Authorization": f"Bearer {rest.post('/tokens', {'scopes': scopes}).json['token']}"}


def test_a_token_changes_its_own_schedules_and_an_operator_all(rest: Rest) -> None:
    own, other, operator = bearer(rest, "submit"), bearer(rest, "submit"), bearer(rest, "operate")
    body = {"name": "j", "command": "true", "schedule": NEVER}
    job = rest.post("/jobs", body, headers=own).json["id"]
    for method, call_ in CALLS:
        more: dict[str, Any] = {"json": {"name": "n"}} if method == "PATCH" else {}
        answer = rest.call(method, f"/jobs/{job}{call_}", headers=other, **more)
        assert (answer.status_code, answer.json["code"]) == (403, "not_owner"), (method, call_)
    assert changes(rest) == []
    for headers in (own, operator):
        assert rest.post(f"/jobs/{job}/pause", headers=headers).status_code == 200
        assert rest.post(f"/jobs/{job}/resume", headers=headers).status_code == 200
        assert patch(rest, job, {"timeout": "1m"}, headers=headers).status_code == 200
    answer = patch(rest, job, {"command": "env"}, headers=operator)
    assert (answer.status_code, answer.json["code"]) == (403, "not_owner")
    assert patch(rest, job, {"command": "id"}, headers=own).json["command"] == "id"
    assert rest.call("DELETE", f"/jobs/{job}", headers=own).status_code == 200
