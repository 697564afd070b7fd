"""Which worker can take which run."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from zsched.model.demand import Demand, why_unfit
from zsched.model.requirements import Requirements
from zsched.model.types import Worker, WorkerId, WorkerKind, WorkerStatus


def worker(*can: str) -> Worker:
    return Worker(
        worker_id=WorkerId("w1"),
        kind=WorkerKind.REST,
        status=WorkerStatus.ACTIVE,
        slots=1,
        registered_ms=0,
        last_seen_ms=0,
        can=can,
    )


def test_a_plain_command_fits_every_worker() -> None:
    assert why_unfit(Demand(), worker()) is None
    assert why_unfit(Demand(probation=True), worker()) is None


def test_a_worker_that_can_do_all_that_is_needed_fits() -> None:
    assert why_unfit(Demand(needs=("env", "cwd")), worker("cwd", "env", "gpu")) is None


def test_what_a_worker_can_not_do_is_named() -> None:
    assert why_unfit(Demand(needs=("env", "cwd", "gpu")), worker("cwd")) == "worker w1 can't do env, gpu"


@pytest.mark.parametrize(
    ("demand", "plain"), [(Demand(), True), (Demand(needs=("env",)), False), (Demand(probation=True), False)]
)
def test_only_plain_runs_may_go_ahead(demand: Demand, plain: bool) -> None:
    assert demand.plain is plain


@pytest.mark.parametrize(
    ("queues", "queue", "fits"),
    [
        (("default",), "default", True),
        (("default",), "gpu", False),
        (("gpu", "big"), "gpu", True),
        (("gpu",), "default", False),
        (("*",), "gpu", True),
    ],
)
def test_worker_takes_the_runs_of_its_queues(queues: tuple[str, ...], queue: str, fits: bool) -> None:
    reason = why_unfit(Demand(queue=queue), replace(worker(), queues=queues))
    assert reason == (None if fits else f"worker w1 doesn't serve the queue {queue}")


@pytest.mark.parametrize(
    ("labels", "missing"),
    [
        ((("disk", "ssd"),), ""),
        ((("disk", "ssd"), ("host", "h1"), ("worker", "w1")), ""),
        ((("disk", "hdd"),), "disk=hdd"),
        ((("disk", "ssd"), ("gpu", "a100"), ("worker", "w2")), "gpu=a100, worker=w2"),
        ((("host", "h2"),), "host=h2"),
    ],
)
def test_worker_takes_runs_that_ask_for_its_labels(labels: tuple[tuple[str, str], ...], missing: str) -> None:
    # A worker can't take the name of another one, or of its host.
    labelled = replace(worker(), host="h1", labels={"disk": "ssd", "worker": "w2", "host": "h2"})
    reason = why_unfit(Demand(requires=Requirements(labels=labels)), labelled)
    assert reason == (f"worker w1 doesn't have the label {missing}" if missing else None)
