"""Dialogues about owners: who may act on a job, what a token allows its jobs, and the end of a revoked token's jobs."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.world import TEST, Peer, Poller, World, operator
from zsched.model.access import Caller, KeyOrigin, Scope, Token
from zsched.model.arrays import parse_array
from zsched.model.edits import JobEdit
from zsched.model.limits import BULK_JOBS_MAX, WINDOW_PER_SLOT_MAX
from zsched.model.spans import of_numbers
from zsched.model.types import JobId, JobSpec, RunStatus, WorkerId
from zsched.protocol import Cancel as CancelFrame
from zsched.protocol import Ready
from zsched.scheduler.dispatcher import owners
from zsched.scheduler.dispatcher.acts import Rerun
from zsched.scheduler.dispatcher.bulk import Action, Bulk, Selection
from zsched.scheduler.dispatcher.commands import (
    AddToken,
    BadTokenError,
    BindKey,
    Cancel,
    ConflictError,
    EditJob,
    ForbiddenError,
    Made,
    NotFoundError,
    NotOwnerError,
    QuotaError,
    RevokeToken,
    Submit,
    TooManyError,
    UseToken,
)
from zsched.scheduler.dispatcher.tasks import RerunTasks

JOB = JobSpec(name="job", command="true")
CRON = JobSpec(name="cron", command="true", schedule="* * * * *")
K1 = "a" * 40
ADMIN = "user:root at 127.0.0.1"


def token(
    world: World,
    name: str,
    *,
    all_jobs: bool = False,
    run_as: str | None = None,
    pending_max: int | None = None,
    schedules_max: int | None = None,
    priority_max: int | None = None,
) -> Caller:
    """A caller with a new token of that name, which is its id as well."""
    made = Token(
        token_id=name,
        name=name,
        digest=bytes(32),
        scopes=frozenset({Scope.SUBMIT}),
        note="",
        created_ms=1,
        created_by="test",
        run_as=run_as,
        pending_max=pending_max,
        schedules_max=schedules_max,
        priority_max=priority_max,
    )
    world.ask(AddToken(made))
    return Caller(owner=made.owner, actor=f"{made.owner} at 192.0.2.7", all_jobs=all_jobs, token_id=name)


def submit(world: World, by: Caller, *specs: JobSpec) -> list[JobId]:
    reply = world.ask(Submit(specs or (JOB,), by))
    assert isinstance(reply, Made)
    return list(reply.ids)


# --- who may act on a job --------------------------------------------------------------------------------------------


def test_a_job_is_its_submitters(world: World) -> None:
    (of_token,) = submit(world, token(world, "ci"))
    assert world.job(of_token).owner == "token:ci"
    assert world.job(world.submit_one()).owner == "user:test"


def test_own_jobs_can_be_cancelled_and_others_can_not(world: World) -> None:
    ci, other = token(world, "ci"), token(world, "other")
    (own,), (foreign,) = submit(world, ci), submit(world, other)
    with pytest.raises(NotOwnerError, match=r"Job 2 belongs to token:other: a token needs the scope operate"):
        world.ask(Cancel(foreign, ci))
    assert world.states(foreign) == ["pending"]
    assert world.job(foreign).cancel_ms is None
    world.ask(Cancel(own, ci))
    assert world.states(own) == ["cancelled/cancelled"]


def test_operate_covers_all_owners(world: World) -> None:
    (job,) = submit(world, token(world, "ci"))
    world.ask(Cancel(job, token(world, "ops", all_jobs=True)))
    assert world.states(job) == ["cancelled/cancelled"]


@pytest.mark.parametrize("owner", ["", "token:ci"])
def test_a_job_without_owner_is_nobodys_own(world: World, owner: str) -> None:
    """Not even of a caller that had an empty owner."""
    job = world.submit_one()
    world.by_hand("UPDATE jobs SET owner_id = NULL WHERE job_id = ?", job)
    assert world.job(job).owner == ""
    with pytest.raises(NotOwnerError, match="Job 1 has no owner"):
        world.ask(Cancel(job, Caller(owner=owner, actor="x", all_jobs=False)))
    world.cancel(job)


def test_an_unknown_job_is_not_found_whatever_the_scopes(world: World) -> None:
    with pytest.raises(NotFoundError):
        world.ask(Cancel(JobId(99), token(world, "ci")))


def test_a_submit_that_is_undone_leaves_no_owner_behind(world: World) -> None:
    """The number of an owner that was rolled back may go to another one."""
    a, b = token(world, "a"), token(world, "b")
    world.failing_turn(lambda: world.dispatcher.on_command(Submit((JOB,), a), world.now))
    (of_b,), (of_a,) = submit(world, b), submit(world, a)
    assert (world.job(of_b).owner, world.job(of_a).owner) == ("token:b", "token:a")


# --- what a token allows its jobs ------------------------------------------------------------------------------------


def test_a_token_revoked_since_it_was_looked_at_submits_nothing(world: World) -> None:
    ci = token(world, "ci")
    world.ask(RevokeToken("ci", ADMIN))
    with pytest.raises(BadTokenError):
        submit(world, ci)
    with pytest.raises(BadTokenError):
        submit(world, Caller(owner="token:x", actor="x", all_jobs=False, token_id="x"))
    assert world.engine.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_jobs_of_a_token_with_run_as_run_as_that_user(world: World) -> None:
    ci = token(world, "ci", run_as="build")
    plain, named = submit(world, ci, JOB, JobSpec(name="job", command="true", user="build"))
    assert (world.job(plain).user, world.job(named).user) == ("build", "build")
    with pytest.raises(ForbiddenError, match=r"Jobs of this token run as build, not as root: leave user out"):
        submit(world, ci, JOB, JobSpec(name="job", command="true", user="root"))
    assert Peer(world).join().take() == [], "a worker that can't change the user gets none"
    w2 = Peer(world, "w2")
    w2.can = ("user",)
    assert len(w2.join().take()) == 2


def test_pending_jobs_of_a_token_are_bounded(world: World) -> None:
    ci, other = token(world, "ci", pending_max=3), token(world, "other")
    submit(world, other, JOB, JOB, JOB, JOB)
    submit(world, ci, JOB, JOB)
    with pytest.raises(QuotaError, match="3 jobs of this token may be pending") as refused:
        submit(world, ci, JOB, JOB)
    assert refused.value.code == "too_many_pending"
    with pytest.raises(TooManyError):
        submit(world, ci, *[JOB] * 4)
    (third,) = submit(world, ci)
    with pytest.raises(QuotaError):
        submit(world, ci)
    world.ask(Cancel(third, ci))
    submit(world, ci)
    # Others have no bound, and running jobs do not count.
    submit(world, other)
    w1 = Peer(world, slots=20).join()
    assert len(w1.take()) == 8
    submit(world, ci, JOB, JOB, JOB)
    w1.take()


def test_the_bound_of_pending_jobs_holds_within_one_turn(world: World) -> None:
    ci = token(world, "ci", pending_max=3)

    def work() -> None:
        for _ in range(3):
            world.dispatcher.on_command(Submit((JOB,), ci), world.now)
        with pytest.raises(QuotaError):
            world.dispatcher.on_command(Submit((JOB,), ci), world.now)

    world.turn(work)


def test_the_bound_of_pending_jobs_holds_for_reruns_of_one_turn(world: World) -> None:
    ci = token(world, "ci", pending_max=3)
    first = submit(world, ci, JOB, JOB, JOB)
    for job in first:
        world.cancel(job)
    (last,) = submit(world, ci)
    done = world.ask(Bulk(Action.RERUN, Selection(None, ci.owner, RunStatus.CANCELLED), ci, JobId(0)))
    assert {outcome: list(ids) for outcome, ids in done.outcomes.items()} == {
        "done": first[:2],
        "too_many_pending": first[2:],
    }
    world.cancel(last)
    world.ask(Rerun(first[2], ci))


def test_recurring_jobs_of_a_token_are_bounded(world: World) -> None:
    ci, none = token(world, "ci", schedules_max=2), token(world, "none", schedules_max=0)
    first, _ = submit(world, ci, CRON, CRON)
    with pytest.raises(ConflictError, match="This token may have 2 recurring jobs") as refused:
        submit(world, ci, CRON)
    assert refused.value.code == "too_many_schedules"
    with pytest.raises(ConflictError):
        submit(world, none, CRON)
    submit(world, ci)
    submit(world, none)
    world.store.begin()
    world.store.end_schedule(first, "ann", world.wall_ms)
    world.store.commit()
    submit(world, ci, CRON)


def test_priority_of_a_tokens_jobs_is_bounded(world: World) -> None:
    ci, other = token(world, "ci", priority_max=5), token(world, "other")
    submit(world, ci, replace(JOB, priority=5), JOB)
    submit(world, other, replace(JOB, priority=6))
    refusal = r"Invalid priority 6: this token allows at most 5; give priority 5 or less, or use another token"
    with pytest.raises(ForbiddenError, match=refusal) as refused:
        submit(world, ci, JOB, replace(JOB, priority=6))
    assert refused.value.code == "priority_max"
    batch = token(world, "batch", priority_max=-10)
    with pytest.raises(ForbiddenError, match="Invalid priority 0"):
        submit(world, batch)
    submit(world, batch, replace(JOB, priority=-10))


def test_edits_and_reruns_keep_to_the_priority_of_their_token(world: World) -> None:
    ci, ops = token(world, "ci", priority_max=5), token(world, "ops", all_jobs=True)
    (job,) = submit(world, ci)
    world.ask(EditJob(job, JobEdit(priority=5), ci))
    with pytest.raises(ForbiddenError, match="Invalid priority 6"):
        world.ask(EditJob(job, JobEdit(priority=6), ci))
    assert world.job(job).priority == 5
    world.ask(EditJob(job, JobEdit(priority=9), ops))
    # Other fields of a job that somebody else has raised can be changed, and its priority be lowered.
    world.ask(EditJob(job, JobEdit(name="new"), ci))
    world.ask(Cancel(job, ci))
    with pytest.raises(ForbiddenError, match="Invalid priority 9"):
        world.ask(Rerun(job, ci))
    done = world.ask(Bulk(Action.RERUN, Selection(of_numbers([job])), ci, JobId(0)))
    assert list(done.outcomes) == ["priority_max"]
    world.ask(Rerun(job, ops))
    world.ask(EditJob(job, JobEdit(priority=-1), ci))
    assert world.job(job).priority == -1


def test_tasks_run_again_within_the_bounds_of_their_token(world: World) -> None:
    ci, bound = token(world, "ci", pending_max=1), token(world, "bound", priority_max=5)
    (array,) = submit(world, ci, replace(JOB, array=parse_array("0-2")))
    world.ask(Cancel(array, ci))
    (other,) = submit(world, ci)
    with pytest.raises(QuotaError):
        world.ask(Rerun(array, ci))
    with pytest.raises(QuotaError):
        world.ask(RerunTasks(array, ci, (0, 0)))
    world.ask(Cancel(other, ci))
    world.ask(RerunTasks(array, ci, (0, 0)))
    # It is pending itself now, and one job.
    assert world.ask(RerunTasks(array, ci, (1, 1))).done == 1
    with pytest.raises(QuotaError):
        submit(world, ci)
    anybody = Caller(owner=bound.owner, actor="test", all_jobs=False)
    (high,) = submit(world, anybody, replace(JOB, array=parse_array("0"), priority=6))
    world.ask(Cancel(high, TEST))
    with pytest.raises(ForbiddenError, match="Invalid priority 6"):
        world.ask(RerunTasks(high, bound, (0, 0)))


def test_a_submit_without_a_token_reads_no_token(world: World) -> None:
    """The path of most jobs costs no more than before."""
    assert TEST.token_id is None
    world.submit_one()
    asked: list[str] = []

    def trace(_cursor: object, statement: str, _given: object) -> bool:
        asked.append(statement)
        return True

    world.engine._connection.exec_trace = trace
    world.submit_one()
    world.engine._connection.exec_trace = None
    assert any("INSERT INTO jobs" in statement for statement in asked)
    assert [statement for statement in asked if "tokens" in statement or "owners" in statement] == []


# --- names of tokens -------------------------------------------------------------------------------------------------


def test_a_name_is_never_used_again(world: World) -> None:
    token(world, "ci")
    again = Token(
        token_id="t2", name="ci", digest=bytes(32), scopes=frozenset(), note="", created_ms=1, created_by="test"
    )
    for _ in range(2):
        with pytest.raises(ConflictError) as refused:
            world.ask(AddToken(again))
        assert refused.value.code == "token_name_taken"
        if world.store.access.token("ci").revoked_ms is None:  # type: ignore[union-attr]
            world.ask(RevokeToken("ci", ADMIN))
    assert world.store.access.token("t2") is None


def test_the_use_of_a_token_is_stored_without_an_event(world: World) -> None:
    token(world, "ci")
    events = world.engine.execute("SELECT count(*) FROM events")
    world.ask(UseToken("ci"))
    used = world.store.access.token("ci")
    assert used is not None
    assert used.last_used_ms == world.wall_ms
    world.ask(UseToken("nothing"))
    assert world.engine.execute("SELECT count(*) FROM events") == events


# --- the end of a revoked token's jobs -------------------------------------------------------------------------------


def test_jobs_of_a_revoked_token_go_on_unless_their_end_is_asked_for(world: World) -> None:
    ci = token(world, "ci")
    job, cron = submit(world, ci, JOB, CRON)
    world.ask(RevokeToken("ci", ADMIN))
    world.wait(61_000)
    assert world.states(job) == ["pending"]
    assert world.states(cron) == ["pending"], "its schedule fired"


def test_end_of_the_arrays_of_a_token_goes_over_several_turns(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "TURN_ROWS_MAX", 3)
    ci = token(world, "ci")
    jobs = submit(world, ci, *[JobSpec(name="array", command="true", array=parse_array("0-2"))] * 3)
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    assert [world.job(job).status for job in jobs] == ["cancelled", "pending", "pending"]
    assert world.next_tick_ms == world.mono_ms
    for _ in jobs:
        world.turn()
    assert [world.job(job).status for job in jobs] == ["cancelled"] * 3


def test_token_revoked_with_its_jobs_ends_those_jobs_only(world: World) -> None:
    ci, other = token(world, "ci"), token(world, "other")
    w1 = Peer(world, slots=1).join()
    (running,) = submit(world, ci)
    run_id = w1.take_one()
    w1.start(run_id)
    pending, cron, firing = submit(
        world, ci, JOB, CRON, JobSpec(name="c", command="true", schedule="* * * * *", run_now=True)
    )
    theirs, their_cron = submit(world, other, JOB, CRON)
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    assert world.sent(CancelFrame).runs == (run_id,)
    assert w1.beat().cancel == (run_id,)
    assert w1.finish(run_id) == "stored"
    assert w1.take() == [world.runs(theirs)[0].run_id], "the first that is still pending"
    for job in (running, pending, firing):
        assert world.states(job) == ["cancelled/cancelled"]
    for job in (cron, firing):
        assert world.job(job).next_fire_ms is None
        assert world.store.end_schedule(job, "ann", 1) is False
    assert world.job(their_cron).next_fire_ms is not None
    ended = world.engine.execute("SELECT job_id, actor FROM events WHERE became = 'schedule_ended' ORDER BY job_id")
    assert ended == [(cron, ADMIN), (firing, ADMIN)]
    cancelled = world.engine.execute("SELECT DISTINCT actor FROM events WHERE became = 'cancelled' AND was = 'pending'")
    assert cancelled == [(ADMIN,)]
    world.wait(120_000, w1)
    assert world.states(cron) == []
    kept = world.store.access.token("ci")
    assert kept is not None
    assert (kept.ending, kept.revoked_ms is not None) == (False, True)
    w1.finish(w1.held.copy().popitem()[0])
    w1.take()


def test_a_run_on_a_worker_that_polls_is_cancelled_at_once(world: World) -> None:
    (job,) = submit(world, token(world, "ci"))
    Poller(world).register().next_run()
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    assert world.states(job) == ["cancelled/cancelled"]


def pending_runs(world: World) -> int:
    return int(world.engine.execute("SELECT count(*) FROM runs WHERE status = 'pending'")[0][0])


def test_many_jobs_are_ended_in_bounded_turns(world: World) -> None:
    ci = token(world, "ci")
    submit(world, ci, *[JOB] * (2 * BULK_JOBS_MAX + 5), *[CRON] * 7)
    left = [pending_runs(world)]
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    while world.store.access.ending() is not None:
        assert world.next_tick_ms == world.mono_ms, "the next turn comes at once"
        before, left = left, [*left, pending_runs(world)]
        assert before[-1] - left[-1] <= BULK_JOBS_MAX
        world.turn()
    assert len(left) >= 3
    live = world.engine.execute("SELECT count(*) FROM runs WHERE status = 'pending'")
    recurring = world.engine.execute("SELECT count(*) FROM jobs WHERE next_fire_ms IS NOT NULL")
    assert (live, recurring) == ([(0,)], [(0,)])
    world.turn()
    assert world.next_tick_ms > world.mono_ms


@pytest.mark.parametrize("trouble", ["restart", "rollback"])
def test_the_end_of_jobs_survives(world: World, trouble: str) -> None:
    ci = token(world, "ci")
    submit(world, ci, *[JOB] * (BULK_JOBS_MAX + 5))
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    if trouble == "restart":
        world.restart()
    else:
        world.failing_turn()
    world.turn()
    world.turn()
    assert world.engine.execute("SELECT count(*) FROM runs WHERE status = 'pending'") == [(0,)]
    # Each of them was cancelled once.
    events = world.engine.execute("SELECT count(*) FROM events WHERE was = 'pending' AND became = 'cancelled'")
    assert events == [(BULK_JOBS_MAX + 5,)]


def test_jobs_of_a_token_revoked_before_can_be_ended_later(world: World) -> None:
    (job,) = submit(world, token(world, "ci"))
    world.ask(RevokeToken("ci", ADMIN))
    with pytest.raises(NotFoundError):
        world.ask(RevokeToken("ci", ADMIN))
    with pytest.raises(NotFoundError):
        world.ask(RevokeToken("nothing", ADMIN, jobs=True))
    world.ask(RevokeToken("ci", ADMIN, jobs=True))
    assert world.states(job) == ["cancelled/cancelled"]


def test_a_run_that_ends_in_the_same_turn_keeps_its_end(world: World) -> None:
    """What is live is asked after the turn's moves are counted, so a job that has just ended is not marked."""
    w1 = Peer(world).join()
    (job,) = submit(world, token(world, "ci"))
    run_id = w1.take_one()
    w1.start(run_id)

    def work() -> None:
        from zsched.protocol import Result

        world.dispatcher.on_frame(w1.peer, Result(s=w1.session, results=(w1.result(run_id),)), world.now)
        world.dispatcher.on_command(RevokeToken("ci", ADMIN, jobs=True), world.now)

    world.turn(work)
    world.sent_to(w1.peer)
    assert world.states(job) == ["success/exit"]
    assert world.job(job).cancel_ms is None


