"""Dialogues about calls on many jobs: what each turn does, what becomes of each job, and who may do it."""

from __future__ import annotations

import pytest

from tests.unit.test_dispatcher_owners import CRON, JOB, submit, token
from tests.unit.world import TEST, Peer, Poller, World, operator
from zsched.model import spans
from zsched.model.access import Caller
from zsched.model.limits import BULK_JOBS_MAX
from zsched.model.types import JobId, RunStatus
from zsched.protocol import Cancel, Ready, Result
from zsched.scheduler.dispatcher.bulk import Action, Bulk, BulkDone, Selection

ANN = operator("ann")


def step(
    world: World,
    select: str | None,
    action: Action = Action.CANCEL,
    *,
    by: Caller = ANN,
    owner: str | None = None,
    status: RunStatus | None = None,
    after: int = 0,
    cancel: bool = False,
) -> BulkDone:
    """One step in one turn; `select` None: all jobs."""
    ids = None if select is None else spans.parse(select.split(","), 10_000_000)
    reply = world.ask(Bulk(action, Selection(ids, owner, status), by, JobId(after), cancel))
    assert isinstance(reply, BulkDone)
    return reply


def outcomes(world: World, select: str | None, action: Action = Action.CANCEL, **more: object) -> dict[str, str]:
    """All steps of a call: the jobs of each outcome."""
    found: dict[str, spans.Spans] = {}
    after: int | None = 0
    while after is not None:
        done = step(world, select, action, after=after, **more)  # type: ignore[arg-type]
        for outcome, ids in done.outcomes.items():
            found[outcome] = found.get(outcome, spans.Spans()) | ids
        after = done.after
    return {outcome: str(ids) for outcome, ids in found.items()}


def test_bulk_cancel_ends_pending_jobs_and_tells_workers_of_running_ones(world: World) -> None:
    w1 = Peer(world).join()
    first, second = world.submit(2)
    w1.take()
    runs = {job: world.runs(job)[0].run_id for job in (first, second)}
    third = world.submit_one()
    r1 = Poller(world).register()
    polled = r1.next_run().job_id
    assert polled == third
    w1.say(Ready(s=w1.session, window=0, ahead=0))
    fourth = world.submit_one()
    world.sent()
    w1.say(Result(s=w1.session, results=(w1.result(runs[first]),)))
    world.sent_to(w1.peer)
    done = step(world, f"{first}-{fourth},99")
    assert done.after is None
    assert {name: list(ids) for name, ids in done.outcomes.items()} == {
        "finished": [first],
        "ending": [second],
        "done": [third, fourth],
        "unknown_job": [99],
    }
    assert world.sent(Cancel).runs == (runs[second],)
    assert world.states(first) == ["success/exit"]
    assert world.job(first).cancel_ms is None
    assert world.states(third) == world.states(fourth) == ["cancelled/cancelled"]


def test_a_repeated_bulk_cancel_finds_everything_done(world: World) -> None:
    world.submit(3)
    assert outcomes(world, "1-3") == {"done": "1-3"}
    assert outcomes(world, "1-3") == {"finished": "1-3"}
    events = world.engine.execute("SELECT count(*) FROM events WHERE became = 'cancelled'")
    assert events == [(3,)]


def test_one_turn_looks_at_a_bounded_number_of_jobs(world: World) -> None:
    jobs = world.submit(2 * BULK_JOBS_MAX + 5)
    select = f"{jobs[0]}-{jobs[-1]}"
    done = step(world, select)
    assert done.after == jobs[BULK_JOBS_MAX - 1]
    assert len(done.outcomes["done"]) == BULK_JOBS_MAX
    # A restart between two steps changes nothing: the caller knows where it was, or begins again.
    world.restart()
    assert step(world, select, after=done.after).after == jobs[2 * BULK_JOBS_MAX - 1]
    assert outcomes(world, select) == {
        "finished": f"{jobs[0]}-{jobs[2 * BULK_JOBS_MAX - 1]}",
        "done": f"{jobs[2 * BULK_JOBS_MAX]}-{jobs[-1]}",
    }


def test_numbers_without_a_job_cost_a_look_each_span(world: World) -> None:
    (job,) = world.submit(1)
    assert outcomes(world, "1-1000000") == {"done": str(job), "unknown_job": "2-1000000"}
    odd = ",".join(str(number) for number in range(3, 4 * BULK_JOBS_MAX, 2))
    done = step(world, odd)
    assert done.after is not None
    assert len(done.outcomes["unknown_job"]) == BULK_JOBS_MAX
    assert outcomes(world, odd) == {"unknown_job": odd}


