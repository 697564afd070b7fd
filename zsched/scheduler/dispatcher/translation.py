"""Translates frames to the model and back: the only place where both meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from zsched import protocol
from zsched.model.files import File, accept
from zsched.model.launch import launch_fields
from zsched.model.limits import CLOCK_AHEAD_MS_MAX, OUTPUT_BYTES_MAX
from zsched.model.names import DEFAULT_QUEUE
from zsched.model.output import cut
from zsched.model.signals import parse_early_signal
from zsched.model.types import Now, Outcome, RunId, RunStatus, Stream, Worker, WorkerId, WorkerKind, WorkerStatus
from zsched.store.contract import Claimed

_EMPTY: Final = Stream()

# Opens a sealed variable: (name, stored value) to its value. Raises ValueError.
Unseal = Callable[[str, str], str]


def order(run: Claimed, unseal: Unseal) -> protocol.RunOrder:
    """The order of a claimed run, for its worker. Raises ValueError when a secret can't be opened."""
    launch = launch_fields(run)
    if run.secret_env:
        launch["secret_env"] = {name: unseal(name, sealed) for name, sealed in run.secret_env.items()}
    if run.signal is not None and run.timeout_ms is not None:
        number, before_ms = parse_early_signal(run.signal)
        launch |= {"signal": number, "signal_ms": max(0, run.timeout_ms - before_ms)}
    if run.stdin is not None:
        launch["stdin"] = run.stdin
    if run.entry is not None:
        launch["entry"] = run.entry
    if run.files:
        launch["files"] = run.files
    return protocol.RunOrder(
        run=run.run_id,
        job=run.job_id,
        task=run.task,
        attempt=run.attempt,
        command=run.command,
        grace_ms=run.grace_ms,
        output_bytes_max=OUTPUT_BYTES_MAX,
        timeout_ms=run.timeout_ms,
        probation=run.probation,
        lease_ms=run.lease_ms,
        **launch,
    )


def introduced(frame: protocol.Register, now: Now) -> Worker:
    """The worker that a register frame describes."""
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
        # Each such worker sets ZSCHED_TASK, also one of an earlier release, which does not say so.
        can=frame.can if "task" in frame.can else (*frame.can, "task"),
        labels=frame.labels,
        queues=frame.queues or (DEFAULT_QUEUE,),
    )


def moment(reported_ms: int, now: Now) -> int:
    """A time by a worker's clock, cut to CLOCK_AHEAD_MS_MAX after now: such a clock may be wrong."""
    return min(reported_ms, now.wall_ms + CLOCK_AHEAD_MS_MAX)


def outcome(result: protocol.RunResult, files: Iterable[File], now: Now) -> Outcome:
    """The outcome that a worker reports. A success with an exit code other than 0, or with a signal, is a failure.

    `files`: all artifacts. Those that break a rule of their own are left out.
    """
    finished_ms = moment(result.finished_ms, now)
    artifacts, refused = accept(files)
    well = result.status == "success" and result.exit_code == 0 and result.signal is None
    return Outcome(
        run_id=RunId(result.run),
        status=RunStatus.SUCCESS if well else RunStatus.FAILED,
        reason=result.reason,
        detail=result.detail,
        exit_code=result.exit_code,
        signal=result.signal,
        started_ms=None if result.started_ms is None else min(result.started_ms, finished_ms),
        finished_ms=finished_ms,
        stdout=_kept(result.stdout),
        stderr=_kept(result.stderr),
        artifacts=artifacts,
        left_out=result.left_out + refused,
    )


def _kept(output: protocol.Output) -> Stream:
    """A stream within OUTPUT_BYTES_MAX. A worker of another author may send more, or a wrong total."""
    if not (output.total or output.head or output.tail):
        return _EMPTY
    total = max(output.total, len(output.head) + len(output.tail))
    return cut(Stream(head=output.head, tail=output.tail, total=total), OUTPUT_BYTES_MAX)
