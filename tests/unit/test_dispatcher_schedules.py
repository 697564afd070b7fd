"""Dialogues about schedules that are paused, resumed, edited and ended: what is stopped never fires."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.world import WALL_MS, Peer, Poller, World, operator
from zsched import protocol
from zsched.model.access import Caller
from zsched.model.edits import JobEdit
from zsched.model.types import JobId, Policy, RunStatus
from zsched.scheduler.dispatcher.commands import ConflictError, EndSchedule, NotFoundError, NotOwnerError, PauseSchedule

# The world begins twenty seconds into a minute.
NEXT_MINUTE_MS = WALL_MS + 40_000
MINUTE_MS = 60_000
DAY_MS = 86_400_000
ANN = operator("ann")

# What stops a schedule. Each must hold whatever the clock and the scheduler do.
STOPS: dict[str, Callable[[World, JobId], object]] = {"pause": World.pause, "end": World.end_schedule}


@pytest.fixture(params=STOPS)
def stop(request: pytest.FixtureRequest) -> Callable[[World, JobId], object]:
    return STOPS[request.param]


def refusal(do: Callable[[], object]) -> tuple[str, str]:
    """The code and the sentence of a command that must be refused."""
    with pytest.raises(ConflictError) as caught:
        do()
    return caught.value.code, str(caught.value)


# --- nothing fires ---------------------------------------------------------------------------------------------------


def test_a_paused_job_does_not_fire(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.pause(job_id)
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []


def test_an_ended_job_does_not_fire(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.end_schedule(job_id)
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []


def test_a_stopped_schedule_makes_no_run_and_no_event(world: World, stop: Callable[[World, JobId], object]) -> None:
    job_id = world.recurring("* * * * *")
    stop(world, job_id)
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []
    assert world.job(job_id).next_fire_ms is None
    assert world.events("fire_skipped") == []


def test_a_stopped_schedule_does_not_fire_after_a_restart(world: World, stop: Callable[[World, JobId], object]) -> None:
    job_id = world.recurring("* * * * *")
    stop(world, job_id)
    world.jump(MINUTE_MS)
    world.restart()
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []


@pytest.mark.parametrize("step_ms", [DAY_MS, -DAY_MS])
def test_a_stopped_schedule_does_not_fire_after_a_clock_jump(
    world: World, stop: Callable[[World, JobId], object], step_ms: int
) -> None:
    job_id = world.recurring("* * * * *")
    stop(world, job_id)
    world.wall_ms += step_ms
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []


def test_a_stop_in_the_turn_of_the_fire_comes_before_it(world: World, stop: Callable[[World, JobId], object]) -> None:
    job_id = world.recurring("* * * * *")
    world.wait(39_999)
    world.jump(1)
    assert world.job(job_id).next_fire_ms == world.wall_ms
    stop(world, job_id)
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []


def test_a_stop_of_a_turn_that_was_given_up_has_not_happened(
    world: World, stop: Callable[[World, JobId], object]
) -> None:
    job_id = world.recurring("* * * * *")
    command = PauseSchedule(job_id, ANN) if stop is World.pause else EndSchedule(job_id, ANN)
    world.failing_turn(lambda: world.dispatcher.on_command(command, world.now))
    world.wait(40_000)
    assert world.states(job_id) == ["pending"]


def test_a_retry_that_waits_goes_on_when_the_schedule_is_stopped(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *", policy=Policy(retries=1))
    world.wait(40_000, w1)
    w1.finish(w1.take_one(), 1)
    world.pause(job_id)
    world.wait(10_000, w1)
    w1.finish(w1.take_one())
    world.wait(10 * MINUTE_MS, w1)
    assert world.states(job_id) == ["failed/exit", "success/exit"]


# --- pause and resume ------------------------------------------------------------------------------------------------


def test_a_resumed_job_fires_at_the_first_time_from_now(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.pause(job_id)
    world.wait(5 * MINUTE_MS)
    world.resume(job_id)
    job = world.job(job_id)
    assert (job.paused_ms, job.next_fire_ms) == (None, NEXT_MINUTE_MS + 5 * MINUTE_MS)
    assert world.states(job_id) == []
    world.wait(40_000)
    assert world.states(job_id) == ["pending"]
    assert world.events("fire_skipped") == []


def test_a_pause_leaves_a_live_run_alone(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(40_000, w1)
    run_id = w1.take_one()
    world.pause(job_id)
    assert w1.beat().cancel == ()
    assert w1.finish(run_id) == "stored"
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_pausing_twice_and_resuming_twice_change_nothing_more(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.pause(job_id)
    paused = world.job(job_id)
    world.wait(1_000)
    world.pause(job_id)
    assert world.job(job_id) == paused
    world.resume(job_id)
    resumed = world.job(job_id)
    world.wait(1_000)
    world.resume(job_id)
    assert world.job(job_id) == resumed
    assert len(world.events("schedule_paused")) == len(world.events("schedule_resumed")) == 1


def test_a_schedule_that_can_not_be_read_can_not_be_resumed(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.pause(job_id)
    world.by_hand("UPDATE jobs SET schedule = 'nonsense' WHERE job_id = ?", job_id)
    code, sentence = refusal(lambda: world.resume(job_id))
    assert code == "no_schedule"
    assert sentence.startswith(f"The schedule of job {job_id} can't be read: ")
    assert world.job(job_id).paused_ms is not None
    world.edit(job_id, JobEdit(schedule="* * * * *"))
    world.resume(job_id)
    assert world.job(job_id).next_fire_ms == NEXT_MINUTE_MS


# --- end -------------------------------------------------------------------------------------------------------------


def test_an_ended_job_that_never_fired_is_cancelled(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.end_schedule(job_id)
    job = world.job(job_id)
    assert (job.status, job.ended_ms, job.schedule) == (RunStatus.CANCELLED, WALL_MS, "* * * * *")
    assert world.events("schedule_ended") == [(job_id, None, None)]


def test_an_ended_job_keeps_the_status_of_its_last_fire(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(40_000, w1)
    w1.finish(w1.take_one(), 3)
    world.pause(job_id)
    world.end_schedule(job_id)
    job = world.job(job_id)
    assert (job.status, job.paused_ms, job.ended_ms) == (RunStatus.FAILED, None, world.wall_ms)


@pytest.mark.parametrize("handed", [False, True])
def test_a_schedule_is_not_ended_while_its_last_fire_is_live(world: World, handed: bool) -> None:
    w1 = Peer(world).join() if handed else None
    job_id = world.recurring("* * * * *")
    world.wait(40_000, *([w1] if w1 is not None else []))
    if w1 is not None:
        w1.take_one()
    code, sentence = refusal(lambda: world.end_schedule(job_id))
    assert code == "live"
    assert f"`zsched end --cancel {job_id}`" in sentence
    assert f"DELETE /jobs/{job_id}?cancel=1" in sentence
    assert world.job(job_id).ended_ms is None
    assert world.events("schedule_ended") == []


def test_a_result_in_the_turn_of_the_end_lets_the_schedule_end(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(40_000, w1)
    run_id = w1.take_one()

    def work() -> None:
        frame = protocol.Result(s=w1.session, results=(w1.result(run_id),))
        world.dispatcher.on_frame(w1.peer, frame, world.now)
        world.dispatcher.on_command(EndSchedule(job_id, ANN), world.now)

    world.turn(work)
    assert world.job(job_id).ended_ms is not None
    world.sent_to(w1.peer)


def test_an_end_with_cancel_ends_the_live_run_too(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *", policy=Policy(retries=3))
    world.wait(40_000, w1)
    run_id = w1.take_one()
    world.end_schedule(job_id, cancel=True)
    (frame,) = world.sent_to(w1.peer)
    assert frame == protocol.Cancel(s=w1.session, ep=1, runs=(run_id,))
    w1.finish(run_id, 143)
    world.wait(10 * MINUTE_MS, w1)
    assert world.states(job_id) == ["cancelled/cancelled"]
    assert world.job(job_id).status == RunStatus.CANCELLED


def test_end_with_cancel_ends_a_pending_and_a_polled_run_at_once(world: World) -> None:
    pending, handed = world.recurring("* * * * *"), world.recurring("* * * * *")
    poller = Poller(world).register()
    world.wait(40_000, poller)
    assert poller.next_run().job_id == pending
    for job_id in (pending, handed):
        world.end_schedule(job_id, cancel=True)
        assert world.states(job_id) == ["cancelled/cancelled"]


def test_an_end_with_cancel_of_a_job_with_nothing_live_only_ends_it(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.end_schedule(job_id, cancel=True)
    assert world.job(job_id).status == RunStatus.CANCELLED


def test_ending_an_ended_schedule_changes_nothing(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.end_schedule(job_id)
    ended = world.job(job_id)
    world.wait(1_000)
    world.end_schedule(job_id)
    assert world.job(job_id) == ended
    assert len(world.events("schedule_ended")) == 1


def test_an_ended_schedule_takes_no_other_change(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.end_schedule(job_id)
    sentence = f"The schedule of job {job_id} has ended: submit the job again"
    for do in (
        lambda: world.pause(job_id),
        lambda: world.resume(job_id),
        lambda: world.edit(job_id, JobEdit(name="n")),
    ):
        assert refusal(do) == ("schedule_ended", sentence)


# --- edit ------------------------------------------------------------------------------------------------------------


def test_a_changed_schedule_counts_from_now(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.edit(job_id, JobEdit(schedule="*/5 * * * *"))
    # 22:13:20 now.
    assert world.job(job_id).next_fire_ms == WALL_MS + 100_000
    world.wait(99_999)
    assert world.states(job_id) == []
    world.wait(1)
    assert world.states(job_id) == ["pending"]
    assert world.events("job_edited") == [(job_id, None, "schedule: * * * * * -> */5 * * * *")]


def test_an_edit_in_the_turn_of_the_fire_comes_before_it(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.wait(39_999)
    world.jump(1)
    world.edit(job_id, JobEdit(schedule="0 0 * * *"))
    assert world.states(job_id) == []


def test_a_changed_schedule_of_a_paused_job_fires_only_after_its_resume(world: World) -> None:
    job_id = world.recurring("0 0 * * *")
    world.pause(job_id)
    world.edit(job_id, JobEdit(schedule="* * * * *"))
    assert world.job(job_id).next_fire_ms is None
    world.wait(10 * MINUTE_MS)
    assert world.states(job_id) == []
    world.resume(job_id)
    world.wait(MINUTE_MS)
    assert world.states(job_id) == ["pending"]


def test_other_changes_leave_the_next_fire_alone(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.wait(39_999)
    world.jump(1)
    world.edit(job_id, JobEdit(name="n", command="false", timeout_ms=9))
    job = world.job(job_id)
    assert (job.name, job.command, job.policy.timeout_ms) == ("n", "false", 9)
    assert world.states(job_id) == ["pending"]
    # A command may hold a secret.
    assert world.events("job_edited") == [(job_id, None, "name, command, timeout")]


def test_a_timeout_can_be_removed(world: World) -> None:
    job_id = world.recurring("* * * * *", policy=Policy(timeout_ms=5))
    world.edit(job_id, JobEdit(timeout_ms=0))
    assert world.job(job_id).policy == Policy()


def test_an_edit_that_changes_nothing_leaves_no_event(world: World) -> None:
    job_id = world.recurring("* * * * *")
    before = world.job(job_id)
    world.jump(1)
    world.edit(job_id, JobEdit(schedule="* * * * *", command="true", timeout_ms=0))
    assert world.job(job_id) == before
    assert world.events("job_edited") == []


def test_run_at_a_worker_keeps_its_command_and_a_requeued_one_changes(
    world: World,
) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("*/5 * * * *")
    world.wait(100_000, w1)
    run_id = w1.take_one()
    w1.start(run_id)
    world.edit(job_id, JobEdit(command="false"))
    assert w1.orders[run_id].command == "true"
    w1.quiet_beat()
    again = w1.again()
    again.register()
    again.ready()
    successor = again.take_one()
    assert again.orders[successor].command == "false"


# --- jobs that have no schedule, or are not there --------------------------------------------------------------------

CHANGES: dict[str, Callable[[World, JobId], object]] = {
    **STOPS,
    "resume": World.resume,
    "edit": lambda world, job_id: world.edit(job_id, JobEdit(name="n")),
}


@pytest.mark.parametrize("change", [change for change in CHANGES if change != "edit"])
def test_a_job_without_a_schedule_is_refused(world: World, change: str) -> None:
    job_id = world.submit_one()
    before = world.job(job_id)
    code, sentence = refusal(lambda: CHANGES[change](world, job_id))
    instead = f"cancel it with `zsched cancel {job_id}` (POST /jobs/{job_id}/cancel)"
    told = instead if change == "end" else "only recurring jobs take this call"
    assert (code, sentence) == ("no_schedule", f"Job {job_id} has no schedule: {told}")
    assert world.job(job_id) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_that_is_not_there_is_not_found(world: World, change: str) -> None:
    with pytest.raises(NotFoundError):
        CHANGES[change](world, JobId(9))


def test_a_cancel_that_finds_nothing_says_how_to_end_the_schedule(world: World) -> None:
    job_id = world.recurring("* * * * *")
    code, sentence = refusal(lambda: world.cancel(job_id))
    assert code == "finished"
    assert sentence.endswith(f"its schedule goes on: end it with `zsched end {job_id}` (DELETE /jobs/{job_id})")
    world.end_schedule(job_id)
    assert refusal(lambda: world.cancel(job_id)) == ("finished", f"Nothing of job {job_id} is pending or running")


# --- whose jobs they are ---------------------------------------------------------------------------------------------

OWN = Caller(owner="token:ci", actor="token:ci", all_jobs=False)
OTHER = Caller(owner="token:other", actor="token:other", all_jobs=False)
OPERATOR = Caller(owner="token:night", actor="token:night", all_jobs=True)
CHANGES_BY: dict[str, Callable[[World, JobId, Caller], object]] = {
    "pause": World.pause,
    "resume": World.resume,
    "end": World.end_schedule,
    "edit": lambda world, job_id, by: world.edit(job_id, JobEdit(name="n"), by),
}


@pytest.mark.parametrize("change", CHANGES_BY)
def test_another_owners_schedule_is_left_alone(world: World, change: str) -> None:
    job_id = world.recurring("* * * * *", by=OWN)
    before = world.job(job_id)
    with pytest.raises(NotOwnerError):
        CHANGES_BY[change](world, job_id, OTHER)
    assert world.job(job_id) == before
    assert world.engine.execute("SELECT count(*) FROM events WHERE actor = 'token:other'") == [(0,)]


@pytest.mark.parametrize("change", CHANGES_BY)
@pytest.mark.parametrize("by", [OWN, OPERATOR])
def test_owners_and_operators_change_schedules(world: World, change: str, by: Caller) -> None:
    job_id = world.recurring("* * * * *", by=OWN)
    if change == "resume":
        world.pause(job_id, OWN)
    before = world.job(job_id)
    CHANGES_BY[change](world, job_id, by)
    assert world.job(job_id) != before


def test_an_operator_can_not_change_what_another_owners_job_runs(world: World) -> None:
    """It runs as the job's user, and with its secrets."""
    job_id = world.recurring("* * * * *", by=OWN)
    sentence = f"Job {job_id} belongs to token:ci: a token needs the scope admin to change its command"
    with pytest.raises(NotOwnerError, match=sentence):
        world.edit(job_id, JobEdit(command="env", name="n"), OPERATOR)
    assert (world.job(job_id).command, world.job(job_id).name) == ("true", "cron")
    world.edit(job_id, JobEdit(command="true", name="n"), OPERATOR)
    world.edit(job_id, JobEdit(command="env"), OWN)
    world.edit(job_id, JobEdit(command="id"), ANN)
    assert (world.job(job_id).command, world.job(job_id).name) == ("id", "n")
