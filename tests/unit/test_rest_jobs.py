"""Jobs and runs over REST: submit, list, look, cancel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import ME, Rest, problem, until
from zsched.model.limits import COMMAND_BYTES_MAX, JOBS_PER_SUBMIT_MAX, NAME_CHARS_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def times(view: dict[str, Any], *names: str) -> None:
    """Take the times out of a view, each written as RFC 3339 in UTC."""
    for name in names:
        assert TIME.fullmatch(view.pop(name)), name


# --- submit ----------------------------------------------------------------------------------------------------------


def test_the_documented_submit_answers_201_with_the_job_and_its_place(rest: Rest) -> None:
    answer = rest.post("/jobs", {"name": "hello-job", "command": "echo 'Hello World'"})

    assert answer.status_code == 201
    assert answer.headers["Location"] == "/jobs/1"
    assert answer.headers["Content-Type"] == "application/json"
    job = answer.json
    assert job["created_at"] == job["updated_at"]
    times(job, "created_at", "updated_at")
    assert job == {"id": 1, "name": "hello-job", "command": "echo 'Hello World'", "status": "pending", "owner": ME}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"command": "true"}, "name"),
        ({"name": "", "command": "true"}, "name"),
        ({"name": None, "command": "true"}, "name"),
        ({"name": " \t", "command": "true"}, "name"),
        ({"name": "j"}, "command"),
        ({"name": "j", "command": ""}, "command"),
        ({"name": "j", "command": None}, "command"),
        ({"name": "j", "command": " \n"}, "command"),
    ],
)
def test_a_job_without_name_or_command_is_refused_as_documented(rest: Rest, body: object, field: str) -> None:
    answer = rest.post("/jobs", body)

    sentence = "Name and command are required"
    problem(answer, 400, "invalid_request", sentence, (f"#/{field}", "required"))
    assert answer.json["instance"] == "/jobs"
    assert rest.get("/jobs").json == []


def test_two_errors_have_two_request_ids(rest: Rest) -> None:
    ids = {rest.post("/jobs", {}).json["request_id"] for _ in range(20)}
    assert len(ids) == 20


@pytest.mark.parametrize("path", ["/jobs", "/jobs/"])
def test_a_trailing_slash_changes_nothing(rest: Rest, path: str) -> None:
    assert rest.post(path, {"name": "j", "command": "true"}).headers["Location"] == "/jobs/1"
    assert [job["id"] for job in rest.get(path).json] == [1]


def test_a_command_may_have_96_kib_and_not_a_byte_more(rest: Rest) -> None:
    longest = "é" * (COMMAND_BYTES_MAX // 2)
    job = rest.submit(longest)
    assert rest.get(f"/jobs/{job}").json["command"] == longest

    sentence = f"at most {COMMAND_BYTES_MAX} bytes, not {COMMAND_BYTES_MAX + 1}: put it into a script"
    answer = rest.post("/jobs", {"name": "j", "command": longest + "x"})
    problem(answer, 400, "invalid_request", f"command: {sentence}", ("#/command", sentence))


def test_a_name_may_have_256_characters_and_not_one_more(rest: Rest) -> None:
    assert rest.post("/jobs", {"name": "é" * NAME_CHARS_MAX, "command": "true"}).status_code == 201

    sentence = f"at most {NAME_CHARS_MAX} characters, not {NAME_CHARS_MAX + 1}"
    answer = rest.post("/jobs", {"name": "é" * (NAME_CHARS_MAX + 1), "command": "true"})
    problem(answer, 400, "invalid_request", f"name: {sentence}", ("#/name", sentence))


@pytest.mark.parametrize(
    ("timeout", "shown"),
    [("10m", "10m"), ("90s", "1m30s"), (30, "30s"), (1.5, "1s500ms"), ("0.5s", "500ms"), (None, None)],
)
def test_a_timeout_is_a_duration_or_a_number_of_seconds(rest: Rest, timeout: object, shown: str | None) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "timeout": timeout})
    assert answer.status_code == 201
    assert answer.json.get("timeout") == shown


@pytest.mark.parametrize("timeout", ["", "10", "-5s", "soon", -5, 0, "0", 2**53, -1.5, 0.0, 1e300, True, [], {}])
def test_invalid_timeout_is_refused_by_name(rest: Rest, timeout: object) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "timeout": timeout})

    [error] = answer.json["errors"]
    assert error["pointer"] == "#/timeout"
    assert error["detail"] != "required"
    problem(answer, 400, "invalid_request", f"timeout: {error['detail']}", ("#/timeout", error["detail"]))


POLICY = {
    "timeout": "1m",
    "kill_grace": "3s",
    "retries": 4,
    "backoff": {"initial": "1s", "factor": 1.5, "max": "10m", "jitter": 0.0},
    "on_lost": "fail",
    "on_disconnect": "stop",
    "crash_limit": 2,
}


def test_settings_for_failures_are_shown_where_they_are_not_the_default(rest: Rest) -> None:
    asked = {"name": "j", "command": "true", **POLICY}
    shown = rest.post("/jobs", asked).json
    assert {name: shown[name] for name in POLICY} == POLICY
    usual = rest.post("/jobs", {"name": "j", "command": "true", "retries": 0, "backoff": {}, "kill_grace": "10s"}).json
    assert POLICY.keys() & usual.keys() == set()


def test_a_crash_limit_of_never_is_stored_and_shown(rest: Rest) -> None:
    job = rest.post("/jobs", {"name": "j", "command": "true", "crash_limit": "never"}).json
    assert job["crash_limit"] == "never"
    assert rest.get(f"/jobs/{job['id']}").json["crash_limit"] == "never"


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("kill_grace", "61m", "at most 1h"),
        ("retries", -1, "Expected `int` >= 0"),
        ("retries", 10_001, "Expected `int` <= 10000"),
        ("crash_limit", 0, "Expected `int` >= 1"),
        ("crash_limit", 1_001, "Expected `int` <= 1000"),
        ("crash_limit", "always", "Invalid enum value 'always'; it is a number or never"),
        ("on_lost", "maybe", "Invalid enum value 'maybe'; it is one of requeue, fail"),
        ("on_disconnect", "", "Invalid enum value ''; it is one of continue, stop"),
    ],
)
def test_what_a_job_can_not_say_of_its_failures_is_refused_with_the_remedy(
    rest: Rest, field: str, value: object, detail: str
) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", field: value})
    problem(answer, 400, "invalid_request", f"{field}: {detail}", (f"#/{field}", detail))


@pytest.mark.parametrize(
    ("backoff", "field"),
    [({"initial": "soon"}, "initial"), ({"factor": 0.5}, "factor"), ({"max": "31d"}, "max"), ({"jitter": 2}, "jitter")],
)
def test_invalid_backoff_is_refused_by_name(rest: Rest, backoff: dict[str, object], field: str) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "backoff": backoff})
    assert answer.json["errors"][0]["pointer"] == f"#/backoff/{field}"
    assert answer.status_code == 400


def test_a_job_with_a_schedule_waits_for_its_time(rest: Rest) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "schedule": "*/5 * * * *"})

    assert answer.status_code == 201
    job = answer.json
    times(job, "created_at", "updated_at", "next_fire_at")
    assert job == {
        "id": 1,
        "name": "j",
        "command": "true",
        "status": "pending",
        "owner": ME,
        "schedule": "*/5 * * * *",
        "live": False,
    }
    assert "last_run" not in rest.get("/jobs/1").json
    assert rest.get("/jobs/1/runs").json == []
    rest.register("w1")
    assert rest.get("/workers/w1/next").json == {"job": None}


def test_a_job_with_a_schedule_runs_at_once_when_asked_to(rest: Rest) -> None:
    job = rest.submit(schedule="0 0 1 1 *", run_now=True)
    found = rest.get(f"/jobs/{job}").json
    assert (found["last_run"]["status"], found["live"]) == ("pending", True)


@pytest.mark.parametrize("empty", ["", " ", None])
def test_empty_schedule_counts_as_absent(rest: Rest, empty: str | None) -> None:
    job = rest.get(f"/jobs/{rest.submit(schedule=empty)}").json
    assert "schedule" not in job
    assert job["last_run"]["status"] == "pending"


@pytest.mark.parametrize("schedule", ["hourly", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "@daily", "1", 5])
def test_a_schedule_that_can_not_be_kept_is_refused_by_name(rest: Rest, schedule: object) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "schedule": schedule})

    [error] = answer.json["errors"]
    problem(answer, 400, "invalid_request", f"schedule: {error['detail']}", ("#/schedule", error["detail"]))
    assert rest.get("/jobs").json == []


# --- several jobs in one request -------------------------------------------------------------------------------------


def test_an_array_of_jobs_is_answered_with_the_jobs_in_its_order(rest: Rest) -> None:
    answer = rest.post("/jobs", [{"name": f"j{place}", "command": "true"} for place in range(3)])

    assert answer.status_code == 201
    assert [(job["id"], job["name"]) for job in answer.json] == [(1, "j0"), (2, "j1"), (3, "j2")]
    assert "Location" not in answer.headers
    assert [rest.get(f"/jobs/{job}").json["last_run"]["run_id"] for job in (1, 2, 3)] == [1, 2, 3]


def test_one_bad_job_of_an_array_keeps_out_all_of_them(rest: Rest) -> None:
    good = {"name": "j", "command": "true"}

    answer = rest.post("/jobs", [good, {"name": "j"}, good])
    problem(answer, 400, "invalid_request", "1.command: Name and command are required", ("#/1/command", "required"))
    answer = rest.post("/jobs", [good, {**good, "timeout": "x"}])
    assert answer.json["errors"][0]["pointer"] == "#/1/timeout"
    assert answer.json["error"].startswith("1.timeout: ")
    answer = rest.post("/jobs", [good, {**good, "nmae": "x"}])
    problem(answer, 400, "invalid_request", "1.nmae: unknown field", ("#/1/nmae", "unknown field"))
    answer = rest.post("/jobs", [good, 7])
    assert answer.json["errors"][0]["pointer"] == "#/1"

    assert rest.get("/jobs").json == []
    assert rest.submit() == 1


def test_an_array_has_at_least_one_job(rest: Rest) -> None:
    problem(rest.post("/jobs", []), 400, "invalid_request", "an array of jobs has at least one")


def test_an_array_has_at_most_ten_thousand_jobs(rest: Rest) -> None:
    job = {"name": "j", "command": "true"}

    sentence = f"One request takes at most {JOBS_PER_SUBMIT_MAX} jobs, not {JOBS_PER_SUBMIT_MAX + 1}"
    problem(rest.post("/jobs", [job] * (JOBS_PER_SUBMIT_MAX + 1)), 413, "too_many", sentence)
    assert rest.get("/jobs").json == []

    answer = rest.post("/jobs", [job] * JOBS_PER_SUBMIT_MAX)
    assert answer.status_code == 201
    assert [job["id"] for job in answer.json] == list(range(1, JOBS_PER_SUBMIT_MAX + 1))


# --- lists -----------------------------------------------------------------------------------------------------------


def test_the_list_of_jobs_is_a_bare_array_newest_first(rest: Rest) -> None:
    assert rest.get("/jobs").text == "[]"
    made = [rest.submit() for _ in range(3)]
    listed = rest.get("/jobs").json
    assert [job["id"] for job in listed] == made[::-1]
    assert "last_run" not in listed[0]


def test_pages_are_cut_by_limit_and_offset(rest: Rest) -> None:
    rest.post("/jobs", [{"name": "j", "command": "true"}] * 1_001)

    def page(query: str) -> list[int]:
        return [job["id"] for job in rest.get("/jobs", query_string=query).json]

    assert page("") == list(range(1001, 1001 - PAGE_ROWS_DEFAULT, -1))
    assert page("limit=2") == [1001, 1000]
    assert page("limit=2&offset=999") == [2, 1]
    assert page("offset=1001") == []
    assert page("offset=9007199254740993") == []
    assert len(page("limit=1000")) == PAGE_ROWS_MAX
    assert len(page("limit=99999999999999999999")) == PAGE_ROWS_MAX


def test_the_list_can_be_narrowed_to_a_status(rest: Rest) -> None:
    rest.register("w1")
    won, lost, gone, held, waiting = (rest.submit() for _ in range(5))
    rest.post(f"/jobs/{gone}/cancel")
    for job, status in ((won, "success"), (lost, "failed")):
        assert rest.take("w1")["id"] == job
        rest.report(job, "w1", status)
    assert rest.take("w1")["id"] == held

    def listed(status: str) -> list[int]:
        return [job["id"] for job in rest.get("/jobs", query_string=f"status={status}").json]

    expected = {"success": won, "failed": lost, "cancelled": gone, "running": held, "pending": waiting}
    assert {status: listed(status) for status in expected} == {status: [job] for status, job in expected.items()}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=", "limit"),
        ("limit=ten", "limit"),
        ("limit=1.0", "limit"),
        ("limit=%D9%A1", "limit"),
        ("offset=-1", "offset"),
        ("offset=x", "offset"),
        ("status=done", "status"),
        ("status=", "status"),
        ("stauts=success", "stauts"),
    ],
)
def test_a_parameter_that_can_not_be_meant_is_refused_by_name(rest: Rest, query: str, name: str) -> None:
    answer = rest.get("/jobs", query_string=query)
    [error] = answer.json["errors"]
    problem(answer, 400, "invalid_request", f"{name}: {error['detail']}", (name, error["detail"]))


@pytest.mark.parametrize("path", ["/jobs/1", "/jobs/1/runs", "/runs/1", "/runs/1/log", "/workers", "/workers/w1"])
def test_every_read_refuses_a_parameter_that_it_does_not_know(rest: Rest, path: str) -> None:
    rest.submit()
    rest.register("w1")
    assert rest.get(path).status_code == 200
    answer = rest.get(path, query_string="colour=blue")
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "colour"


def test_asking_for_work_with_a_parameter_hands_out_nothing(rest: Rest) -> None:
    job = rest.submit()
    rest.register("w1")
    assert rest.get("/workers/w1/next", query_string="wait=5").status_code == 400
    assert rest.get(f"/jobs/{job}").json["status"] == "pending"


# --- ids -------------------------------------------------------------------------------------------------------------

OF_A_JOB = [
    ("GET", "/jobs/{}"),
    ("HEAD", "/jobs/{}"),
    ("GET", "/jobs/{}/runs"),
    ("POST", "/jobs/{}/cancel"),
    ("POST", "/jobs/{}/log"),
]
OF_A_RUN = [("GET", "/runs/{}"), ("GET", "/runs/{}/log")]
REPORT = {"worker_id": "w1", "status": "success"}


@pytest.mark.parametrize("number", ["0", "7", "007", "9007199254740992", "9007199254740993", "9" * 5_000])
@pytest.mark.parametrize(("what", "calls"), [("job", OF_A_JOB), ("run", OF_A_RUN)])
def test_what_does_not_exist_is_404(rest: Rest, number: str, what: str, calls: list[tuple[str, str]]) -> None:
    for method, path in calls:
        answer = rest.call(method, path.format(number), json=REPORT if path.endswith("/log") else None)
        assert answer.status_code == 404
        if method != "HEAD":
            problem(answer, 404, f"unknown_{what}", f"{what.capitalize()} not found")


@pytest.mark.parametrize("text", ["abc", "-1", "1.0", "1x", "%20", "%D9%A1", "0x1", "+1", "1%0A", "%00"])
@pytest.mark.parametrize(("what", "calls"), [("job", OF_A_JOB), ("run", OF_A_RUN)])
def test_invalid_number_is_not_an_id(rest: Rest, text: str, what: str, calls: list[tuple[str, str]]) -> None:
    for method, path in calls:
        answer = rest.call(method, path.format(text), json=REPORT if path.endswith("/log") else None)
        assert answer.status_code == 400
        if method != "HEAD":
            problem(answer, 400, "invalid_id", f"Invalid {what} ID")


# --- one job, its runs, what they wrote ------------------------------------------------------------------------------


def test_a_job_shows_its_last_run_from_pending_to_its_end(rest: Rest) -> None:
    job = rest.submit("echo hi")
    last = rest.get(f"/jobs/{job}").json["last_run"]
    times(last, "created_at")
    assert last == {"run_id": 1, "job_id": job, "attempt": 1, "status": "pending"}

    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")
    last = rest.get(f"/jobs/{job}").json["last_run"]
    times(last, "created_at", "start_time")
    assert last == {"run_id": 1, "job_id": job, "attempt": 1, "status": "running", "worker_id": "w1"}

    rest.report(job, "w1", "success", logs="STDOUT:\nhi\n\n\nSTDERR:\n", exit_code=0)
    view = rest.get(f"/jobs/{job}").json
    times(view, "created_at", "updated_at")
    last = view.pop("last_run")
    assert view == {"id": job, "name": "j", "command": "echo hi", "status": "success", "owner": ME}
    times(last, "created_at", "start_time", "end_time")
    ended = {"run_id": 1, "job_id": job, "attempt": 1, "worker_id": "w1", "status": "success"}
    assert last == {**ended, "reason": "exit", "exit_code": 0, "logs": "STDOUT:\nhi\n\n\nSTDERR:\n"}


def test_a_jobs_runs_are_a_bare_array_newest_first(rest: Rest) -> None:
    job = rest.submit()
    for _ in range(2):
        rest.register("w1")
        rest.take("w1")
        rest.report(job, "w1", "running")
    rest.report(job, "w1", "success", exit_code=0)

    runs = rest.get(f"/jobs/{job}/runs").json
    assert [(run["run_id"], run["status"], run["reason"]) for run in runs] == [
        (2, "success", "exit"),
        (1, "failed", "worker_lost"),
    ]
    assert rest.get("/runs/2").json == runs[0] == rest.get(f"/jobs/{job}").json["last_run"]
    assert [run["run_id"] for run in rest.get(f"/jobs/{job}/runs", query_string="limit=1").json] == [2]


def test_a_runs_log_is_its_bytes_as_plain_text(rest: Rest) -> None:
    job = rest.submit()
    assert rest.get("/runs/1/log").content == b""
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "failed", logs="a <b>\n\x1b[31mé", exit_code=3)

    answer = rest.get("/runs/1/log")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.content == "a <b>\n\x1b[31mé".encode()
    assert rest.get("/runs/1/log", query_string="stream=stdout").content == answer.content
    assert rest.get("/runs/1/log", query_string="stream=stderr").content == b""
    problem(
        rest.get("/runs/1/log", query_string="stream=both"),
        400,
        "invalid_request",
        "stream: stdout or stderr",
        ("stream", "stdout or stderr"),
    )


# --- cancel ----------------------------------------------------------------------------------------------------------


def test_a_cancelled_pending_job_is_never_handed_out(rest: Rest) -> None:
    job = rest.submit()

    answer = rest.post(f"/jobs/{job}/cancel")
    assert answer.status_code == 200
    view = answer.json
    assert view == rest.get(f"/jobs/{job}").json
    assert view["status"] == view["last_run"]["status"] == view["last_run"]["reason"] == "cancelled"
    assert TIME.fullmatch(view["cancelled_at"])
    rest.register("w1")
    assert rest.get("/workers/w1/next").json == {"job": None}


def test_what_has_ended_can_not_be_cancelled(rest: Rest) -> None:
    job = rest.submit()
    rest.post(f"/jobs/{job}/cancel")
    before = rest.get(f"/jobs/{job}").json

    answer = rest.post(f"/jobs/{job}/cancel")
    problem(answer, 409, "finished", f"Nothing of job {job} is pending or running")
    assert rest.get(f"/jobs/{job}").json == before


@pytest.mark.slow
def test_a_run_without_an_end_is_ended_by_the_scheduler(rest: Rest) -> None:
    """Its own time and the grace after it are over, and the worker has not said a word: the slot is free again."""
    job = rest.submit(timeout="1ms")
    rest.register("w1")
    rest.take("w1")
    rest.report(job, "w1", "running")

    until(lambda: rest.get(f"/jobs/{job}").json["status"] == "failed")
    last = rest.get(f"/jobs/{job}").json["last_run"]
    assert last["reason"] == "timeout"
    assert rest.report(job, "w1", "success").status_code == 409
    assert rest.get("/workers/w1/next").json == {"job": None}
