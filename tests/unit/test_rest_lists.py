"""Filters of lists over REST: jobs and events, tags, searches that end early, and answers that a caller has already."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from falcon import testing

from tests.unit.rest import ME, Rest, problem
from zsched.api import search
from zsched.model.limits import TAGS_MAX


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


def ids(answer: testing.Result) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [row["id"] for row in answer.json]


def walk(rest: Rest, path: str) -> tuple[list[int], int]:
    """The ids of all rows from this page on, and the number of pages."""
    found: list[int] = []
    pages = 0
    following: str | None = path
    while following:
        answer = rest.get(following)
        found += ids(answer)
        pages += 1
        link = answer.headers.get("Link")
        following = None if link is None else link[1 : link.index(">")]
    return found, pages


def test_tags_are_stored_sorted_and_without_repetition(rest: Rest) -> None:
    job = rest.submit(tags=["x", "team=data", "x"])
    assert rest.get(f"/jobs/{job}").json["tags"] == ["team=data", "x"]
    assert "tags" not in rest.get(f"/jobs/{rest.submit()}").json
    assert "tags" not in rest.get(f"/jobs/{rest.submit(tags=[])}").json


@pytest.mark.parametrize("tag", ["", " ", "a b", "a,b", "é", "-a", "a" * 65, "a\0"])
def test_invalid_tag_is_refused(rest: Rest, tag: str) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "tags": ["fine", tag]})
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == "#/tags/1"


def test_too_many_tags_are_refused(rest: Rest) -> None:
    answer = rest.post("/jobs", {"name": "j", "command": "true", "tags": [f"t{n}" for n in range(TAGS_MAX + 1)]})
    assert answer.status_code == 400
    assert "at most 16 tags" in answer.json["error"]
    rest.submit(tags=[f"t{n}" for n in range(TAGS_MAX)])


def test_filters_find_jobs(rest: Rest) -> None:
    rest.register("w1")
    first = rest.submit(name="Build")
    rest.take("w1")
    rest.report(first, "w1", "failed")
    second = rest.submit(name="build-docs", tags=["docs"])
    third = rest.submit(name="deploy", tags=["docs", "live"])
    assert ids(rest.get("/jobs?name=Build")) == [first]
    assert ids(rest.get("/jobs?search=build")) == [second, first]
    assert ids(rest.get("/jobs?tag=docs")) == [third, second]
    assert ids(rest.get("/jobs?tag=docs&search=DEP&status=pending&owner=me")) == [third]
    assert ids(rest.get("/jobs?worker=w1")) == [first]
    assert ids(rest.get("/jobs?since=1h")) == [third, second, first]
    assert ids(rest.get("/jobs?since=2099-01-01T00:00:00Z")) == []
    assert walk(rest, "/jobs?tag=docs&limit=1") == ([third, second], 2)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("name=", "name"),
        ("name=" + 257 * "a", "name"),
        ("search=a%00", "search"),
        ("since=yesterday", "since"),
        ("since=1", "since"),
        ("tag=a&offset=1", "offset"),
        ("tag=a&first=1", "tag"),
    ],
)
def test_invalid_filter_of_jobs_is_refused(rest: Rest, query: str, where: str) -> None:
    answer = rest.get(f"/jobs?{query}")
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == where


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches end after one step of two ids."""
    monkeypatch.setattr(search, "SEARCH_MS_MAX", 1e-9)
    monkeypatch.setattr(search, "SEARCH_IDS_MIN", 2)


@pytest.mark.usefixtures("hasty")
def test_search_that_ends_early_goes_on_by_its_link(rest: Rest) -> None:
    wanted = [rest.submit(name="wanted" if n % 4 == 0 else "other") for n in range(9)][::4]
    answer = rest.get("/jobs?search=WANT&limit=5")
    assert len(ids(answer)) < 3
    assert "Link" in answer.headers
    assert walk(rest, "/jobs?search=WANT&limit=5") == (wanted[::-1], 5)
    assert walk(rest, "/jobs?search=nothing") == ([], 5)
    kinds = walk(rest, "/events?kind=pending")
    assert kinds == (list(range(1, 10)), 5)