def test_jobs_submitted_in_the_turn_of_a_revocation_are_ended(world: World) -> None:
    ci = token(world, "ci")

    def work() -> None:
        specs = (JOB, JobSpec(name="cron", command="true", schedule="* * * * *", run_now=True))
        world.dispatcher.on_command(Submit(specs, ci), world.now)
        world.dispatcher.on_command(RevokeToken("ci", ADMIN, jobs=True), world.now)

    world.turn(work)
    assert [world.states(JobId(number)) for number in (1, 2)] == [["cancelled/cancelled"]] * 2
    assert world.job(JobId(2)).ended_ms is not None


# --- slots of a key --------------------------------------------------------------------------------------------------


def bound(slots_max: int | None, *, announced: int = 1_000) -> tuple[World, Peer]:
    world = World(keyed=True)
    world.ask(BindKey(WorkerId("w1"), K1, KeyOrigin.REMOTE, operator("ann"), slots_max))
    w1 = Peer(world, slots=announced)
    w1.key = K1
    return world, w1


def test_a_worker_gets_no_more_slots_than_its_key_allows() -> None:
    world, w1 = bound(4)
    world.submit(1_000)
    w1.register()
    assert world.worker("w1").slots == 4
    w1.say(Ready(s=w1.session, window=65_536, ahead=0))
    assert len(w1.take()) == 4
    w1.say(Ready(s=w1.session, window=65_536, ahead=65_536))
    assert len(w1.take()) == 4 * WINDOW_PER_SLOT_MAX - 4
    w1.beat(window=1_000_000, ahead=1_000_000)
    assert w1.take() == []
    assert world.engine.execute("SELECT count(*) FROM runs WHERE status = 'pending'") == [(1_000 - 256,)]
    world.end()


