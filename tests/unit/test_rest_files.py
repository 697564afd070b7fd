"""Files and artifacts over REST: how they are submitted, listed and downloaded."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.unit.rest import Rest, problem
from zsched.model.files import File
from zsched.model.limits import FILES_BYTES_MAX
from zsched.model.types import JobId, RunId, RunStatus, Stream, WorkerId
from zsched.scheduler.dispatcher.commands import Report

SAFE = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
PAGE = b"<script>alert(1)</script>\0\xff"


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        started.register("r1", can=["files", "artifacts", "task"])
        yield started


def encoded(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def end(rest: Rest, job: int, **artifacts: Any) -> int:
    """The job's run ends with these artifacts; returns the run."""
    run = int(rest.take("r1")["run_id"])
    assert rest.report(job, "r1", "success", artifacts=artifacts).status_code == 200
    return run


def test_files_of_a_submitted_job_reach_a_polling_worker(rest: Rest) -> None:
    job = rest.submit(files={"a/b": "ü", "c": {**encoded(b"\0"), "mode": "755"}}, artifacts=["out/*"])
    view = rest.get(f"/jobs/{job}").json
    assert (view["files_bytes"], view["artifacts"]) == (3, ["out/*"])
    taken = rest.take("r1")
    assert taken["files"] == {
        "a/b": {"text": None, "base64": "w7w=", "mode": "0644"},
        "c": {"text": None, "base64": "AA==", "mode": "0755"},
    }
    assert taken["artifacts"] == ["out/*"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"files": {"../a": "x"}}, "#/files/..~1a"),
        ({"files": {"/etc/passwd": "x"}}, "#/files/~1etc~1passwd"),
        ({"files": {"a": {"text": "x", "owner": "root"}}}, "#/files/owner"),
        ({"files": {"a": {"base64": "?"}}}, "#/files/a/base64"),
        ({"files": {"a": {"text": "x", "mode": "4755"}}}, "#/files/a/mode"),
        ({"files": {"a": 1}}, "#/files"),
        ({"artifacts": ["ok", "../x"]}, "#/artifacts/1"),
        ({"artifacts": "a"}, "#/artifacts"),
    ],
)
def test_bad_file_is_refused_with_its_place(rest: Rest, fields: dict[str, Any], pointer: str) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", **fields})
    assert answer.status_code == 400, answer.text
    assert answer.json["errors"][0]["pointer"].startswith(pointer)
    # A pointer is for programs.
    assert "~1" not in answer.json["error"]
    assert rest.get("/jobs").json == []


def test_files_beyond_one_mib_are_refused_and_shared_storage_is_named(rest: Rest) -> None:
    rest.submit(files={"a": "x" * FILES_BYTES_MAX})
    answer = rest.post("/jobs", {"name": "j", "command": "true", "files": {"a": "x" * (FILES_BYTES_MAX + 1)}})
    assert answer.status_code == 400
    assert "shared storage" in answer.json["detail"]


def test_artifacts_are_listed_and_downloaded_by_job_and_run(rest: Rest) -> None:
    job = rest.submit(artifacts=["*"])
    assert rest.get(f"/jobs/{job}/artifacts").json == []
    run = end(rest, job, **{"out/a.csv": "1,2", "b": {**encoded(PAGE), "mode": "700"}})
    listed = [
        {"run_id": run, "path": "b", "bytes": len(PAGE), "mode": "0700"},
        {"run_id": run, "path": "out/a.csv", "bytes": 3, "mode": "0644"},
    ]
    for path in (f"/jobs/{job}/artifacts", f"/runs/{run}/artifacts"):
        assert rest.get(path).json == listed
        assert rest.get(f"{path}/b").content == PAGE
        assert rest.get(f"{path}/out/a.csv").content == b"1,2"
        assert rest.call("HEAD", f"{path}/b").headers["Content-Length"] == str(len(PAGE))


