"""Dialogues about start times and deadlines: no run starts before the one or after the other."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.world import TEST, WALL_MS, Peer, Poller, World
from zsched.model.limits import DUE_RUNS_MAX
from zsched.model.types import JobId, JobSpec
from zsched.scheduler.dispatcher.commands import ConflictError, Made, Submit
from zsched.scheduler.dispatcher.why import why

HOUR_MS = 3_600_000


def submit(world: World, count: int = 1, **times: Any) -> list[JobId]:
    reply = world.ask(Submit((JobSpec(name="job", command="true", **times),) * count, TEST))
    assert isinstance(reply, Made)
    return list(reply.ids)


def test_job_starts_at_its_start_time(world: World) -> None:
    w1 = Peer(world).join()
    (job_id,) = submit(world, run_at_ms=WALL_MS + 5_000)
    world.wait(4_000, w1)
    assert w1.take() == []
    world.wait(1_000, w1)
    assert len(w1.take()) == 1
    assert world.states(job_id) == ["running"]


def test_delay_counts_from_the_submit(world: World) -> None:
    w1 = Peer(world).join()
    world.wait(3_000, w1)
    (job_id,) = submit(world, delay_ms=2_000)
    assert world.job(job_id).run_at_ms == WALL_MS + 5_000
    world.wait(1_000, w1)
    assert w1.take() == []
    world.wait(1_000, w1)
    assert len(w1.take()) == 1


def test_clock_set_forward_starts_what_has_a_date_and_not_what_has_a_delay(world: World) -> None:
    w1 = Peer(world).join()
    (dated,), (delayed,) = submit(world, run_at_ms=WALL_MS + HOUR_MS), submit(world, delay_ms=HOUR_MS)
    world.wall_ms += 2 * HOUR_MS
    world.wait(1_000, w1)
    assert len(w1.take()) == 1
    assert world.states(dated) == ["running"]
    assert world.states(delayed) == ["pending"]


def test_job_whose_deadline_comes_before_its_start_is_refused(world: World) -> None:
    submit(world, run_at_ms=WALL_MS + 5_000, expiry_ms=5_001)
    for times in (
        {"run_at_ms": WALL_MS + 5_000, "expiry_ms": 5_000},
        {"delay_ms": 5_000, "deadline_ms": WALL_MS + 4_000},
    ):
        with pytest.raises(ConflictError, match="could never start") as refused:
            submit(world, **times)
        assert refused.value.code == "deadline"


def test_unclaimed_job_expires_at_its_deadline(world: World) -> None:
    (job_id,) = submit(world, expiry_ms=5_000)
    world.wait(4_999)
    assert world.states(job_id) == ["pending"]
    world.wait(1)
    assert world.states(job_id) == ["failed/expired"]
    w1 = Peer(world).join()
    assert w1.take() == []


def test_deadline_does_not_touch_a_running_job(world: World) -> None:
    w1 = Peer(world).join()
    (job_id,) = submit(world, deadline_ms=WALL_MS + 1_000)
    run_id = w1.take_one()
    world.wait(10_000, w1)
    assert world.states(job_id) == ["running"]
    assert w1.finish(run_id) == "stored"


def test_no_worker_gets_a_run_at_its_deadline_whatever_else_is_due(world: World) -> None:
    """One turn ends a bounded number of runs; the others must not start in the meantime."""
    job_ids = submit(world, DUE_RUNS_MAX + 40, deadline_ms=WALL_MS + 1_000)
    w1, r1 = Peer(world, slots=64), Poller(world).register()
    world.jump(999)
    w1.register()
    world.jump(1)
    w1.ready()
    assert w1.take() == []
    assert r1.next() is None
    world.wait(10, w1)
    assert {state for job_id in (job_ids[0], job_ids[-1]) for state in world.states(job_id)} == {"failed/expired"}


def test_waiting_job_says_when_it_starts(world: World) -> None:
    (job_id,) = submit(world, run_at_ms=WALL_MS + 5_000)
    job, (run,) = world.job(job_id), world.runs(job_id)
    cause = why(world.store.reads, job, run)
    assert cause is not None
    assert cause.code == "scheduled"
    assert "it starts at 20" in cause.detail
