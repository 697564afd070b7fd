"""Flow files, and flows as trees on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zsched.client.client import Client, Job, Refused
from zsched.commands import flow, tree
from zsched.commands.exits import Failure

TOML = """
[jobs.fetch]
command = "true"
run_at = 2030-01-02T03:04:05Z
[jobs.report]
argv = ["echo", "a b"]
after = ["fetch:any", 12]
"""


def written(folder: Path, text: str, name: str = "flow.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_file_is_read_as_toml_or_json(tmp_path: Path) -> None:
    jobs = flow.read(written(tmp_path, TOML))
    assert jobs == {
        "fetch": {"command": "true", "run_at": "2030-01-02T03:04:05+00:00"},
        "report": {"argv": ["echo", "a b"], "after": ["fetch:any", 12]},
    }
    assert flow.read(written(tmp_path, json.dumps({"jobs": jobs}), "flow.json")) == jobs
    assert flow.read(written(tmp_path, json.dumps({"jobs": jobs}), "flow")) == jobs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[jobs.a\n", "invalid TOML: Expected ']' at the end of a table declaration (at line 1, column 8)"),
        ("[job.a]\n", "unknown 'job': a flow file has nothing but jobs, each as [jobs.NAME]"),
        ("", "no jobs: write each as [jobs.NAME] with a command"),
        ("[jobs]\na = 1\n", "jobs.a is not a table: write [jobs.a] with a command"),
        ('{"jobs": {"a": {}, "a": {}}}', "invalid JSON: the key 'a' stands there twice"),
        ('{"jobs": {', "invalid JSON: Expecting property name enclosed in double quotes (line 1, column 11)"),
    ],
)
def test_fault_of_a_file_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = written(tmp_path, text, "flow")
    with pytest.raises(Failure) as failure:
        flow.read(file)
    assert str(failure.value) == f"{file}: {said}"


def test_all_faults_of_a_file_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "job = 1\nflow = 2\n[jobs]\na = 1\nb = 2\n")
    with pytest.raises(Failure, match=r"jobs\.b is not a table"):
        flow.read(file)
    only = "a flow file has nothing but jobs, each as [jobs.NAME]"
    assert capsys.readouterr().err.splitlines() == [
        f"zsched: {file}: unknown 'job': {only}",
        f"zsched: {file}: unknown 'flow': {only}",
        f"zsched: {file}: jobs.a is not a table: write [jobs.a] with a command",
    ]


def test_relative_folder_is_below_the_caller_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PWD", raising=False)
    jobs: dict[str, dict[str, Any]] = {
        "a": {"cwd": "data"},
        "b": {"cwd": "/srv"},
        "c": {"cwd": ""},
        "d": {"cwd": 1},
        "e": {},
    }
    placed = flow.with_own_place(jobs)
    assert [placed[name].get("cwd") for name in jobs] == [f"{tmp_path}/data", "/srv", "", 1, None]
    assert [placed[name].get("cwd_hint") for name in placed] == [None, None, None, None, str(tmp_path)]


def test_faults_of_jobs_name_file_job_field_and_remedy() -> None:
    error = Refused(400, "invalid_request", "")
    error.faults = [
        ("#/jobs/report/after/0", "the flow has no job fetcj; did you mean fetch?"),
        ("#/jobs/fetch/timeuot", "unknown field"),
        ("#/jobs/a~1b", "invalid name"),
        ("#/jobs", "Expected `object`"),
    ]
    assert list(flow.faults("flow.toml", error)) == [
        "flow.toml: job report: after: the flow has no job fetcj; did you mean fetch?",
        "flow.toml: job fetch: timeuot: unknown field; did you mean timeout?",
        "flow.toml: job a/b: invalid name",
        "flow.toml: jobs: Expected `object`",
    ]


def job(number: int, name: str, status: str = "success", *after: str, run: dict[str, Any] | None = None) -> Job:
    view = {"id": number, "name": name, "status": status, "after": list(after), "last_run": run or {}}
    return Job(Client("http://localhost:1"), view)


def test_jobs_stand_below_the_last_that_they_wait_for() -> None:
    failed = job(3, "check", "failed", "1", run={"status": "failed", "reason": "exit", "exit_code": 1})
    jobs = [job(1, "fetch"), job(2, "count", "success", "1"), failed, job(4, "report", "pending", "2", "3:any", "9")]
    assert list(tree.lines(jobs)) == [
        "fetch         1  success",
        "├─ count      2  success",
        "└─ check      3  failed (exit code 1)",
        "   └─ report  4  pending  (after count, check)",
    ]
    assert tree.head(1, jobs) == "flow 1: 4 jobs, 1 pending, 1 failed, 2 success"


def test_job_that_waits_for_one_task_stands_below_its_array() -> None:
    jobs = [job(1, "count"), job(2, "look", "success", "1.3:any"), job(3, "both", "success", "1.0", "1.1")]
    assert list(tree.lines(jobs)) == ["count    1  success", "├─ look  2  success", "└─ both  3  success"]


def test_many_jobs_that_are_alike_are_shown_together() -> None:
    parts = [job(number, f"part-{number}", "success", "1") for number in range(2, 52)]
    last = job(52, "reduce", "running", *(str(number) for number in range(2, 52)))
    assert list(tree.lines([job(1, "fetch"), *parts, last])) == [
        "fetch          1  success",
        "├─ part-2      2  success",
        "├─ part-3      3  success",
        "├─ … 47 more      success",
        "└─ part-51    51  success",
        "   └─ reduce  52  running  (after part-2, part-3, part-4 and 47 more)",
    ]


def test_chain_of_thousands_is_shown_without_recursion() -> None:
    jobs = [job(1, "a"), *(job(number, "a", "success", str(number - 1)) for number in range(2, 3_001))]
    assert len(list(tree.lines(jobs))) == 3_000
