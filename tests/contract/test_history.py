"""A long random history over all verbs: after each commit the counters and the events must agree with the tables.

The checks themselves stand in base.py. Each history comes from its seed alone.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.contract.base import NOW, Base
from zsched.model.types import JobId, JobSpec, Policy, Reason, RunId, RunStatus, WorkerId, WorkerKind

pytestmark = pytest.mark.slow

WORKERS = [WorkerId(name) for name in ("w1", "w2", "w3")]
STEPS = 400


class Oops(Exception):
    """A bug of ours, in the middle of a piece of work."""


class History:
    """One step is one verb with arguments by chance, right or wrong."""

    def __init__(self, base: Base, seed: int) -> None:
        self.base = base
        self.store = base.store
        self.chance = random.Random(seed)
        self.now_ms = NOW
        self.steps: list[Callable[[], None]] = [
            self.submit,
            self.submit,
            self.claim,
            self.claim,
            self.claim,
            self.start,
            self.finish,
            self.finish_many,
            self.requeue_unstarted,
            self.fail_lost,
            self.cancel,
            self.change_schedule,
            self.meet_worker,
            self.clear,
        ]

    def step(self) -> None:
        if self.chance.random() < 0.3:
            self.look_ahead()
        self.chance.choice(self.steps)()

    def look_ahead(self) -> None:
        """Read what the next steps may be about, as a turn does before it handles its frames."""
        last = self.base.rows("SELECT coalesce(max(run_id), 0) FROM runs")[0][0]
        self.store.look_ahead(RunId(run_id) for run_id in range(max(1, last - 20), last + 2))

    def botch(self) -> None:
        """Steps that must be undone whole."""
        with self.store.savepoint():
            self.step()
            self.step()
            raise Oops

    def any_run(self) -> RunId:
        last = self.base.rows("SELECT coalesce(max(run_id), 0) FROM runs")[0][0]
        # Mostly one of the last, which still move; now and then one that does not exist.
        return RunId(max(1, last + 1 - self.chance.randrange(20)))

    def live_run(self) -> tuple[RunId, WorkerId] | None:
        found = self.base.rows("SELECT run_id, worker_id FROM runs WHERE status = 'running'")
        return self.chance.choice(found) if found else None

    def worker(self) -> WorkerId:
        return self.chance.choice(WORKERS)

    def submit(self) -> None:
        kinds = [
            JobSpec(name="plain", command="true"),
            JobSpec(name="limited", command="true", policy=Policy(timeout_ms=self.chance.randrange(1, 30_000))),
            JobSpec(name="cron", command="true", schedule="* * * * *", run_now=self.chance.random() < 0.5),
        ]
        specs = self.chance.choices(kinds, k=self.chance.randrange(4))
        fires = [self.now_ms + 1_000 if spec.schedule else None for spec in specs]
        self.store.submit(specs, fires, "test", self.now_ms)

    def claim(self) -> None:
        ready = self.store.ready(NOW)
        if ready:
            best, count, ends = self.chance.choice(ready), self.chance.randrange(1, 4), self.chance.random() < 0.5
            if self.chance.random() < 0.5:
                self.store.ready_count(best.demand_id, 5)
            self.base.claim_of(best.demand_id, self.worker(), count, floor=best.priority, now_ms=self.now_ms, ends=ends)

    def start(self) -> None:
        live = self.live_run()
        run_id, worker_id = live if live and self.chance.random() < 0.7 else (self.any_run(), self.worker())
        self.store.start(run_id, worker_id, self.now_ms)

    def finish(self) -> None:
        live = self.live_run()
        run_id, worker_id = live if live and self.chance.random() < 0.7 else (self.any_run(), self.worker())
        self.base.finish(run_id, worker_id, self.chance.choice([RunStatus.SUCCESS, RunStatus.FAILED]))

    def finish_many(self) -> None:
        """Results of one frame: of runs that the worker has, and of others."""
        worker_id = self.worker()
        held = [run.run_id for run in self.store.held_by(worker_id)]
        runs = set(self.chance.sample(held, self.chance.randrange(len(held) + 1))) | {self.any_run(), self.any_run()}
        outcomes = [
            self.base.outcome(run_id, self.chance.choice([RunStatus.SUCCESS, RunStatus.FAILED]))
            for run_id in sorted(runs)
        ]
        verdicts = self.store.finish_many(outcomes, worker_id, self.now_ms)
        stored = [outcome.run_id for outcome, verdict in zip(outcomes, verdicts, strict=True) if verdict == "stored"]
        assert stored == [outcome.run_id for outcome in outcomes if outcome.run_id in held]

    def requeue_unstarted(self) -> None:
        self.store.requeue_unstarted(self.any_run(), self.worker(), Reason.RETURNED, self.now_ms)

    def fail_lost(self) -> None:
        live = self.live_run()
        if live:
            due_ms = self.now_ms + 500 if self.chance.random() < 0.5 else None
            crash = self.chance.random() < 0.5
            together = 0 if crash else 4
            self.store.fail_lost(live[0], "gone", crash=crash, together=together, due_ms=due_ms, now_ms=self.now_ms)

    def cancel(self) -> None:
        found = self.base.rows("SELECT job_id FROM runs WHERE run_id = ?", self.any_run())
        if found:
            cancelled = self.store.cancel(found[0][0], "ann", self.now_ms)
            for _, run_id in cancelled.running:
                if self.chance.random() < 0.3:
                    self.store.end_cancelled(run_id, self.now_ms)

    def change_schedule(self) -> None:
        jobs = [job_id for (job_id,) in self.base.rows("SELECT job_id FROM jobs")]
        if not jobs:
            return
        job_id, what = JobId(self.chance.choice(jobs)), self.chance.random()
        if what < 0.45:
            self.store.pause_schedule(job_id, "ann", self.now_ms)
        elif what < 0.9:
            self.store.resume_schedule(job_id, self.now_ms + 1_000, "ann", self.now_ms)
        else:
            self.store.end_schedule(job_id, "ann", self.now_ms)

    def tick(self) -> None:
        """What the tick does by itself, outside of any attempt."""
        self.now_ms += self.chance.randrange(2_000)
        self.store.end_overdue(self.now_ms)
        self.store.release_due(self.now_ms, 10)
        self.store.flush_counters(self.now_ms)
        for due in self.store.due(self.now_ms, 2):
            if due.live:
                self.store.skip_fire(due.job_id, self.now_ms + 1_000, "schedule", "live", self.now_ms)
            else:
                self.store.fire(due.job_id, self.now_ms + 1_000, "schedule", self.now_ms)

    def meet_worker(self) -> None:
        worker_id, what = self.worker(), self.chance.randrange(3)
        if what == 0:
            self.base.register(worker_id, WorkerKind.REST, self.now_ms)
        elif what == 1:
            self.store.reactivate(worker_id, self.now_ms)
        elif worker_id in [worker.worker_id for worker in self.store.active_workers()]:
            self.store.deactivate(worker_id, "test", self.now_ms)

    def clear(self) -> None:
        self.store.clear_probation(self.any_run())


@pytest.mark.parametrize("seed", range(12))
def test_events_and_counters_tell_the_state_of_every_run_after_any_history(base: Base, seed: int) -> None:
    history = History(base, seed)
    for _ in range(STEPS):
        end = history.chance.random()
        if end < 0.05:
            with pytest.raises(Oops):
                history.botch()
        elif end < 0.08:
            base.store.rollback()
            base.store.begin()
        elif end < 0.25:
            history.tick()
            base.turn(history.now_ms)
        else:
            with base.store.savepoint():
                history.step()
        base.check_loads(WORKERS)
    base.turn(history.now_ms)
    # A history in which little happened would prove little.
    statuses = {status for (status,) in base.rows("SELECT DISTINCT status FROM runs")}
    assert statuses >= {"running", "success", "failed", "cancelled"}
    assert base.rows("SELECT count(*) FROM runs")[0][0] > 30
