"""Priorities, queues, limits and unique keys: what is ready, in which order, and how much of it may run at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.contract.base import NOW, W1, W2, Base
from zsched.model.demand import Demand
from zsched.model.edits import JobEdit
from zsched.model.requirements import Requirements
from zsched.model.types import JobId, JobSpec, Policy, Reason, RunStatus
from zsched.store import check, filters, sql
from zsched.store.contract import JobFilter, Old

FAILED = RunStatus.FAILED
DB = ("db", 3)


def submit(base: Base, count: int = 1, *, owner: str = "", **fields: Any) -> list[JobId]:
    specs = [JobSpec(name="job", command="true", **fields).submitted_at(NOW)] * count
    return base.store.submit(specs, [None] * count, "test", NOW, owner=owner)


def claim(base: Base, count: int = 64, **others: Any) -> list[JobId]:
    return [run.job_id for run in base.claim(count=count, **others)]


def offered(base: Base) -> list[Demand]:
    return [ready.demand for ready in base.store.ready(NOW)]


def limited(base: Base, count: int = 1, **fields: Any) -> list[JobId]:
    return submit(base, count, limits=dict([DB]), **fields)


def undone(base: Base, work: Callable[[], object]) -> None:
    """Do something in a part of the turn that is undone."""
    with suppress(ZeroDivisionError), base.store.savepoint():
        work()
        raise ZeroDivisionError


# --- priority ---


def test_highest_priority_is_claimed_first_then_the_oldest(base: Base) -> None:
    (old,), (low,), (high,), (young,) = (submit(base, priority=priority) for priority in (0, -1, 5, 0))
    assert claim(base, 3) == [high, old, young]
    assert claim(base) == [low]


def test_priority_counts_across_demands(base: Base) -> None:
    (plain,), (quick,) = submit(base), submit(base, queue="fast", priority=1)
    first, second = base.store.ready(NOW)
    assert (first.priority, first.demand.queue, second.priority) == (1, "fast", 0)
    assert [run.job_id for run in base.claim_of(first.demand_id)] == [quick]
    assert claim(base) == [plain]


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_successor_has_the_priority_queue_and_limits_of_its_task(base: Base, end: str) -> None:
    submit(base, priority=7, queue="fast", limits={"db": 1}, policy=Policy(retries=1))
    (run,) = base.claim()
    if end == "failed":
        base.finish(run.run_id, status=FAILED, exit_code=1)
        base.store.release_due(NOW + 10**9, 9)
    else:
        base.fail_lost(run.run_id)
    (ready,) = base.store.ready(NOW)
    assert (ready.priority, ready.demand) == (7, Demand(queue="fast", limits=(("db", 1),)))


def test_fire_has_the_priority_and_limits_of_its_job(base: Base) -> None:
    spec = JobSpec(name="cron", command="true", schedule="* * * * *", priority=3, limits={"db": 1})
    (job_id,) = base.store.submit([spec], [NOW], "test", NOW)
    base.store.fire(job_id, NOW + 60_000, "test", NOW)
    limited(base)
    assert [ready.priority for ready in base.store.ready(NOW)] == [3, 0]
    (run,) = base.claim()
    assert run.job_id == job_id
    assert base.rows("SELECT blocked FROM runs WHERE run_id = ?", run.run_id) == [(4,)]


# --- queues ---


def test_runs_of_a_paused_queue_are_not_ready(base: Base) -> None:
    (plain,), (nightly,) = submit(base), submit(base, queue="nightly")
    assert base.store.queues.pause("nightly", "disk full", "ann", NOW)
    assert not base.store.queues.pause("nightly", "again", "bob", NOW + 1)
    assert claim(base) == [plain]
    assert base.store.ready(NOW) == []
    base.turn()
    assert base.store.queues.resume("nightly", "", "ann", NOW + 2)
    assert not base.store.queues.resume("nightly", "", "ann", NOW + 2)
    assert claim(base) == [nightly]
    base.turn()
    events = base.rows("SELECT actor, became, detail FROM events WHERE became LIKE 'queue%' ORDER BY event_id")
    assert events == [("ann", "queue_paused", "nightly: disk full"), ("ann", "queue_resumed", "nightly")]
    assert base.rows("SELECT * FROM queues") == []


def test_pause_that_is_undone_pauses_nothing(base: Base) -> None:
    submit(base)
    found: list[int] = []

    def pause() -> None:
        base.store.queues.pause("default", "", "ann", NOW)
        found.append(len(base.store.ready(NOW)))

    undone(base, pause)
    assert [*found, len(base.store.ready(NOW))] == [0, 1]


def test_queues_are_listed_with_their_tasks(base: Base) -> None:
    submit(base, 2)
    submit(base, 3, queue="gpu")
    submit(base, limits={"db": 1})
    submit(base, queue="later", delay_ms=1_000)
    claim(base, 1)
    base.store.queues.pause("empty", "why", "ann", NOW)
    base.store.queues.share("gpu", "owner", "ann", NOW)
    base.turn()
    listed = [(state.queue.queue, state.pending, state.running) for state in base.open_door().queues()]
    assert listed == [("default", 2, 1), ("empty", 0, 0), ("gpu", 3, 0), ("later", 1, 0)]
    empty, gpu = base.open_door().queue("empty"), base.open_door().queue("gpu")
    assert (empty.paused_ms, empty.paused_by, empty.pause_reason) == (NOW, "ann", "why")
    assert gpu.fair == "owner"


def test_jobs_are_listed_by_queue(base: Base) -> None:
    (plain,), (first,), (second,) = submit(base), submit(base, queue="gpu"), submit(base, queue="gpu", tags=("x",))
    base.turn()
    for wanted, listed in (
        (JobFilter(queue="gpu"), [second, first]),
        (JobFilter(queue="default"), [plain]),
        (JobFilter(queue="none"), []),
        (JobFilter(queue="gpu", tag="x"), [second]),
        (JobFilter(queue="gpu", status=RunStatus.PENDING), [second, first]),
        (JobFilter(queue="gpu", status=RunStatus.RUNNING), []),
    ):
        found = base.open_door().search_jobs(wanted, JobId(1), JobId(99), 9)
        assert [job.job_id for job in found] == listed, wanted
    statement, given = filters.jobs(JobFilter(queue="gpu", owner="user:ann"), JobId(1), JobId(99), 9)
    base.demand_search(statement, given, "jobs_by_queue (queue=? AND job_id>? AND job_id<?)")
    job = base.store.job(first)
    assert job is not None
    assert job.queue == "gpu"


def test_live_demands_are_counted(base: Base) -> None:
    assert base.store.live_demands == 0
    submit(base)
    assert base.store.live_demands == 0
    specs = [JobSpec(name="j", command="true", queue=queue) for queue in ("a", "a", "b", "default")]
    assert base.store.count_new_demands(specs, "user:ann") == 2
    base.store.submit(specs, [None] * 4, "test", NOW)
    assert base.store.count_new_demands(specs, "user:ann") == 0
    assert base.store.live_demands == 2
    base.turn()
    assert base.store.live_demands == 2
    for ready in base.store.ready(NOW):
        for run in base.claim_of(ready.demand_id):
            base.finish(run.run_id)
    assert base.store.live_demands == 0


def test_count_of_new_demands_stores_nothing(base: Base) -> None:
    specs = [JobSpec(name="j", command="true", limits={key: 1}) for key in "abc"]
    before = base.rows("SELECT count(*) FROM demands")
    assert base.store.count_new_demands(specs, "user:ann") == 3
    assert base.rows("SELECT count(*) FROM demands") == before


def test_refusal_that_changed_nothing_forgets_nothing(base: Base) -> None:
    """With 10,000 live demands, reading them again takes 60 ms."""
    limited(base, 2)
    base.turn()
    assert base.store.live_demands == 1
    with base.trace() as statements:
        undone(base, lambda: base.store.job(JobId(1)))
        assert base.store.live_demands == 1
        assert len(offered(base)) == 1
    assert not [statement for statement in statements if "pending + running > 0" in statement]
    undone(base, lambda: limited(base))
    with base.trace() as statements:
        assert base.store.live_demands == 1
    assert [statement for statement in statements if "pending + running > 0" in statement]


def test_keys_of_ended_runs_are_forgotten(base: Base) -> None:
    base.store.queues.share("fair", "owner", "test", NOW)
    submit(base, owner="user:ann", queue="fair")
    limited(base)
    for ready in base.store.ready(NOW):
        for run in base.claim_of(ready.demand_id):
            base.finish(run.run_id)
    assert base.store.live_demands == 0
    assert not base.store._tallies._taken
    assert not base.store._tallies._shares


def test_forgotten_demand_is_read_again(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsched.store.numbers.DEMANDS_REMEMBERED_MAX", 2)
    for key in "abcabc":
        submit(base, limits={key: 1})
    assert base.rows("SELECT count(*) FROM demands WHERE wish LIKE '%limits%'") == [(3,)]
    assert [demand.limits for demand in offered(base)] == [((key, 1),) for key in "abc"]


# --- fair queues ---


def test_owner_with_the_fewest_running_runs_comes_first_in_a_fair_queue(base: Base) -> None:
    base.store.queues.share("q", "owner", "ann", NOW)
    submit(base, 5, queue="q", owner="user:big")
    submit(base, 2, queue="q", owner="user:small")
    submit(base, queue="q", owner="user:late")
    order = []
    for _ in range(8):
        ready = base.store.ready(NOW)[0]
        order.append(ready.demand.owner[5:])
        base.claim_of(ready.demand_id, count=1)
    assert order == ["big", "small", "late", "big", "small", "big", "big", "big"]


def test_fair_queue_is_as_old_as_its_oldest_run(base: Base) -> None:
    base.store.queues.share("q", "owner", "ann", NOW)
    submit(base, 2, queue="q", owner="user:a")
    submit(base)
    submit(base, queue="q", owner="user:b")
    submit(base, queue="q", owner="user:a", priority=1)
    ready = base.store.ready(NOW)
    base.claim_of(ready[0].demand_id, count=1)
    # a has a running run, and is older; b comes first, and both come before the plain job.
    assert [(one.demand.queue, one.demand.owner) for one in base.store.ready(NOW)] == [
        ("q", "user:b"),
        ("q", "user:a"),
        ("default", ""),
    ]


def test_share_of_an_owner_is_known_after_an_undo(base: Base) -> None:
    base.store.queues.share("q", "owner", "ann", NOW)
    submit(base, 2, queue="q", owner="user:a")
    submit(base, 2, queue="q", owner="user:b")
    base.claim_of(base.store.ready(NOW)[0].demand_id, count=1)
    undone(base, lambda: base.claim_of(base.store.ready(NOW)[0].demand_id, count=1))
    assert [(one.demand.owner, one.rank[2]) for one in base.store.ready(NOW)] == [("user:b", 0), ("user:a", 1)]


# --- limits ---


def test_no_more_runs_than_the_limit_are_claimed(base: Base) -> None:
    jobs = limited(base, 5)
    demand_id = base.store.ready(NOW)[0].demand_id
    assert base.store.ready_count(demand_id, 9) == 3
    assert claim(base, 2) == jobs[:2]
    assert base.store.ready_count(demand_id, 9) == 1
    assert claim(base) == jobs[2:3]
    assert base.store.ready(NOW) == []
    assert base.claim_of(demand_id) == []
    assert base.store.ready_count(demand_id, 9) == 0


@pytest.mark.parametrize("back", ["success", "failed", "cancelled", "lost", "returned", "undelivered"])
def test_end_of_a_run_gives_its_place_to_the_next(base: Base, back: str) -> None:
    jobs = submit(base, 2, limits={"db": 1})
    (run,) = base.claim()
    assert base.store.ready(NOW) == []
    if back == "lost":
        base.fail_lost(run.run_id)
    elif back in ("returned", "undelivered"):
        base.store.requeue_unstarted(run.run_id, W1, Reason(back), NOW)
    elif back == "cancelled":
        base.store.cancel(jobs[0], "ann", NOW)
        assert base.store.ready(NOW) == []
        base.finish(run.run_id)
    else:
        base.finish(run.run_id, status=RunStatus(back), exit_code=int(back == "failed"))
    base.turn()
    # A run that was given back is the oldest again.
    assert claim(base) == [jobs[0] if back in ("returned", "undelivered") else jobs[1]]
    assert base.store.ready(NOW) == []


def test_pending_run_that_ends_takes_no_place(base: Base) -> None:
    first, second, third = submit(base, 3, limits={"db": 1})
    base.store.cancel(first, "ann", NOW)
    assert claim(base) == [second]
    base.store.cancel(third, "ann", NOW)
    assert base.store.ready(NOW) == []


def test_run_waits_for_room_under_all_of_its_keys(base: Base) -> None:
    (both,), (db,), (net,) = (submit(base, limits=limits) for limits in ({"db": 1, "net": 1}, {"db": 1}, {"net": 2}))
    assert [ready.demand.limits for ready in base.store.ready(NOW)] == [
        (("db", 1), ("net", 1)), (("db", 1),), (("net", 2),)
    ]  # fmt: skip
    assert claim(base) == [both]
    assert [ready.demand.limits for ready in base.store.ready(NOW)] == [(("net", 2),)]
    assert claim(base) == [net]
    base.finish(base.last_run(both).run_id)
    assert claim(base) == [db]


def test_each_job_counts_all_runs_with_the_key_against_its_own_limit(base: Base) -> None:
    wide, narrow = submit(base, 3, limits={"db": 3}), submit(base, limits={"db": 1})
    assert claim(base, 1) == wide[:1]
    assert [ready.demand.limits for ready in base.store.ready(NOW)] == [(("db", 3),)]
    base.finish(base.last_run(wide[0]).run_id)
    demand_id = next(ready.demand_id for ready in base.store.ready(NOW) if ready.demand.limits == (("db", 1),))
    assert [run.job_id for run in base.claim_of(demand_id)] == narrow
    assert claim(base) == wide[1:]


def test_limited_runs_are_claimed_by_priority_then_age(base: Base) -> None:
    (old,), (high,), (young,) = (submit(base, limits={"db": 1}, priority=priority) for priority in (0, 2, 0))
    for expected in (high, old, young):
        (run,) = base.claim()
        assert run.job_id == expected
        base.finish(run.run_id)


def test_delayed_run_with_limits_waits_for_both(base: Base) -> None:
    (late,), (now,) = submit(base, limits={"db": 1}, delay_ms=1_000), submit(base, limits={"db": 1})
    assert claim(base) == [now]
    assert base.store.release_due(NOW + 1_000, 9) == 1
    assert base.store.ready(NOW) == []
    base.finish(base.last_run(now).run_id)
    assert claim(base) == [late]


def test_retry_waits_for_a_place_again(base: Base) -> None:
    first, second = submit(base, 2, limits={"db": 1}, policy=Policy(retries=1))
    (run,) = base.claim()
    base.finish(run.run_id, status=FAILED, exit_code=1)
    (other,) = base.claim()
    assert other.job_id == second
    base.store.release_due(NOW + 10**9, 9)
    assert base.store.ready(NOW) == []
    base.finish(other.run_id)
    assert claim(base) == [first]


def test_held_job_with_limits_waits_for_both(base: Base) -> None:
    first, second = submit(base, 2, limits={"db": 1})
    base.store.hold(first, "ann", "", NOW)
    (run,) = base.claim()
    assert run.job_id == second
    base.store.release(first, "ann", "", NOW)
    assert claim(base) == []
    base.finish(run.run_id)
    assert claim(base) == [first]


def test_job_with_limits_that_runs_again_waits_for_a_place(base: Base) -> None:
    first, second = submit(base, 2, limits={"db": 1})
    (run,) = base.claim()
    base.finish(run.run_id)
    base.turn()
    (run,) = base.claim()
    assert run.job_id == second
    base.store.rerun(first, "ann", "", NOW)
    assert claim(base) == []
    base.finish(run.run_id)
    assert claim(base) == [first]


def test_job_that_changes_its_queue_is_counted_there(base: Base) -> None:
    base.store.queues.share("fair", "owner", "ann", NOW)
    (job_id,) = submit(base, queue="q", limits={"db": 1}, owner="user:ann")
    for queue in ("default", "fair", "q"):
        base.turn()
        job = base.store.job(job_id)
        assert job is not None
        base.store.edit(JobEdit(queue=queue).applied_to(job), "ann", "queue", NOW)
        assert [(one.queue, one.owner, one.limits) for one in offered(base)] == [
            (queue, "user:ann" if queue == "fair" else "", (("db", 1),))
        ]


def test_room_under_limits_is_known_after_an_undo_and_a_restart(base: Base) -> None:
    limited(base, 5)
    taken: list[list[JobId]] = []
    undone(base, lambda: taken.extend((claim(base), claim(base))))
    assert [len(jobs) for jobs in taken] == [3, 0]
    demand_id = base.store.ready(NOW)[0].demand_id
    assert base.store.ready_count(demand_id, 9) == 3
    claim(base, 2)
    base.turn()
    base.store._forget()
    assert base.store.ready_count(demand_id, 9) == 1
    assert base.open_door().running_by_key() == {"db": 2}


def test_damaged_job_with_limits_fails_alone(base: Base) -> None:
    base.by_hand = True
    damaged, well = submit(base, 2, limits={"db": 1})
    base.rows(f"{base.DAMAGE_JOBS} WHERE job_id = {damaged}")
    assert claim(base, 1) == []
    assert base.last_run(damaged).reason == Reason.QUARANTINED
    assert claim(base) == [well]


def test_runs_of_a_damaged_demand_with_limits_fail(base: Base) -> None:
    base.by_hand = True
    damaged = limited(base, 2)
    (well,) = submit(base)
    base.turn()
    base.rows("UPDATE demands SET wish = 'x' WHERE wish LIKE '%limits%'")
    base.store._forget()
    assert claim(base) == [well]
    assert [base.last_run(job).reason for job in damaged] == [Reason.QUARANTINED] * 2


def test_runs_that_wait_for_limits_are_found_by_their_index(base: Base) -> None:
    for statement, given in (
        (sql.READY_LIMITED_OF, (1,)),
        (sql.READY_LIMITED_COUNT, (1, 1)),
        (sql.CLAIMABLE_LIMITED_IDS, (1, 0, 1)),
    ):
        assert any("runs_limited" in step for step in base.plan(statement, *given)), statement
    assert any("runs_limited" in step for step in base.plan(sql.READY_LIMITED))


# --- unique keys ---


def test_unique_key_is_held_until_its_job_has_ended(base: Base) -> None:
    assert base.store.unique_holders(["k"]) == {}
    (job_id,) = submit(base, unique="k", policy=Policy(retries=1))
    assert base.store.unique_holders(["k"]) == {"k": job_id}
    (run,) = base.claim()
    base.turn()
    assert base.store.unique_holders(["k"]) == {"k": job_id}
    base.finish(run.run_id, status=FAILED, exit_code=1)
    assert base.store.unique_holders(["k"]) == {"k": job_id}
    base.store.cancel(job_id, "ann", NOW)
    assert base.store.unique_holders(["k"]) == {}
    (other,) = submit(base, unique="k")
    base.turn()
    assert base.store.unique_holders(["k"]) == {"k": other}


def test_keys_and_demands_of_many_jobs_cost_few_statements(base: Base) -> None:
    """On a database elsewhere, each statement that is waited for is a round trip."""
    specs = [JobSpec(name="j", command="true", unique=f"u{n}", limits={f"l{n}": 1}) for n in range(50)]
    base.turn()
    with base.trace() as statements:
        assert base.store.unique_holders([spec.unique or "" for spec in specs]) == {}
        assert base.store.count_new_demands(specs, "") == 50
        jobs = base.store.submit(specs, [None] * 50, "test", NOW)
    reads = [statement for statement in statements if statement.lstrip().startswith("SELECT")]
    assert len(reads) <= 8, reads
    held = base.store.unique_holders(["u0", "u49", "u50"])
    assert held == {"u0": jobs[0], "u49": jobs[49]}


def test_submit_that_is_undone_holds_no_key(base: Base) -> None:
    undone(base, lambda: submit(base, unique="k"))
    assert base.store.unique_holders(["k"]) == {}


def test_removed_job_leaves_no_key(base: Base) -> None:
    base.by_hand = True
    (old,) = submit(base, unique="k")
    base.store.cancel(old, "ann", NOW)
    (new,) = submit(base, unique="other")
    base.store.cancel(new, "ann", NOW)
    base.turn()
    base.store.retention.purge_jobs(Old(RunStatus.CANCELLED, NOW + 1), JobId(0), 9, "ann", NOW + 2)
    base.store.flush_counters(NOW)
    assert base.rows("SELECT * FROM unique_jobs") == []


# --- the check ---


def test_check_finds_miscounted_demands(base: Base) -> None:
    submit(base, 2, queue="gpu")
    claim(base, 1, worker_id=W2)
    base.turn()
    base.by_hand = True
    found = []
    for running in (1, 5):
        base.rows("UPDATE demands SET running = ? WHERE pending > 0", running)
        base.store.commit()
        found.append(check.check(base.engine).sentences)
        base.store.begin()
    demand_id = base.store.ready(NOW)[0].demand_id
    assert found == [[], [f"demand {demand_id} counts (1, 5) pending and running runs, it has (1, 1)"]]


# --- labels ---


def test_labels_are_stored_and_part_of_the_demand(base: Base) -> None:
    labels = Requirements(labels=(("disk", "ssd"), ("host", "h1")))
    (job_id,), (plain,) = submit(base, requires=labels), submit(base)
    job = base.store.job(job_id)
    assert job is not None
    assert job.requires == labels
    assert [ready.demand for ready in base.store.ready(NOW)] == [Demand(requires=labels), Demand()]
    assert base.store.live_demands == 1
    (run,) = base.claim()
    assert run.job_id == job_id
    base.fail_lost(run.run_id)
    assert base.store.ready(NOW)[-1].demand == Demand(requires=labels)
    assert base.store.count_new_demands([JobSpec(name="j", command="true", requires=labels)], "") == 0
    other = Requirements(labels=(("disk", "hdd"),))
    assert base.store.count_new_demands([JobSpec(name="j", command="true", requires=other)], "") == 1
    assert claim(base) == [plain]