def test_all_means_the_live_jobs_of_an_owner_or_of_everybody(world: World) -> None:
    ci, other = token(world, "ci"), token(world, "other")
    mine = submit(world, ci, *[JOB] * (BULK_JOBS_MAX + 3), CRON)
    theirs = submit(world, other, JOB, JOB)
    world.cancel(mine[1])
    expected = {"done": f"{mine[0]},{mine[2]}-{mine[-2]}"}
    assert outcomes(world, None, by=ci, owner=ci.owner) == expected
    assert world.job(theirs[0]).status is RunStatus.PENDING
    assert outcomes(world, None) == {"done": f"{theirs[0]}-{theirs[1]}"}


def test_bulk_cancel_of_one_status(world: World) -> None:
    w1 = Peer(world, slots=2).join()
    jobs = world.submit(2)
    w1.take()
    more = world.submit(30)
    world.sent()
    waiting = [job for job in (*jobs, *more) if world.job(job).status is RunStatus.PENDING]
    met = outcomes(world, None, status=RunStatus.PENDING)
    assert met == {"done": str(spans.of_numbers(waiting))}
    assert world.job(jobs[0]).status is RunStatus.RUNNING


def test_bulk_cancel_leaves_jobs_of_other_owners_alone(world: World) -> None:
    ci = token(world, "ci")
    (mine,) = submit(world, ci, JOB)
    (theirs,) = submit(world, token(world, "other"), JOB)
    assert outcomes(world, f"{mine}-{theirs}", by=ci) == {"done": str(mine), "not_owner": str(theirs)}
    assert world.states(theirs) == ["pending"]
    for action in (Action.PAUSE, Action.RESUME, Action.END):
        assert outcomes(world, str(theirs), action, by=ci) == {"not_owner": str(theirs)}


def test_schedules_are_paused_resumed_and_ended_together(world: World) -> None:
    one, two = world.recurring("* * * * *"), world.recurring("* * * * *", run_now=True)
    plain = world.submit_one()
    select = f"{one}-{plain}"
    assert outcomes(world, select, Action.PAUSE) == {"done": f"{one}-{two}", "no_schedule": str(plain)}
    assert world.job(one).paused_ms is not None
    assert outcomes(world, None, Action.RESUME) == {"done": f"{one}-{two}"}
    assert world.job(two).next_fire_ms is not None
    assert outcomes(world, None, Action.END) == {"done": str(one), "live": str(two)}
    assert outcomes(world, select, Action.END, cancel=True) == {"done": f"{one}-{two}", "no_schedule": str(plain)}
    assert world.states(two) == ["cancelled/cancelled"]
    assert outcomes(world, None, Action.PAUSE) == {}
    assert outcomes(world, str(one), Action.PAUSE) == {"schedule_ended": str(one)}
    assert world.states(plain) == ["pending"]


def test_a_job_that_ends_in_the_turn_of_a_bulk_cancel_keeps_its_end(world: World) -> None:
    w1 = Peer(world).join()
    job = world.submit_one()
    run_id = w1.take_one()

    def work() -> BulkDone:
        world.dispatcher.on_frame(w1.peer, Result(s=w1.session, results=(w1.result(run_id),)), world.now)
        reply = world.dispatcher.on_command(
            Bulk(Action.CANCEL, Selection(spans.of_numbers([job])), TEST, JobId(0)), world.now
        )
        assert isinstance(reply, BulkDone)
        return reply

    done = world.turn(work)
    assert isinstance(done, BulkDone)
    assert done.outcomes == {"finished": spans.of_numbers([job])}
    world.sent_to(w1.peer)
    assert world.states(job) == ["success/exit"]
    assert world.job(job).cancel_ms is None


@pytest.mark.parametrize("job_before", [True, False])
def test_a_bulk_step_that_is_not_stored_has_not_happened(world: World, job_before: bool) -> None:
    jobs = world.submit(3 if job_before else 1)
    world.failing_turn(
        lambda: world.dispatcher.on_command(
            Bulk(Action.CANCEL, Selection(spans.of_numbers(jobs)), TEST, JobId(0)), world.now
        )
    )
    assert [world.states(job) for job in jobs] == [["pending"]] * len(jobs)
    assert outcomes(world, f"{jobs[0]}-{jobs[-1]}")["done"] == str(spans.of_numbers(jobs))
