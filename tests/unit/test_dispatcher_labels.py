"""Dialogues about labels: which worker gets the runs that ask for some, and what that costs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.test_dispatcher_queues import cause, jobs, submit
from tests.unit.world import TEST, TIMEOUT_MS, Peer, World
from zsched.model.demand import Demand, Lack, lacks
from zsched.model.requirements import Requirements
from zsched.model.types import JobId, JobSpec, Worker
from zsched.scheduler.dispatcher.commands import Submit


def worker(world: World, name: str, slots: int = 2, host: str = "h", **labels: str) -> Peer:
    peer = Peer(world, name, slots=slots)
    peer.host, peer.labels, peer.can = host, labels, ("env",)
    return peer.join()


def labelled(world: World, count: int = 1, labels: dict[str, str] | None = None, **fields: Any) -> list[JobId]:
    return submit(world, count, requires=Requirements(labels=tuple(sorted((labels or {}).items()))), **fields)


def test_run_goes_to_a_worker_with_all_its_labels(world: World) -> None:
    w1, w2 = worker(world, "w1", disk="ssd"), worker(world, "w2", disk="ssd", gpu="a100")
    both = labelled(world, 2, {"disk": "ssd", "gpu": "a100"})
    assert (jobs(w1), jobs(w2)) == ([], both)
    (waits,) = labelled(world, 1, {"disk": "ssd", "gpu": "a100"})
    assert jobs(w1) == []
    assert cause(world, waits).startswith("no_capacity")
    assert jobs(w1) == []


def test_each_worker_has_the_labels_worker_and_host(world: World) -> None:
    w1, w2 = worker(world, "w1", host="a", worker="w2"), worker(world, "w2", host="b", host_label="a")
    (named,), (placed,) = labelled(world, 1, {"worker": "w2"}), labelled(world, 1, {"host": "a"})
    assert (jobs(w1), jobs(w2)) == ([placed], [named])


def test_label_that_no_worker_has_lets_other_jobs_pass(world: World) -> None:
    (waits,) = labelled(world, 1, {"disk": "tape"}, priority=9)
    (plain,) = submit(world)
    w1 = worker(world, "w1", disk="ssd")
    assert jobs(w1) == [plain]
    assert cause(world, waits) == ("no_match: no active worker can take it: worker w1 doesn't have the label disk=tape")
    assert jobs(worker(world, "w2", disk="tape")) == [waits]


def test_lost_run_and_its_successor_need_the_same_labels(world: World) -> None:
    w1, w2 = worker(world, "w1", disk="ssd"), worker(world, "w2")
    (job_id,) = labelled(world, 1, {"disk": "ssd"})
    assert jobs(w1) == [job_id]
    world.wait(TIMEOUT_MS + 10_000, w2)
    assert world.states(job_id) == ["failed/worker_lost", "pending"]
    assert jobs(w2) == []
    assert jobs(worker(world, "w3", disk="ssd")) == [job_id]


@pytest.mark.parametrize("busy", [False, True])
def test_job_with_labels_looks_only_at_workers_that_have_them(
    world: World, monkeypatch: pytest.MonkeyPatch, *, busy: bool
) -> None:
    names = [f"w{place}" for place in range(40)]
    workers = {name: worker(world, name, slots=1) for name in names}
    free = names[:20] if busy else names
    for name in names[20:] if busy else ():
        labelled(world, 1, {"worker": name})
        workers[name].take()
    looks: list[str] = []

    def count(demand: Demand, at: Worker) -> list[Lack]:
        looks.append(at.worker_id)
        return lacks(demand, at)

    monkeypatch.setattr("zsched.scheduler.dispatcher.placement.lacks", count)
    specs = [JobSpec(name="job", command="true", requires=Requirements(labels=(("worker", name),))) for name in names]
    world.ask(Submit(tuple(specs), TEST))
    assert [name for name in names if workers[name].take()] == free
    assert len(looks) <= 2 * len(names)
