"""POST /jobs/purge: old jobs are counted and removed, which needs the scope operate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.rest import Rest
from zsched.api import purge
from zsched.api.app import NEEDS
from zsched.model.access import Scope


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def cancelled(rest: Rest) -> int:
    job = rest.submit()
    assert rest.post(f"/jobs/{job}/cancel").status_code == 200
    return job


def test_jobs_are_counted_and_removed(rest: Rest) -> None:
    gone = [cancelled(rest) for _ in range(3)]
    live = rest.submit()
    wanted = {"success": 0, "failed": 0, "cancelled": 3, "more": False}
    body = {"older_than": "0"}
    assert rest.post("/jobs/purge", {**body, "dry_run": True}).json == wanted
    assert [job["id"] for job in rest.get("/jobs").json] == [live, *reversed(gone)]
    assert rest.post("/jobs/purge", body).json == wanted
    assert [job["id"] for job in rest.get("/jobs").json] == [live]
    assert rest.get(f"/jobs/{gone[0]}").status_code == 404
    assert rest.post("/jobs/purge", body).json == {**wanted, "cancelled": 0}
    assert rest.submit() == live + 1


def test_age_and_status_are_respected(rest: Rest) -> None:
    cancelled(rest)
    none = {"success": 0, "failed": 0, "cancelled": 0, "more": False}
    assert rest.post("/jobs/purge", {"older_than": "1h"}).json == none
    assert rest.post("/jobs/purge", {"older_than": "0", "status": "failed"}).json == none
    assert len(rest.get("/jobs").json) == 1


def test_a_call_that_takes_long_has_more(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BULK_MS_MAX", -1)
    monkeypatch.setattr(purge, "PURGE_COUNTED_MAX", 1)
    jobs = [cancelled(rest) for _ in range(3)]
    found = rest.post("/jobs/purge", {"older_than": "0", "dry_run": True, "status": "cancelled"}).json
    assert (found["cancelled"], found["more"]) == (1, True)
    assert len(rest.get("/jobs").json) == len(jobs)


@pytest.mark.parametrize("body", [{}, {"older_than": "soon"}, {"older_than": "1d", "status": "running"}])
def test_invalid_body_is_refused(rest: Rest, body: dict[str, str]) -> None:
    assert rest.post("/jobs/purge", body).status_code == 400


def test_scope_is_operate() -> None:
    assert NEEDS["/jobs/purge"] == {"POST": (Scope.OPERATE,)}