def test_filters_find_events(rest: Rest) -> None:
    rest.register("w1")
    first, second = rest.submit(), rest.submit()
    rest.take("w1")

    def became(path: str) -> list[str]:
        return [event["became"] for event in rest.get(path).json]

    assert became(f"/events?job={first}") == ["pending", "running"]
    assert became(f"/events?job={second}") == ["pending"]
    run = rest.get(f"/jobs/{first}").json["last_run"]["run_id"]
    assert became(f"/events?run={run}&kind=running") == ["running"]
    assert became("/events?worker=w1") == ["active", "running"]
    assert became("/events?since=2099-01-01T00:00:00Z") == []
    everything = rest.get("/events?since=1h").json
    assert everything == rest.get("/events").json
    assert rest.get("/events").headers["Zsched-Next"] == str(everything[-1]["id"])
    assert rest.get("/events?job=99").headers["Zsched-Next"] == str(everything[-1]["id"])
    assert rest.get("/events?after=999").headers["Zsched-Next"] == str(everything[-1]["id"])
    assert rest.get("/events?limit=1").headers["Zsched-Next"] == str(everything[0]["id"])


@pytest.mark.parametrize(("query", "where"), [("kind=nonsense", "kind"), ("job=0", "job"), ("run=x", "run")])
def test_invalid_filter_of_events_is_refused(rest: Rest, query: str, where: str) -> None:
    answer = rest.get(f"/events?{query}")
    assert answer.status_code == 400
    assert answer.json["errors"][0]["pointer"] == where


def test_unchanged_answer_is_304(rest: Rest) -> None:
    job = rest.submit()
    for path in (f"/jobs/{job}", "/jobs", "/jobs?tag=none", "/workers"):
        answer = rest.get(path)
        tag = answer.headers["ETag"]
        for asked in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            again = rest.get(path, headers={"If-None-Match": asked})
            assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        assert rest.get(path, headers={"If-None-Match": '"other"'}).json == answer.json


def test_changed_answer_is_sent(rest: Rest) -> None:
    job = rest.submit()
    tags = {path: rest.get(path).headers["ETag"] for path in (f"/jobs/{job}", "/jobs")}
    assert rest.post(f"/jobs/{job}/cancel").status_code == 200
    for path, tag in tags.items():
        answer = rest.get(path, headers={"If-None-Match": tag})
        assert answer.status_code == 200
        assert answer.headers["ETag"] != tag


def test_same_rows_with_another_link_are_sent(rest: Rest) -> None:
    """Else a caller would miss that a page follows now."""
    first = rest.submit()
    path = f"/jobs?first={first}&limit=1"
    answer = rest.get(path)
    assert "Link" not in answer.headers
    rest.submit()
    again = rest.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.json) == (200, answer.json)
    assert "Link" in again.headers


def test_large_page_has_a_tag(rest: Rest) -> None:
    jobs: list[dict[str, Any]] = [{"name": "j", "command": "true " + 90_000 * "x"}] * 8
    assert rest.post("/jobs", jobs).status_code == 201
    answer = rest.get("/jobs")
    again = rest.get("/jobs", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    # The server would log that bytes of it are missing, and close the connection.
    assert "Content-Length" in answer.headers
    assert "Content-Length" not in again.headers


def test_answers_that_are_not_kept_have_no_tag(rest: Rest) -> None:
    for path in ("/events", "/healthz", "/jobs/99"):
        assert "ETag" not in rest.get(path).headers


def test_owner_filter_goes_with_the_others(rest: Rest) -> None:
    job = rest.submit(name="mine")
    assert ids(rest.get(f"/jobs?name=mine&owner={ME}")) == [job]
    assert ids(rest.get("/jobs?name=mine&owner=user:nobody-else")) == []
    problem(
        rest.get("/jobs?owner=x"),
        400,
        "invalid_request",
        "owner: me, user:NAME or token:NAME",
        ("owner", "me, user:NAME or token:NAME"),
    )
