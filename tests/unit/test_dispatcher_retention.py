"""Retention, as the dispatcher paces it: in small steps, each in its own turn, and with time in the test's hands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.world import TEST, World
from zsched.model.limits import PURGE_EVENTS_INTERVAL_MS, PURGE_INTERVAL_MS, PURGE_JOBS_MAX, PURGE_PAUSE_MS
from zsched.model.types import JobId, JobSpec, RunStatus
from zsched.scheduler.dispatcher import Dispatcher, Settings
from zsched.scheduler.dispatcher.acts import Delete
from zsched.scheduler.dispatcher.retention import Keep, Purge
from zsched.store.contract import Old, Step

DAY_MS = 86_400_000


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.end()


def keep(world: World, success_ms: int | None, others_ms: int | None) -> None:
    """The scheduler has these settings from now on."""
    settings = Settings(
        epoch=2, timeout_ms=30_000, new_token=lambda: "s", keep=Keep(success_ms=success_ms, others_ms=others_ms)
    )
    world.dispatcher = Dispatcher(world.store, settings, world.now)


def cancelled(world: World, count: int) -> None:
    """Jobs that were cancelled now."""

    def make() -> None:
        for job_id in world.store.submit(
            [JobSpec(name="j", command="true")] * count, [None] * count, "t", world.wall_ms
        ):
            world.store.cancel(job_id, "t", world.wall_ms)

    world.turn(make)


def jobs(world: World) -> int:
    return int(world.engine.execute("SELECT count(*) FROM jobs")[0][0])


def rounds(world: World, turns: int) -> None:
    for _ in range(turns):
        world.jump(PURGE_PAUSE_MS)
        world.turn()


def test_old_jobs_are_removed_and_young_ones_stay(world: World) -> None:
    cancelled(world, 3)
    keep(world, None, 30 * DAY_MS)
    rounds(world, 10)
    assert jobs(world) == 3
    world.jump(30 * DAY_MS - PURGE_INTERVAL_MS)
    rounds(world, 10)
    assert jobs(world) == 3
    cancelled(world, 1)
    world.jump(PURGE_EVENTS_INTERVAL_MS)
    rounds(world, 10)
    assert jobs(world) == 1
    assert world.engine.execute("SELECT count(*) FROM events WHERE became = 'cancelled'")[0][0] == 1


def test_each_status_has_its_own_limit(world: World) -> None:
    cancelled(world, 1)
    keep(world, DAY_MS, None)
    world.jump(100 * DAY_MS)
    rounds(world, 10)
    assert jobs(world) == 1


def test_a_turn_removes_only_some_and_the_next_comes_soon(world: World) -> None:
    cancelled(world, 2 * PURGE_JOBS_MAX + 1)
    keep(world, 1, 1)
    world.jump(DAY_MS)
    left = [jobs(world)]
    while jobs(world):
        world.jump(PURGE_PAUSE_MS)
        world.turn()
        assert world.next_tick_ms <= world.mono_ms + PURGE_PAUSE_MS
        if jobs(world) != left[-1]:
            left.append(jobs(world))
    assert left == [2 * PURGE_JOBS_MAX + 1, PURGE_JOBS_MAX + 1, 1, 0]


def test_a_step_that_was_undone_is_done_again(world: World) -> None:
    cancelled(world, 1)
    keep(world, 1, 1)
    world.jump(DAY_MS)
    store, dispatcher = world.store, world.dispatcher
    for _ in range(3):
        world.jump(PURGE_PAUSE_MS)
        store.begin()
        dispatcher.on_begin(world.now)
        dispatcher.on_tick(world.now, drained=True)
        store.rollback()
        dispatcher.on_rollback()
    assert jobs(world) == 1
    rounds(world, 10)
    assert jobs(world) == 0


def test_events_and_fires_have_their_turn_more_rarely(world: World) -> None:
    def events() -> int:
        return int(world.engine.execute("SELECT count(*) FROM events WHERE became = 'cancelled'")[0][0])

    keep(world, 1, 1)
    rounds(world, 10)
    cancelled(world, 1)
    world.jump(2 * PURGE_INTERVAL_MS)
    rounds(world, 10)
    assert (jobs(world), events()) == (0, 1)
    world.jump(PURGE_EVENTS_INTERVAL_MS)
    rounds(world, 10)
    assert events() == 0


def test_without_limits_nothing_is_done(world: World) -> None:
    cancelled(world, 1)
    keep(world, None, None)
    world.jump(1_000 * DAY_MS)
    rounds(world, 10)
    assert jobs(world) == 1


def test_removals_by_callers_do_not_stop_a_round(world: World) -> None:
    """Not even if there is always another one before the round ends."""
    cancelled(world, 3)
    keep(world, None, DAY_MS)
    world.jump(2 * DAY_MS)
    cancelled(world, 30)
    for job in range(4, 34):
        world.ask(Delete(JobId(job), TEST))
        rounds(world, 1)
    assert jobs(world) == 0
    assert world.engine.execute("SELECT count(*) FROM events WHERE job_id < 4") == [(0,)]


def test_purge_for_a_caller_removes_events_too(world: World) -> None:
    cancelled(world, 3)
    keep(world, None, None)
    world.jump(DAY_MS)
    cancelled(world, 1)
    step = world.ask(Purge(Old(RunStatus.CANCELLED, world.wall_ms), JobId(0), "ann"))
    assert step == Step(3, None)
    assert jobs(world) == 1
    rounds(world, 3)
    left = world.engine.execute("SELECT actor, detail FROM events WHERE job_id IS NULL AND run_first IS NULL")
    assert left == [("ann", "3 jobs: 1-3")]
    assert world.engine.execute("SELECT count(*) FROM events WHERE job_id < 4") == [(0,)]
    # Nothing more is due.
    assert world.next_tick_ms > world.mono_ms + PURGE_PAUSE_MS
