"""Pages of lists: each is bounded in rows and bytes, and the links lead from each to the next until all was seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from falcon import testing

from tests.unit.rest import Rest, problem
from zsched.api import pages
from zsched.api.problem import Problem
from zsched.api.room import Room
from zsched.api.views import kept
from zsched.model.limits import (
    COMMAND_BYTES_MAX,
    ENV_BYTES_MAX,
    LOGS_BYTES_SHOWN,
    MIB,
    NAME_CHARS_MAX,
    PAGE_BYTES_MAX,
    SCHEDULE_CHARS_MAX,
)
from zsched.model.types import Stream

# The character that JSON writes in the most bytes: 6.
WORST = "\x01"
LARGEST = {"name": "j", "command": WORST * COMMAND_BYTES_MAX}
# A page that these tests need not wait for.
SMALL_BYTES = 2_000


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Rest]:
    with Rest(tmp_path) as started:
        yield started


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_BYTES_MAX", SMALL_BYTES)


def following(answer: testing.Result) -> str | None:
    """Where a page says that the next one is."""
    link = answer.headers.get("Link")
    if link is None:
        return None
    found = re.fullmatch(r'<(/[^<>]*)>; rel="next"', link)
    assert found is not None, link
    return found[1]


def walk(rest: Rest, path: str) -> list[list[Any]]:
    """All pages from this one on."""
    found = []
    at: str | None = path
    while at is not None:
        answer = rest.get(at)
        assert answer.status_code == 200, answer.text
        assert answer.json
        found.append(answer.json)
        at = following(answer)
    return found


def rows(found: list[list[Any]]) -> list[Any]:
    return [row for page in found for row in page]


def full(found: list[list[Any]], bytes_max: int) -> None:
    """No page is longer than may be, and each but the last has all that fits."""
    sizes = [len(msgspec.json.encode(page)) for page in found]
    assert max(sizes) <= bytes_max
    for page, size, after in zip(found, sizes, found[1:], strict=False):
        assert size + 1 + len(msgspec.json.encode(after[0])) > bytes_max, len(page)


# --- the true bound --------------------------------------------------------------------------------------------------


def test_a_list_of_the_largest_jobs_is_pages_of_eight_mebibytes(rest: Rest) -> None:
    for _ in range(2):
        assert rest.post("/jobs", [LARGEST] * 16).status_code == 201
    found = walk(rest, "/jobs?limit=1000")
    assert [job["id"] for job in rows(found)] == list(range(32, 0, -1))
    assert all(job["command"] == LARGEST["command"] for job in rows(found))
    assert len(found) == 3
    full(found, PAGE_BYTES_MAX)
    head = rest.call("HEAD", "/jobs?limit=1000")
    assert head.headers["Link"] == rest.get("/jobs?limit=1000").headers["Link"]
    assert int(head.headers["Content-Length"]) == len(rest.get("/jobs?limit=1000").content)


def test_the_answer_to_an_array_ends_early_and_leads_to_all_of_its_jobs(rest: Rest) -> None:
    rest.submit()
    key = {"Idempotency-Key": "once"}
    for replayed in (None, "true"):
        answer = rest.post("/jobs", [LARGEST] * 26, headers=key)
        assert (answer.status_code, answer.headers.get("Idempotency-Replayed")) == (201, replayed)
        assert answer.headers["Zsched-Jobs"] == "2-27"
        assert len(answer.content) <= PAGE_BYTES_MAX
        rest.submit()
        at = following(answer)
        assert at is not None
        found = [answer.json, *walk(rest, at)]
        assert [job["id"] for job in rows(found)] == list(range(2, 28))
        full(found, PAGE_BYTES_MAX)


def test_ten_thousand_jobs_of_usual_size_are_one_answer(rest: Rest) -> None:
    answer = rest.post("/jobs", [{"name": "j", "command": "make a"}] * 10_000)
    assert (answer.status_code, len(answer.json), answer.headers.get("Link")) == (201, 10_000, None)
    assert answer.headers["Zsched-Jobs"] == "1-10000"


def test_a_single_row_is_far_below_a_page() -> None:
    """So a page of one row, which has no bound of its own, needs none."""
    characters = COMMAND_BYTES_MAX + ENV_BYTES_MAX + NAME_CHARS_MAX + SCHEDULE_CHARS_MAX
    stream = Stream(head=b"\x01" * LOGS_BYTES_SHOWN, tail=b"\x01" * LOGS_BYTES_SHOWN, total=2**53)
    output = 2 * len(kept(stream, LOGS_BYTES_SHOWN, "all that is kept"))
    assert len(msgspec.json.encode(WORST)) - 2 == 6
    assert 6 * (characters + output) < 2 * MIB < PAGE_BYTES_MAX


# --- each list -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "query", ["limit=1000", "status=pending", "limit=3", "limit=1", "offset=0", "limit=7&offset=2"]
)
def test_jobs_keep_the_callers_parameters(rest: Rest, query: str) -> None:
    rest.post("/jobs", [{"name": "j", "command": "x" * 100 * number} for number in range(1, 21)])
    skipped = 2 if "offset=2" in query else 0
    found = walk(rest, f"/jobs?{query}")
    assert [job["id"] for job in rows(found)] == list(range(20 - skipped, 0, -1))
    assert len(found) > 5
    second = following(rest.get(f"/jobs?{query}"))
    assert second is not None
    assert ("offset=" in second) == ("offset=" in query)
    assert ("before=" in second) != ("offset=" in query)
    for part in query.split("&"):
        assert part in second or part.startswith("offset=")


@pytest.mark.usefixtures("small")
def test_a_page_has_one_row_at_least(rest: Rest) -> None:
    ids = [rest.submit("x" * 2 * SMALL_BYTES) for _ in range(3)]
    assert [[job["id"] for job in page] for page in walk(rest, "/jobs")] == [[number] for number in ids[::-1]]


def test_new_jobs_and_ended_ones_move_no_page(rest: Rest) -> None:
    """Of jobs that were there all the time none is left out."""
    ids = [rest.submit() for _ in range(6)]
    first = rest.get("/jobs?status=pending&limit=2")
    assert [job["id"] for job in first.json] == ids[:-3:-1]
    rest.submit()
    rest.post(f"/jobs/{ids[-1]}/cancel")
    at = following(first)
    assert at is not None
    assert [job["id"] for job in rows(walk(rest, at))] == ids[-3::-1]


def test_no_page_follows_the_last_one(rest: Rest) -> None:
    for _ in range(4):
        rest.submit()
    for query in ("limit=4", "limit=5", "limit=2&offset=2", "before=3&limit=2", "first=3&limit=2", "first=2&last=3"):
        assert "Link" not in rest.get(f"/jobs?{query}").headers, query
    assert rest.get("/jobs?before=1").json == []
    assert rest.get("/jobs?first=5").json == []


@pytest.mark.usefixtures("small")
def test_jobs_by_their_numbers_are_in_the_order_of_their_submit(rest: Rest) -> None:
    rest.post("/jobs", [{"name": "j", "command": "x" * 300}] * 30)
    assert [job["id"] for job in rows(walk(rest, "/jobs?first=5&last=25"))] == list(range(5, 26))
    assert [job["id"] for job in rows(walk(rest, "/jobs?first=28"))] == [28, 29, 30]
    assert [job["id"] for job in rows(walk(rest, "/jobs?last=3&limit=1"))] == [1, 2, 3]
    for other in ("status=pending", "owner=me", "offset=1", "before=7"):
        name, detail = other.partition("=")[0], "not together with first and last"
        answer = rest.get(f"/jobs?first=1&{other}")
        problem(answer, 400, "invalid_request", f"{name}: {detail}", (name, detail))


@pytest.mark.usefixtures("small")
def test_runs_of_a_job(rest: Rest) -> None:
    rest.register("w1")
    job = rest.submit(retries=30, backoff={"initial": "0s", "jitter": 0})
    for _ in range(20):
        rest.take("w1")
        rest.report(job, "w1", "failed")
    for query in ("", "?limit=4"):
        found = walk(rest, f"/jobs/{job}/runs{query}")
        assert [run["run_id"] for run in rows(found)] == list(range(21, 0, -1))
        assert len(found) > 1


@pytest.mark.usefixtures("small")
def test_events(rest: Rest) -> None:
    for _ in range(30):
        rest.submit()
    for query in ("", "limit=4&", "limit=4&wait=1ms&"):
        found = walk(rest, f"/events?{query}after=2")
        assert [event["id"] for event in rows(found)] == list(range(3, 31))
        assert len(found) > 1


@pytest.mark.usefixtures("small")
def test_workers_tokens_and_keys(tmp_path: Path) -> None:
    folder = tmp_path / "keyed"
    folder.mkdir()
    with Rest(folder, server_key="k" * 40) as rest:
        names = [f"w{number:02}" for number in range(30)]
        for number, name in enumerate(names):
            rest.register(name)
            rest.post("/tokens", {"scopes": ["read"], "note": str(number)})
            answer = rest.post("/workers/enrol", {"worker_id": f"k{number:02}", "public_key": f"{number:040}"})
            assert answer.status_code == 200, answer.text
        assert [worker["worker_id"] for worker in rows(walk(rest, "/workers"))] == names
        assert sorted(int(token["note"]) for token in rows(walk(rest, "/tokens"))) == list(range(30))
        assert [key["worker_id"] for key in rows(walk(rest, "/access"))] == [f"k{number:02}" for number in range(30)]
        for path in ("/workers", "/tokens", "/access"):
            assert len(walk(rest, path)) > 1
            assert rest.get(f"{path}?after=zzz").json == []
            problem(
                rest.get(f"{path}?offset=1"),
                400,
                "invalid_request",
                "offset: unknown parameter; there are after",
                ("offset", "unknown parameter; there are after"),
            )


@pytest.mark.usefixtures("small")
def test_rows_that_come_in_during_a_walk_repeat_none(tmp_path: Path) -> None:
    folder = tmp_path / "keyed"
    folder.mkdir()

    def add(rest: Rest, number: int) -> None:
        rest.register(f"w{number:02}")
        rest.post("/tokens", {"scopes": ["read"], "note": str(number)})
        rest.post("/workers/enrol", {"worker_id": f"k{number:02}", "public_key": f"{number:040}"})

    with Rest(folder, server_key="k" * 40) as rest:
        for number in range(30, 60):
            add(rest, number)
        for path, name in (("/workers", "worker_id"), ("/tokens", "id"), ("/access", "public_key")):
            before = [row[name] for row in rows(walk(rest, path))]
            first = rest.get(path)
            for _ in range(3):
                # They come before all others by name.
                add(rest, added := len(rows(walk(rest, "/workers"))) - 30)
                assert added < 30
            rest_of_it = following(first)
            assert rest_of_it is not None
            seen = [row[name] for row in (*first.json, *rows(walk(rest, rest_of_it)))]
            assert len(set(seen)) == len(seen)
            assert set(before) <= set(seen)


def test_a_page_reads_no_more_rows_than_it_shows(rest: Rest) -> None:
    """One row more, to know whether there is one."""
    for _ in range(40):
        rest.submit("x" * 50_000)
    read = 0

    def counted() -> Iterator[Any]:
        nonlocal read
        for job in rest.context.reader.jobs(None, 1_000):
            read += 1
            yield job

    made = pages.Pages(Room(1, 0, "busy")).fill((job for job in counted()), lambda job: {"command": job.command * 20})
    assert (made.rows, read, made.more) == (8, 9, True)
    assert len(json.loads(b"".join(made.pieces))) == 8


def test_large_pages_beyond_those_that_may_wait_are_refused(rest: Rest) -> None:
    """Each that waited would hold a thread, and nobody else would be served."""
    for _ in range(8):
        rest.submit("x" * 90_000)
    room = Room(1, 0, "busy")
    taken = room.take(1)
    reader = rest.context.reader
    with pytest.raises(Problem, match="busy") as refused:
        pages.Pages(room).fill(reader.jobs(None, 1_000), lambda job: {"command": job.command})
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    assert not reader._execute.__self__._connection.in_transaction  # type: ignore[attr-defined]
    # A small one needs no place.
    assert pages.Pages(room).fill(reader.jobs(None, 1_000), lambda job: {"id": job.job_id}).rows == 8
    room.give_back(taken)
    assert pages.Pages(room).fill(reader.jobs(None, 1_000), lambda job: {"command": job.command}).rows == 8
    assert room.take(1) == 1


def test_a_page_that_is_made_keeps_no_read_transaction(rest: Rest) -> None:
    """One that stayed open would keep the WAL from being moved, and the next read would see an old database."""
    for _ in range(3):
        rest.submit()
    reader = rest.context.reader
    pages.Pages(Room(1, 0, "busy")).fill(reader.jobs(None, 1_000), lambda job: {"id": job.job_id}, 1)
    newest = rest.submit()
    assert reader.job(newest) is not None  # type: ignore[arg-type]
    assert not reader._execute.__self__._connection.in_transaction  # type: ignore[attr-defined]