def test_each_task_of_an_array_has_its_artifacts(rest: Rest) -> None:
    job = rest.submit(artifacts=["*"], array="3-4")
    for task in (3, 4):
        taken = rest.take("r1")
        assert taken["task"] == task
        done = rest.report(job, "r1", "success", run_id=taken["run_id"], artifacts={"a": f"of {task}"})
        assert done.status_code == 200, done.text
    assert [rest.get(f"/jobs/{job}/artifacts/a?task={task}").text for task in (3, 4)] == ["of 3", "of 4"]
    assert [listed["bytes"] for listed in rest.get(f"/jobs/{job}/artifacts?task=3").json] == [4]
    assert rest.get(f"/jobs/{job}/artifacts/a").text == "of 4"
    for path in ("artifacts", "artifacts/a", "log", "runs"):
        sentence = f"Job {job} has no task 5: its tasks are 3-4"
        problem(rest.get(f"/jobs/{job}/{path}?task=5"), 404, "unknown_task", sentence)
    for path in ("artifacts", "artifacts/a", "log"):
        which = "the index of a single task, such as 3"
        problem(rest.get(f"/jobs/{job}/{path}?task=3-4"), 400, "invalid_request", f"task: {which}", ("task", which))
    plain = rest.submit(artifacts=["*"])
    assert rest.get(f"/jobs/{plain}/artifacts?task=0").json["code"] == "no_array"
    held = rest.submit(array="3-4", hold=True)
    said = f"Task 3 of job {held} has not had a run yet"
    problem(rest.get(f"/jobs/{held}/log?task=3"), 404, "unknown_run", said)


def test_browser_gets_a_download_that_it_may_not_run(rest: Rest) -> None:
    job = rest.submit(artifacts=["*"])
    end(rest, job, **{"page.html": encoded(PAGE)})
    headers = rest.get(f"/jobs/{job}/artifacts/page.html").headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Content-Disposition"] == 'attachment; filename="page.html"'
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = [part.strip() for part in headers["Content-Security-Policy"].split(";")]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("name", ["a\nb: c", '"; x="', "ü", "\x1b[2J", "a b", "%41", "?", "#", "\u202ex", "a;b", "-rf"])
def test_hostile_name_changes_no_header(rest: Rest, name: str) -> None:
    job = rest.submit(artifacts=["*"])
    run = int(rest.take("r1")["run_id"])
    # The rules of a submit refuse such names; a run may have them.
    rest.context.inbox.call(report(job, run, name))
    assert [file["path"] for file in rest.get(f"/runs/{run}/artifacts").json] == [f"dir/{name}"]
    answer = rest.get(f"/runs/{run}/artifacts/dir/{quote(name)}")
    assert answer.content == b"x"
    before, quoted, after = answer.headers["Content-Disposition"].split('"')
    assert (before, after) == ("attachment; filename=", "")
    assert set(quoted) <= SAFE
    assert quoted


def report(job: int, run: int, name: str) -> Report:
    return Report(JobId(job), WorkerId("r1"), RunStatus.SUCCESS, RunId(run), Stream(), 0, (File(f"dir/{name}", b"x"),))


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/9/artifacts",
        "/runs/9/artifacts",
        "/jobs/9/artifacts/a",
        "/runs/9/artifacts/a",
        "/jobs/1/artifacts/none",
        "/jobs/1/artifacts/../a",
        "/jobs/1/artifacts/..",
        "/jobs/1/artifacts/a/b",
    ],
)
def test_unknown_artifact_is_404(rest: Rest, path: str) -> None:
    end(rest, rest.submit(artifacts=["*"]), a="x")
    assert rest.get(path).status_code == 404


def test_job_without_a_run_has_no_artifacts(rest: Rest) -> None:
    job = rest.submit(schedule="0 0 1 1 *", artifacts=["a"])
    assert rest.get(f"/jobs/{job}/artifacts").json == []
    assert rest.get(f"/jobs/{job}/artifacts/a").status_code == 404


def test_worker_without_the_features_gets_no_such_job_and_why_says_so(rest: Rest) -> None:
    rest.register("r1")
    job = rest.submit(files={"a": "x"}, artifacts=["b"])
    assert rest.get("/workers/r1/next").json == {"job": None}
    why = rest.get(f"/jobs/{job}").json["why"]
    assert why["code"] == "no_match"
    assert "artifacts, files" in why["detail"]


def test_running_report_has_no_artifacts(rest: Rest) -> None:
    job = rest.submit(artifacts=["*"])
    rest.take("r1")
    assert rest.report(job, "r1", "running", artifacts={"a": "x"}).status_code == 400
    assert rest.report(job, "r1", "success", artifacts={"../a": "x"}).status_code == 400
    too_much = {"a": "x" * (FILES_BYTES_MAX + 1)}
    answer = rest.report(job, "r1", "success", artifacts=too_much)
    assert answer.status_code == 400
    assert "shared storage" in answer.json["detail"]


def test_deleted_job_takes_its_artifacts_along(rest: Rest) -> None:
    job = rest.submit(artifacts=["*"])
    run = end(rest, job, a="x")
    assert rest.call("DELETE", f"/jobs/{job}").status_code == 200
    assert rest.get(f"/runs/{run}/artifacts").status_code == 404
