"""One job for each active worker: the same job several times, each with the label of its worker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zsched.client.http import ClientError, View
from zsched.model.names import ALL_QUEUES, DEFAULT_QUEUE

if TYPE_CHECKING:
    from zsched.client.client import Client, Job


def submit(client: Client, body: View, key: str | None) -> dict[str, Job]:
    """Submit a job for each active worker, all or none; returns them by worker. Raises ClientError."""
    bodies = for_each(body, client.workers())
    return dict(zip(bodies, client.submit_all([*bodies.values()], idempotency_key=key), strict=True))


def for_each(body: View, workers: Iterable[View]) -> dict[str, View]:
    """The job for each active worker that serves its queue and has its labels, by the name of the worker. `workers`: as
    REST lists them. Raises ClientError if there is none.
    """
    queue, labels = body.get("queue") or DEFAULT_QUEUE, body.get("labels") or {}
    chosen = {
        name: {**body, "labels": {**labels, "worker": name}}
        for worker in workers
        if worker["status"] == "active" and _takes(worker, queue, labels)
        for name in (worker["worker_id"],)
    }
    if not chosen:
        wanted = "".join(f" and has the label {name}={value}" for name, value in labels.items())
        raise ClientError(f"no active worker serves the queue {queue}{wanted}")
    return chosen


def _takes(worker: View, queue: str, labels: View) -> bool:
    served = worker.get("queues", (DEFAULT_QUEUE,))
    own = {**worker.get("labels", {}), "worker": worker["worker_id"], "host": worker.get("host")}
    return (queue in served or ALL_QUEUES in served) and all(own.get(name) == labels[name] for name in labels)
