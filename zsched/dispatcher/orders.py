"""Between what goes over the wire and what the store keeps: the one place where frames and the model meet."""

from __future__ import annotations

from collections.abc import Sequence

from zsched import protocol
from zsched.limits import OUTPUT_BYTES_MAX
from zsched.model import Now, Outcome, RunId, RunStatus, Stream, Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.store.contract import Claimed


def orders(claimed: Sequence[Claimed]) -> tuple[protocol.RunOrder, ...]:
    """Claimed runs as a worker gets them."""
    return tuple(
        protocol.RunOrder(
            run=run.run_id,
            job=run.job_id,
            task=run.task,
            attempt=run.attempt,
            command=run.command,
            grace_ms=run.grace_ms,
            output_bytes_max=OUTPUT_BYTES_MAX,
            timeout_ms=run.timeout_ms,
            probation=run.probation,
        )
        for run in claimed
    )


def introduced(frame: protocol.Register, now: Now) -> Worker:
    """A worker as its register frame describes it."""
    return Worker(
        worker_id=WorkerId(frame.worker),
        kind=WorkerKind.ZMQ,
        status=WorkerStatus.ACTIVE,
        slots=frame.slots,
        registered_ms=now.wall_ms,
        last_seen_ms=now.wall_ms,
        host=frame.host,
        incarnation=frame.incarnation,
        boot_id=frame.boot_id,
        lock=frame.lock,
        agent=frame.agent,
        can=frame.can,
        labels=frame.labels,
    )


def outcome(result: protocol.RunResult) -> Outcome:
    """How a run ended, as its worker tells it."""
    return Outcome(
        run_id=RunId(result.run),
        status=RunStatus(result.status),
        reason=result.reason,
        detail=result.detail,
        exit_code=result.exit_code,
        signal=result.signal,
        started_ms=result.started_ms,
        finished_ms=result.finished_ms,
        stdout=_kept(result.stdout),
        stderr=_kept(result.stderr),
    )


def _kept(output: protocol.Output) -> Stream:
    """A stream cut to the bound, whatever the worker sent: the first half of its head, the last half of its tail."""
    half = OUTPUT_BYTES_MAX // 2
    tail = output.tail[-half:] if output.tail else b""
    return Stream(head=output.head[: OUTPUT_BYTES_MAX - len(tail)], tail=tail, total=output.total)