def test_a_worker_below_its_bound_and_one_without_get_what_they_announce() -> None:
    for slots_max in (1_000, None):
        world, w1 = bound(slots_max)
        world.submit(1_000)
        w1.join()
        assert len(w1.take()) == 1_000
        world.end()


def test_the_last_enrolment_says_how_many_slots_a_key_allows() -> None:
    world, w1 = bound(4)
    world.ask(BindKey(WorkerId("w1"), K1, KeyOrigin.REMOTE, operator("bob"), 2))
    w1.register()
    assert world.worker("w1").slots == 2
    world.ask(BindKey(WorkerId("w1"), K1, KeyOrigin.REMOTE, operator("root")))
    w1.register()
    assert world.worker("w1").slots == 1_000
    limits = world.engine.execute("SELECT actor, detail FROM events WHERE became = 'key_limited' ORDER BY event_id")
    assert limits == [
        ("ann", f"{K1}: at most 4 slots"),
        ("bob", f"{K1}: at most 2 slots"),
        ("root", f"{K1}: any number of slots"),
    ]
    world.end()


def test_cancel_by_an_operator_reaches_the_worker(world: World) -> None:
    w1 = Peer(world).join()
    (job,) = submit(world, token(world, "ci"))
    run_id = w1.take_one()
    world.cancel(job, operator("ann"))
    assert world.sent(CancelFrame).runs == (run_id,)
    assert world.job(job).status == RunStatus.RUNNING
