"""Calls on many jobs over REST: bulk cancels and the like, and waiting for many jobs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from falcon import testing

from tests.unit.rest import ME, Rest, problem, until
from tests.unit.test_rest_owners import JOB, Holder
from zsched.api import room
from zsched.api.app import ACT, READ, ROUTES
from zsched.api.roll import Roll
from zsched.model import spans
from zsched.model.limits import BULK_JOBS_MAX, SELECTED_JOBS_MAX
from zsched.model.types import JobId, RunStatus
from zsched.scheduler import inbox
from zsched.store.sqlite.engine import open_reader

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    with Rest(tmp_path_factory.mktemp("rest")) as started:
        started.register("w1")
        yield started


def many(rest: Rest, count: int) -> tuple[int, int]:
    """Submit some jobs; returns the numbers of the first and the last."""
    answer = rest.post("/jobs", [JOB] * count)
    assert answer.status_code == 201
    first, _, last = answer.headers["Zsched-Jobs"].partition("-")
    return int(first), int(last)


def good(answer: testing.Result) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    view: dict[str, Any] = answer.json
    return view


def group(first: int, last: int) -> dict[str, object]:
    return {"count": last - first + 1, "jobs": str(spans.of([(first, last)]))}


def finish(rest: Rest, status: str = "success") -> int:
    """Let the worker do the oldest job that is pending."""
    job = int(rest.take("w1")["id"])
    assert rest.report(job, "w1", status).status_code == 200
    return job


def clear(rest: Rest) -> None:
    rest.post("/jobs/bulk", {"action": "cancel", "select": "all", "all_owners": True})


# --- bulk ------------------------------------------------------------------------------------------------------------


def test_bulk_tells_what_became_of_each_job(rest: Rest) -> None:
    clear(rest)
    first, last = many(rest, BULK_JOBS_MAX + 10)
    done = finish(rest)
    assert done == first
    met = good(rest.post("/jobs/bulk", {"action": "cancel", "select": f"{last},{first}-{last + 5}"}))
    assert met == {
        "action": "cancel",
        "finished": group(first, first),
        "done": group(first + 1, last),
        "unknown_job": group(last + 1, last + 5),
    }
    met = good(rest.post("/jobs/bulk", {"action": "cancel", "select": [last, first]}))
    assert met == {"action": "cancel", "finished": {"count": 2, "jobs": f"{first},{last}"}}


def test_bulk_takes_all_jobs_of_the_caller(rest: Rest) -> None:
    clear(rest)
    holder = Holder(rest)
    theirs = holder.submit()
    first, last = many(rest, 3)
    assert good(rest.post("/jobs/bulk", {"action": "cancel", "select": "all"}))["done"] == group(first, last)
    assert rest.get(f"/jobs/{theirs}").json["status"] == "pending"
    body = {"action": "cancel", "select": "all", "owner": holder.owner, "status": "running"}
    assert good(rest.post("/jobs/bulk", body)) == {"action": "cancel"}
    body["status"] = "pending"
    assert good(rest.post("/jobs/bulk", body))["done"] == group(theirs, theirs)


def test_bulk_of_a_submit_token_is_for_its_own_jobs(rest: Rest) -> None:
    clear(rest)
    ann, bob = Holder(rest, "submit"), Holder(rest, "submit")
    mine, theirs = ann.submit(), bob.submit()
    met = good(ann.call("POST", "/jobs/bulk", {"action": "cancel", "select": f"{mine}-{theirs}"}))
    assert met == {"action": "cancel", "done": group(mine, mine), "not_owner": group(theirs, theirs)}
    assert good(ann.call("POST", "/jobs/bulk", {"action": "cancel", "select": "all"})) == {"action": "cancel"}
    assert rest.get(f"/jobs/{theirs}").json["status"] == "pending"
    # A filter does not show what other owners' jobs are like.
    for more in ({"status": "pending"}, {"status": "running"}, {"owner": bob.owner}, {"owner": ann.owner}):
        body = {"action": "cancel", "select": [theirs], **more}
        assert good(ann.call("POST", "/jobs/bulk", body)) == {"action": "cancel"}
    for scopes in (("operate",), ("admin",)):
        theirs = bob.submit()
        met = good(Holder(rest, *scopes).call("POST", "/jobs/bulk", {"action": "cancel", "select": [theirs]}))
        assert met["done"] == group(theirs, theirs)


@pytest.mark.parametrize("more", [{"all_owners": True}, {"owner": "user:root"}, {"owner": "token:other"}])
def test_selecting_other_owners_needs_operate(rest: Rest, more: dict[str, object]) -> None:
    body = {"action": "cancel", "select": "all", **more}
    answer = Holder(rest, "submit").call("POST", "/jobs/bulk", body)
    problem(answer, 403, "scope", "The jobs of other owners need the scope operate")
    good(Holder(rest, "operate").call("POST", "/jobs/bulk", body))


def test_the_scopes_of_calls_on_many_jobs() -> None:
    needs = {path: needed for path, _, needed in ROUTES}
    assert (needs["/jobs/bulk"], needs["/jobs/wait"]) == ({"POST": ACT}, {"POST": READ})


def test_bulk_ends_schedules(rest: Rest) -> None:
    clear(rest)
    jobs = [rest.submit(schedule="* * * * *", run_now=True) for _ in range(2)]
    select = f"{jobs[0]}-{jobs[1]}"
    for action, outcome in (("pause", "done"), ("resume", "done"), ("end", "live")):
        assert good(rest.post("/jobs/bulk", {"action": action, "select": select})) == {
            "action": action,
            outcome: group(*jobs),
        }
    body = {"action": "end", "select": select, "cancel": True}
    assert good(rest.post("/jobs/bulk", body))["done"] == group(*jobs)
    assert [rest.get(f"/jobs/{job}").json["status"] for job in jobs] == ["cancelled"] * 2


def test_bulk_goes_on_where_an_answer_left_off(rest: Rest) -> None:
    clear(rest)
    first, last = many(rest, 10)
    body = {"action": "cancel", "select": f"{first}-{last}", "after": first + 3}
    assert good(rest.post("/jobs/bulk", body))["done"] == group(first + 4, last)


def test_a_long_bulk_call_answers_in_time(rest: Rest, monkeypatch: pytest.MonkeyPatch) -> None:
    from zsched.api import many as module

    clear(rest)
    first, last = many(rest, 2 * BULK_JOBS_MAX)
    monkeypatch.setattr(module, "BULK_MS_MAX", 0)
    met = good(rest.post("/jobs/bulk", {"action": "cancel", "select": f"{first}-{last}"}))
    assert met["next"] == first + BULK_JOBS_MAX - 1
    assert met["done"] == group(first, met["next"])


def test_bulk_calls_take_turns(tmp_path: Path) -> None:
    """One step in each turn however many callers there are, so that no turn gets long."""
    callers, size = 4, 2 * BULK_JOBS_MAX
    with Rest(tmp_path, threads=4 * callers) as rest:
        first, _ = many(rest, callers * size)
        threads = [
            threading.Thread(
                target=rest.post,
                args=("/jobs/bulk", {"action": "cancel", "select": f"{begin}-{begin + size - 1}"}),
            )
            for begin in range(first, first + callers * size, size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE_S)
        reader = open_reader(rest.path)
        # All events of a turn have one time, and a step takes longer than a millisecond.
        cancels = Counter(event.at_ms for event in reader.events(0, 10**6) if event.became == "cancelled")
        reader.close()
    assert sum(cancels.values()) == callers * size
    assert max(cancels.values()) == BULK_JOBS_MAX


@pytest.mark.parametrize("failure", ["no room", "timeout", "not stored", "stopped"])
def test_bulk_call_answers_what_was_done_when_a_later_step_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    with Rest(tmp_path, threads=8) as rest:
        first, last = many(rest, 2 * BULK_JOBS_MAX)
        body = {"action": "cancel", "select": f"{first}-{last}"}
        steps, answers, held = rest.context.steps, list[testing.Result](), threading.Event()
        # The room for steps is first come, first served: here this test, the first step, this test, the second step.
        taken = steps.take(1)
        caller = threading.Thread(target=lambda: answers.append(rest.post("/jobs/bulk", body)))
        caller.start()
        until(lambda: len(steps._waiting) == 1)
        threading.Thread(target=lambda: held.set() if steps.take(1) else None).start()
        until(lambda: len(steps._waiting) == 2)
        if failure == "no room":
            monkeypatch.setattr(room, "_WAIT_S", 0)
        steps.give_back(taken)
        assert held.wait(DEADLINE_S)
        if failure == "timeout":
            monkeypatch.setattr(inbox, "COMMAND_WAIT_S", 0)
        elif failure == "not stored":
            # By the scheduler's own SQLite: another copy of it would take that one's locks and WAL away.
            with closing(apsw.Connection(str(rest.path))) as connection:
                connection.set_busy_timeout(int(DEADLINE_S * 1_000))
                connection.execute(
                    f"CREATE TRIGGER refuse BEFORE UPDATE ON jobs WHEN new.job_id = {last}"
                    " BEGIN SELECT raise(FAIL, 'refused'); END"
                )
        elif failure == "stopped":
            rest.stop()
        steps.give_back(taken)
        caller.join(DEADLINE_S)
        after = first + BULK_JOBS_MAX - 1
        assert good(answers[0]) == {"action": "cancel", "done": group(first, after), "next": after}
        if failure == "not stored":
            # One that has done nothing says why.
            answer = rest.ask(rest.app, "POST", "/jobs/bulk", json={**body, "after": after})
            assert (answer.status_code, answer.json["code"]) == (500, "internal")
            assert rest.get(f"/jobs/{last - 1}").json["status"] == "pending"


# --- selecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/jobs/bulk", "/jobs/wait"])
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"select": ""}, "#/select"),
        ({"select": []}, "#/select"),
        ({"select": "last"}, "#/select"),
        ({"select": "8-3"}, "#/select"),
        ({"select": "1,,2"}, "#/select"),
        ({"select": [0]}, "#/select"),
        ({"select": "0"}, "#/select"),
        ({"select": "0-3,5"}, "#/select"),
        ({"select": None}, "#/select"),
        ({}, "#/select"),
        ({"select": "1", "all_owners": True}, "#/all_owners"),
        ({"select": "all", "all_owners": True, "owner": "me"}, "#/all_owners"),
        ({"select": "all", "owner": "ann"}, "#/owner"),
        ({"select": "1", "wait": 1}, "#/wait"),
    ],
)
def test_invalid_selection_is_refused(rest: Rest, path: str, fields: dict[str, Any], pointer: str) -> None:
    body = {**fields, **({"action": "cancel"} if path == "/jobs/bulk" else {})}
    answer = rest.post(path, body)
    assert answer.status_code == 400, answer.text
    assert answer.json["errors"][0]["pointer"].startswith(pointer)


@pytest.mark.parametrize("path", ["/jobs/bulk", "/jobs/wait"])
def test_too_many_numbers_are_413(rest: Rest, path: str) -> None:
    body = {"select": f"1-{SELECTED_JOBS_MAX + 1}", **({"action": "cancel"} if path == "/jobs/bulk" else {})}
    assert rest.post(path, body).json["code"] == "too_many"
    assert rest.post(path, body).status_code == 413


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_tells_which_jobs_have_ended(rest: Rest) -> None:
    clear(rest)
    first, last = many(rest, 10)
    finish(rest)
    finish(rest, "failed")
    rest.take("w1")
    rest.post(f"/jobs/{last}/cancel")
    met = good(rest.post("/jobs/wait", {"select": f"{first}-{last},{last + 3}", "timeout": 0}))
    position = met.pop("next")
    assert met == {
        "success": group(first, first),
        "failed": group(first + 1, first + 1),
        "running": group(first + 2, first + 2),
        "pending": group(first + 3, last - 1),
        "cancelled": group(last, last),
        "unknown_job": group(last + 3, last + 3),
    }
    assert rest.report(first + 2, "w1", "success").status_code == 200
    met = good(rest.post("/jobs/wait", {"select": f"{first}-{last}", "after": position}))
    assert met.pop("next") > position
    assert met == {"success": group(first + 2, first + 2)}


def test_wait_for_all_of_a_caller_leaves_recurring_jobs_out(rest: Rest) -> None:
    clear(rest)
    theirs = Holder(rest).submit()
    first, last = many(rest, 3)
    rest.submit(schedule="* * * * *", run_now=True)
    met = good(rest.post("/jobs/wait", {"select": "all", "timeout": 0}))
    assert {name: met[name] for name in met if name != "next"} == {"pending": group(first, last)}
    assert good(rest.post("/jobs/wait", {"select": "all", "timeout": 0, "owner": ME})) == met
    met = good(rest.post("/jobs/wait", {"select": "all", "timeout": 0, "all_owners": True}))
    assert met["pending"]["count"] == 4
    assert str(theirs) in met["pending"]["jobs"]
    clear(rest)
    met = good(rest.post("/jobs/wait", {"select": "all", "timeout": 0}))
    assert list(met) == ["next"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"timeout": "soon"}, "#/timeout"),
        ({"timeout": -1}, "#/timeout"),
        ({"until": "some"}, "#/until"),
        ({"after": 1, "until": "all"}, "#/after"),
        ({"after": 1, "select": "all"}, "#/after"),
        ({"owner": "me"}, "#/owner"),
    ],
)
def test_a_wait_that_makes_no_sense_is_refused(rest: Rest, fields: dict[str, Any], pointer: str) -> None:
    answer = rest.post("/jobs/wait", {"select": "1", **fields})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, pointer)


def test_a_wait_is_answered_when_one_job_has_ended_or_all(tmp_path: Path) -> None:
    with Rest(tmp_path, threads=8) as rest:
        rest.register("w1")
        first, last = many(rest, 3)
        answers: dict[str, Any] = {}

        def wait(until: str) -> None:
            body = {"select": f"{first}-{last}", "until": until}
            answers[until] = good(rest.post("/jobs/wait", body))

        threads = {until: threading.Thread(target=wait, args=(until,)) for until in ("any", "all")}
        begin = time.monotonic()
        for thread in threads.values():
            thread.start()
        finish(rest)
        threads["any"].join(DEADLINE_S)
        assert answers["any"]["success"] == group(first, first)
        assert "all" not in answers
        finish(rest)
        finish(rest, "failed")
        threads["all"].join(DEADLINE_S)
        assert answers["all"]["success"] == group(first, first + 1)
        assert answers["all"]["failed"] == group(last, last)
        assert "pending" not in answers["all"]
        assert time.monotonic() - begin < 10
        # There is nothing to wait for where no job is live, or where one does not exist.
        begin = time.monotonic()
        assert list(good(rest.post("/jobs/wait", {"select": "all"}))) == ["next"]
        assert good(rest.post("/jobs/wait", {"select": "999"}))["unknown_job"] == group(999, 999)
        assert time.monotonic() - begin < 10


def test_a_look_reads_what_has_happened_and_not_what_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    monkeypatch.setattr(Roll, "read", counted(Roll.read, read))
    with Rest(tmp_path, threads=8) as rest:
        first, last = many(rest, 5)
        body = {"select": f"{first}-{last}", "timeout": "1s"}
        thread = threading.Thread(target=rest.post, args=("/jobs/wait", body))
        thread.start()
        for _ in range(5):
            rest.submit()
        thread.join(DEADLINE_S)
        rest.post("/jobs/wait", {**body, "after": 1, "timeout": 0})
    assert len(read) == 1


def counted(function: Any, calls: list[object]) -> Any:
    def call(*given: object) -> object:
        calls.append(None)
        return function(*given)

    return call


def test_a_job_that_is_removed_meanwhile_becomes_unknown(rest: Rest) -> None:
    clear(rest)
    first, last = many(rest, 2)
    with closing(open_reader(rest.path)) as reader:

        class Later:
            """A reader that finds the events of a job, and not the job itself."""

            def __getattr__(self, name: str) -> Any:
                return getattr(reader, name)

            def status(self, job_id: JobId) -> RunStatus | None:
                return None if job_id == first else reader.status(job_id)

        roll = Roll(spans.parse([f"{first}-{last}"], 10), 0)
        roll.read(reader)
        assert list(roll.jobs(RunStatus.PENDING)) == [first, last]
        rest.post(f"/jobs/{first}/cancel")
        roll.follow(Later())
    assert list(roll.jobs(None)) == [first]
    assert list(roll.jobs(RunStatus.PENDING)) == [last]


def test_a_job_that_ends_while_all_are_read_is_not_missed(rest: Rest) -> None:
    clear(rest)
    first, last = many(rest, 3)
    reader = open_reader(rest.path)

    class Slow:
        """A reader in whose first span a job ends as soon as that was read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(reader, name)

        def statuses_between(self, begin: JobId, end: JobId) -> Iterator[tuple[JobId, RunStatus]]:
            yield from list(reader.statuses_between(begin, end))
            if begin == first:
                assert finish(rest) == first

    roll = Roll(spans.parse([str(first), str(last)], 10), 0)
    roll.read(Slow())  # type: ignore[arg-type]
    assert not roll.has(RunStatus.SUCCESS)
    roll.follow(reader)
    assert list(roll.jobs(RunStatus.SUCCESS)) == [first]
    reader.close()
