"""`after` and flows over REST."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.rest import Rest, problem

PIPELINE: dict[str, Any] = {
    "report": {"command": "true", "after": ["left", "right:any"]},
    "left": {"command": "true", "after": ["fetch"]},
    "right": {"command": "true", "after": ["fetch"], "name": "the right one"},
    "fetch": {"command": "true"},
}


FORMS = "write the name of a job, or the number of one that exists, with :failed or :any for another end"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def run(rest: Rest, *, fails: bool = False) -> int:
    """Run the job that comes next; returns its number."""
    rest.register("w1")
    job = int(rest.take("w1")["id"])
    rest.report(job, "w1", "failed" if fails else "success", exit_code=int(fails))
    return job


def faults(answer: Any) -> dict[str, str]:
    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request"), answer.text
    return {fault["pointer"]: fault["detail"] for fault in answer.json["errors"]}


# --- after ---


def test_job_shows_what_it_waits_for_and_why(rest: Rest) -> None:
    first = rest.submit()
    second = rest.submit(after=[first, f"{first}:any"][:1])
    view = rest.get(f"/jobs/{second}").json
    assert view["after"] == [str(first)]
    assert view["why"] == {"code": "dependency", "detail": f"it waits for the end of job {first} (pending)"}
    assert run(rest) == first
    assert run(rest) == second


def test_reason_names_the_first_jobs_and_counts_the_others(rest: Rest) -> None:
    jobs = [rest.submit() for _ in range(7)]
    last = rest.submit(after=jobs)
    named = ", ".join(f"{job} (pending)" for job in jobs[:5])
    assert rest.get(f"/jobs/{last}").json["why"]["detail"] == f"it waits for the end of job {named} and 2 other jobs"


def test_array_of_jobs_names_earlier_ones_by_their_places(rest: Rest) -> None:
    body = [{"name": "a", "command": "true"}, {"name": "b", "command": "true", "after": ["#1:any"]}]
    first, second = rest.post("/jobs", body).json
    assert second["after"] == [f"{first['id']}:any"]
    assert run(rest) == first["id"]
    assert run(rest) == second["id"]


@pytest.mark.parametrize(
    ("after", "detail"),
    [
        (["x"], "'x' names no job"),
        ([0], "'0' names no job"),
        (["12:sometimes"], "'12:sometimes' names no job"),
        (["#1"], "#1 names no earlier job of this request: the first job of a request waits for no other one of it"),
        ([99], "job 99 does not exist"),
        ([1, "1"], "1 names a job that stands there already: name it once"),
        (["1.3"], "job 1 has one task: name the job alone"),
        (["1:same"], "1:same is for two arrays: this job has no tasks"),
        (["1.2:same"], "1.2:same names one task: `same` is for a whole array"),
        ([2], "job 2 has a schedule: a recurring job has no end"),
    ],
)
def test_job_that_can_not_be_waited_for_is_refused(rest: Rest, after: list[Any], detail: str) -> None:
    rest.submit()
    rest.submit(schedule="0 0 1 1 *")
    answer = rest.post("/jobs", {"name": "j", "command": "true", "after": after})
    ((pointer, said),) = faults(answer).items()
    assert pointer == f"#/after/{len(after) - 1}"
    assert said.startswith(detail)


def test_places_and_bounds_of_an_array_are_checked(rest: Rest) -> None:
    jobs = [{"name": "j", "command": "true", "after": after} for after in ([], ["#3"], [])]
    assert list(faults(rest.post("/jobs", jobs))) == ["#/1/after/0"]
    first = {"name": "j", "command": "true", "array": "0-3"}
    tasks = [first, {**first, "array": "1-4", "after": ["#1:same"]}]
    (said,) = faults(rest.post("/jobs", tasks)).values()
    assert said == "#1:same needs equal indexes: job #1 has 0-3, and this job 1-4"
    many = [{"name": "j", "command": "true"}] * 101
    body = [*many, *({"name": "j", "command": "true", "after": [f"#{n}" for n in range(1, 102)]},) * 199]
    answer = rest.post("/jobs", body)
    assert (answer.status_code, answer.json["code"]) == (413, "too_many")
    assert faults(rest.post("/jobs", {"name": "j", "command": "true", "schedule": "0 0 1 1 *", "after": [1]})) == {
        "#/after": "not together with schedule, which says when the job runs"
    }


def test_rerun_and_removal_are_refused_where_others_need_it(rest: Rest) -> None:
    parent = rest.submit()
    child = rest.submit(after=[parent])
    run(rest, fails=True)
    assert rest.get(f"/jobs/{child}").json["last_run"]["reason"] == "dependency"
    answer = rest.post(f"/jobs/{child}/rerun")
    assert (answer.status_code, answer.json["code"]) == (409, "dependency")
    assert f"`zsched rerun {parent},{child}` runs both again" in answer.json["detail"]
    again = rest.post("/jobs/bulk", {"action": "rerun", "select": f"{child},{parent}"}).json
    assert again["done"] == {"count": 2, "jobs": f"{parent}-{child}"}
    assert run(rest) == parent
    answer = rest.call("DELETE", f"/jobs/{parent}")
    assert (answer.status_code, answer.json["code"]) == (409, "dependents")
    assert run(rest) == child
    assert rest.call("DELETE", f"/jobs/{parent}").status_code == 200


# --- flows ---


def test_flow_runs_in_its_order_and_is_shown_as_one(rest: Rest) -> None:
    answer = rest.post("/flows", {"jobs": PIPELINE})
    assert answer.status_code == 201
    flow, jobs = answer.json["flow"], answer.json["jobs"]
    assert answer.headers["Location"] == f"/flows/{flow}"
    assert (jobs["fetch"], set(jobs)) == (flow, set(PIPELINE))
    views = {view["id"]: view for view in rest.get(f"/jobs?flow={flow}").json}
    assert {view["flow"] for view in views.values()} == {flow}
    assert views[jobs["right"]]["name"] == "the right one"
    assert views[jobs["report"]]["after"] == [str(jobs["left"]), f"{jobs['right']}:any"]
    assert rest.get(f"/flows/{flow}").json == {
        "flow": flow,
        "status": "pending",
        "jobs": {"count": 4, "jobs": f"{flow}-{flow + 3}"},
        "by_status": {"pending": 4, "running": 0, "success": 0, "failed": 0, "cancelled": 0},
    }
    assert run(rest) == jobs["fetch"]
    assert {run(rest), run(rest, fails=True)} == {jobs["left"], jobs["right"]}
    assert rest.get(f"/flows/{flow}").json["status"] in ("pending", "failed")
    assert rest.get("/flows/99").json["code"] == "unknown_flow"


def test_flow_is_repaired_by_one_call(rest: Rest) -> None:
    flow = {"a": {"command": "true"}, "b": {"command": "true", "after": ["a"]}}
    jobs = rest.post("/flows", {"jobs": flow}).json["jobs"]
    run(rest, fails=True)
    select = f"flow:{jobs['a']}"
    assert rest.post("/jobs/wait", {"select": select}).json["failed"]["count"] == 2
    done = rest.post("/jobs/bulk", {"action": "rerun", "select": select, "status": "failed"}).json
    assert done["done"]["count"] == 2
    assert [run(rest), run(rest)] == [jobs["a"], jobs["b"]]
    for call in ({"action": "cancel", "select": f"{select},flow:99"}, {"select": "flow:99"}):
        answer = rest.post("/jobs/bulk" if "action" in call else "/jobs/wait", call)
        problem(answer, 404, "unknown_flow", "Flow 99 not found", ("#/select", "unknown flow"))


def test_repeated_flow_gets_the_same_answer(rest: Rest) -> None:
    once = {"headers": {"Idempotency-Key": "flow"}}
    first = rest.post("/flows", {"jobs": PIPELINE}, **once)
    again = rest.post("/flows", {"jobs": PIPELINE}, **once)
    assert again.json == first.json
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(rest.get("/jobs").json) == len(PIPELINE)


def test_all_faults_of_a_flow_are_reported_at_once(rest: Rest) -> None:
    flow = {
        "fetch": {"command": "true", "timeuot": "5m"},
        "train": {"command": "true", "after": ["fetcj", "report"], "retries": -1},
        "report": {"after": ["train:okay", "#1", "fetch", "fetch"]},
        "a b": {"command": "true"},
        "list": [],
    }
    found = faults(rest.post("/flows", {"jobs": flow}))
    assert found.pop("#/jobs/list").startswith("Expected `object`")
    assert found == {
        "#/jobs/train/after/0": "the flow has no job fetcj; did you mean fetch?",
        "#/jobs/report/after/0": f"invalid entry 'train:okay': {FORMS}",
        "#/jobs/report/after/1": f"invalid entry '#1': {FORMS}",
        "#/jobs/report/after/3": "fetch stands there twice: name it once",
        "#/jobs/a b": "invalid name of a job: 1 to 128 letters, digits, _ and -, a letter or _ first",
        "#/jobs/fetch/timeuot": "unknown field",
        "#/jobs/train/retries": "Expected `int` >= 0",
        "#/jobs/report/command": "required",
    }
    assert rest.get("/jobs").json == []


def test_no_fault_of_a_flow_hides_another(rest: Rest) -> None:
    flow = {
        "a/b": {"command": "true"},
        "x": {"comand": "true", "timeuot": 1, "retries": "no", "after": ["y:okay", 3.5, "12x", "0", 7]},
        "y": {"command": "true", "after": "x"},
        "z": {"command": "true", "after": ["z"]},
        "c1": {"command": "true", "after": ["c2", "y", "y:any"]},
        "c2": {"command": "true", "after": ["c1"]},
    }
    found = faults(rest.post("/flows", {"jobs": flow}))
    assert found.pop("#/jobs/x/retries").startswith("Expected `int")
    assert found.pop("#/jobs/y/after").startswith("Expected `array")
    assert found == {
        "#/jobs/a~1b": "invalid name of a job: 1 to 128 letters, digits, _ and -, a letter or _ first",
        "#/jobs/x/comand": "unknown field",
        "#/jobs/x/timeuot": "unknown field",
        "#/jobs/x/after/0": f"invalid entry 'y:okay': {FORMS}",
        "#/jobs/x/after/1": f"invalid entry: {FORMS}",
        "#/jobs/x/after/2": f"invalid entry '12x': {FORMS}",
        "#/jobs/x/after/3": f"invalid entry '0': {FORMS}",
        "#/jobs/z/after": "the job waits for itself: remove that",
        "#/jobs/c1/after/2": "y stands there twice: name it once",
        "#/jobs/c1/after": "the jobs wait for each other in a circle, c1 → c2 → c1: remove one of these",
    }


def test_faults_of_a_large_flow_are_found_in_little_time(rest: Rest) -> None:
    wrong = {f"number_{place:04}": {"command": "true", "after": [f"numbr_{place:04}"]} for place in range(2_000)}
    begin_s = time.thread_time()
    answer = rest.post("/flows", {"jobs": wrong})
    assert time.thread_time() - begin_s < 5
    assert answer.json["error"].endswith("; and 1980 more")
    assert faults(answer)["#/jobs/number_0000/after/0"] == "the flow has no job numbr_0000"
    assert faults(answer)["#/jobs"] == "1980 more faults are not listed"
    ring = {f"j{place}": {"command": "true", "after": [f"j{(place + 1) % 2_000}"]} for place in range(2_000)}
    (said,) = faults(rest.post("/flows", {"jobs": ring})).values()
    assert said.count("→") == 9
    many = {"a": {"command": "true", "after": ["12x"] * 20_001}}
    assert rest.post("/flows", {"jobs": many}).status_code == 413


def test_jobs_of_a_flow_are_named_by_their_names(rest: Rest) -> None:
    cron = {"command": "true", "schedule": "* * * * *"}
    two = {"command": "true", "after": ["tick.1"], "array": "0-1"}
    for first, said in (
        (cron, "job tick has a schedule: a recurring job has no end"),
        ({"command": "true"}, "job tick has one task: name the job alone"),
        ({"command": "true", "array": "5"}, "job tick has no task 1: its tasks are 5"),
    ):
        answer = rest.post("/flows", {"jobs": {"tick": first, "b": two}})
        assert faults(answer) == {"#/jobs/b/after/0": said}
        assert answer.json["error"] == f"b.after.0: {said}"
    same = {"tick": {"command": "true"}, "b": {"command": "true", "after": ["tick:same"]}}
    assert "tick:same is for two arrays" in faults(rest.post("/flows", {"jobs": same}))["#/jobs/b/after/0"]


def test_circle_and_unknown_number_are_refused(rest: Rest) -> None:
    circle = {name: {"command": "true", "after": [other]} for name, other in (("a", "b"), ("b", "c"), ("c", "a"))}
    (said,) = faults(rest.post("/flows", {"jobs": circle})).values()
    assert said == "the jobs wait for each other in a circle, a → c → b → a: remove one of these"
    answer = rest.post("/flows", {"jobs": {"a": {"command": "true"}, "b": {"command": "true", "after": ["a", 99]}}})
    assert faults(answer) == {"#/jobs/b/after/1": "job 99 does not exist"}
    assert faults(rest.post("/flows", {"jobs": {}}))
    assert faults(rest.post("/flows", {"job": {}}))
