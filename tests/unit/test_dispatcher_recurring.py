"""Dialogues about recurring jobs: one run for each slot, whatever the clock and the scheduler do."""

from __future__ import annotations

import pytest

from tests.unit.world import WALL_MS, Peer, Poller, World
from zsched.model.limits import FIRE_LATE_MS_MAX
from zsched.model.types import RunStatus
from zsched.scheduler.dispatcher.commands import ConflictError

# The world begins twenty seconds into a minute.
NEXT_MINUTE_MS = WALL_MS + 40_000
MINUTE_MS = 60_000


def test_a_recurring_job_waits_for_its_first_slot(world: World) -> None:
    job_id = world.recurring("* * * * *")
    assert world.job(job_id).next_fire_ms == NEXT_MINUTE_MS
    world.wait(39_999)
    assert world.states(job_id) == []
    assert world.job(job_id).status == RunStatus.PENDING
    world.wait(1)
    assert world.states(job_id) == ["pending"]
    assert world.job(job_id).next_fire_ms == NEXT_MINUTE_MS + MINUTE_MS


def test_the_loop_is_woken_for_a_slot(world: World) -> None:
    world.recurring("* * * * *")
    world.wait(39_500)
    assert world.next_tick_ms == world.mono_ms + 500


def test_a_slot_fires_once_and_its_run_is_sent_in_the_same_turn(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    for _ in range(3):
        world.wait(40_000, w1)
        w1.finish(w1.take_one())
        world.wait(20_000, w1)
    assert world.states(job_id) == ["success/exit"] * 3
    assert world.job(job_id).status == RunStatus.SUCCESS


def test_run_now_makes_the_first_run_at_once(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("0 0 1 1 *", run_now=True)
    w1.finish(w1.take_one())
    assert world.states(job_id) == ["success/exit"]
    assert world.job(job_id).next_fire_ms is not None


def test_a_slot_is_skipped_while_the_last_run_has_not_ended(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(40_000, w1)
    run_id = w1.take_one()
    w1.start(run_id)
    world.wait(MINUTE_MS, w1)
    assert world.states(job_id) == ["running"]
    assert world.events("fire_skipped") == [(job_id, None, "its last run has not ended")]
    w1.finish(run_id)
    world.wait(MINUTE_MS, w1)
    assert len(w1.take()) == 1


def test_a_result_in_the_very_turn_of_the_slot_lets_it_fire(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(40_000, w1)
    run_id = w1.take_one()
    world.wait(MINUTE_MS - 1, w1)
    world.jump(1)
    w1.finish(run_id)
    assert len(w1.take()) == 1
    assert world.states(job_id) == ["success/exit", "running"]


def test_a_slot_that_passed_while_the_scheduler_was_down_is_skipped(world: World) -> None:
    job_id = world.recurring("30 * * * *")
    slot_ms = world.job(job_id).next_fire_ms or 0
    world.jump(slot_ms - world.wall_ms + FIRE_LATE_MS_MAX + 1)
    world.restart()
    world.turn()
    assert world.states(job_id) == []
    assert world.events("fire_skipped") == [(job_id, None, "its time had passed while the scheduler was down")]
    assert world.job(job_id).next_fire_ms == slot_ms + 3_600_000


def test_a_slot_that_is_a_little_late_still_fires(world: World) -> None:
    job_id = world.recurring("30 * * * *")
    slot_ms = world.job(job_id).next_fire_ms or 0
    world.jump(slot_ms - world.wall_ms + FIRE_LATE_MS_MAX)
    world.restart()
    world.turn()
    assert world.states(job_id) == ["pending"]


def test_many_slots_that_passed_are_one_fire_at_most(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.jump(7 * 86_400_000)
    world.restart()
    world.turn()
    assert world.states(job_id) == ["pending"]
    world.turn()
    assert world.states(job_id) == ["pending"]


@pytest.mark.parametrize(
    "steps", [(-3_600_000, 3_600_000), (-30_000, 1_000, -30_000, 60_000), (-86_400_000, 86_400_000)]
)
def test_a_wall_clock_that_jumps_back_and_forth_fires_no_slot_twice(world: World, steps: tuple[int, ...]) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    world.wait(45_000, w1)
    w1.finish(w1.take_one())
    for step_ms in steps:
        world.wall_ms += step_ms
        world.wait(1_000, w1)
    assert w1.take() == []
    slots = [run.created_ms // MINUTE_MS for run in world.runs(job_id)]
    assert slots == [NEXT_MINUTE_MS // MINUTE_MS]


def test_the_status_of_a_recurring_job_is_that_of_its_last_fire(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("* * * * *")
    seen = []
    for exit_code in (1, 0, 2):
        world.wait(MINUTE_MS, w1)
        w1.finish(w1.take_one(), exit_code)
        seen.append(world.job(job_id).status)
    assert seen == [RunStatus.FAILED, RunStatus.SUCCESS, RunStatus.FAILED]


def test_a_cancel_ends_the_live_fire_and_the_schedule_goes_on(world: World) -> None:
    job_id = world.recurring("* * * * *")
    world.wait(40_000)
    world.cancel(job_id)
    assert world.states(job_id) == ["cancelled/cancelled"]
    world.wait(MINUTE_MS)
    assert world.states(job_id) == ["cancelled/cancelled", "pending"]


def test_a_cancel_between_fires_finds_nothing(world: World) -> None:
    job_id = world.recurring("* * * * *")
    with pytest.raises(ConflictError):
        world.cancel(job_id)
    world.wait(40_000)
    assert world.states(job_id) == ["pending"]


def test_a_fire_that_is_lost_is_tried_again(world: World) -> None:
    w1 = Peer(world).join()
    job_id = world.recurring("*/5 * * * *")
    world.wait(100_000, w1)
    run_id = w1.take_one()
    w1.start(run_id)
    again = w1.again()
    again.register()
    again.ready()
    again.finish(again.take_one())
    assert world.states(job_id) == ["failed/worker_lost", "success/exit"]
    assert world.job(job_id).status == RunStatus.SUCCESS


@pytest.mark.parametrize("text", ["nonsense", "99 * * * *", "* * * *", ""])
def test_schedule_that_cannot_be_read_stops_only_itself(world: World, text: str) -> None:
    bad, good = world.recurring("* * * * *"), world.recurring("* * * * *")
    world.by_hand("UPDATE jobs SET schedule = ? WHERE job_id = ?", text, bad)
    world.wait(40_000)
    assert world.states(bad) == []
    assert world.job(bad).next_fire_ms is None
    ((job_id, _, detail),) = world.events("fire_skipped")
    assert job_id == bad
    assert detail.startswith("the schedule can't be read")
    assert world.states(good) == ["pending"]
    assert Poller(world).register().next_run().job_id == good
