"""`--each-worker`: which active workers get the job, and how it names them."""

from __future__ import annotations

from typing import Any

import pytest

from zsched.client.client import ClientError
from zsched.client.everywhere import for_each

BODY = {"name": "j", "command": "true"}


def worker(name: str, status: str = "active", host: str = "h", **others: Any) -> dict[str, Any]:
    return {"worker_id": name, "status": status, "host": host, **others}


WORKERS = [
    worker("w1", labels={"disk": "ssd"}),
    worker("w2", queues=["nightly"]),
    worker("w3", queues=["*"], host="other"),
    worker("w4", "inactive"),
]


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ({}, ["w1", "w3"]),
        ({"queue": "nightly"}, ["w2", "w3"]),
        ({"labels": {"disk": "ssd"}}, ["w1"]),
        ({"labels": {"host": "other"}}, ["w3"]),
    ],
)
def test_job_is_for_each_active_worker_that_can_take_it(fields: dict[str, Any], chosen: list[str]) -> None:
    jobs = for_each(BODY | fields, WORKERS)
    own = fields.get("labels", {})
    assert jobs == {name: BODY | fields | {"labels": {**own, "worker": name}} for name in chosen}


def test_no_worker_is_an_error_that_names_queue_and_labels() -> None:
    with pytest.raises(ClientError, match=r"^no active worker serves the queue q and has the label disk=ssd$"):
        for_each(BODY | {"queue": "q", "labels": {"disk": "ssd"}}, WORKERS[:1])
