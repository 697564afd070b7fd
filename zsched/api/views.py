"""Jobs, runs and workers as the JSON that callers see. What is not set is left out, except where the seed's clients
look for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TypeVar

from zsched.model.limits import CRASH_LIMIT_DEFAULT, GRACE_MS_DEFAULT, LOGS_BYTES_SHOWN
from zsched.model.types import (
    USUAL_BACKOFF,
    Backoff,
    Event,
    ForeignRuns,
    Job,
    OnDisconnect,
    OnLost,
    Policy,
    Run,
    Stream,
    Token,
    Worker,
    WorkerKey,
)
from zsched.model.units import format_duration_ms, format_time
from zsched.store.contract import Claimed, RunOutput

View = dict[str, object]
T = TypeVar("T")


def time(at_ms: int | None) -> str | None:
    """Milliseconds since 1970 as RFC 3339; None for none."""
    return None if at_ms is None else format_time(at_ms)


def job(job: Job) -> View:
    """A job. Lists have thousands of them, so what most jobs don't have is not looked at member by member."""
    view: View = {"id": job.job_id, "name": job.name, "command": job.command, "status": job.status}
    if job.owner:
        view["owner"] = job.owner
    if job.schedule is not None:
        view |= _schedule(job)
    view |= _policy(job.policy)
    if job.user is not None:
        view["user"] = job.user
    if job.env is not None:
        view["env"] = job.env
    if job.secret_env is not None:
        view["secret_env"] = dict.fromkeys(job.secret_env, "***")
    if job.cancel_ms is not None:
        view["cancelled_at"] = time(job.cancel_ms)
    view["created_at"] = time(job.created_ms)
    view["updated_at"] = time(job.updated_ms)
    return view


def _schedule(job: Job) -> View:
    return _set(
        {
            "schedule": job.schedule,
            "next_fire_at": time(job.next_fire_ms),
            "live": job.live,
            "paused_at": time(job.paused_ms),
            "ended_at": time(job.ended_ms),
        }
    )


# Most jobs have one of a few.
@lru_cache(maxsize=256)
def _policy(policy: Policy) -> View:
    return _set(
        {
            "timeout": None if policy.timeout_ms is None else format_duration_ms(policy.timeout_ms),
            "kill_grace": _unusual(policy.grace_ms, GRACE_MS_DEFAULT, format_duration_ms),
            "retries": policy.retries or None,
            "backoff": _unusual(policy.backoff, USUAL_BACKOFF, _backoff),
            "on_lost": _unusual(policy.on_lost, OnLost.REQUEUE),
            "on_disconnect": _unusual(policy.on_disconnect, OnDisconnect.CONTINUE),
            "crash_limit": _unusual(policy.crash_limit, CRASH_LIMIT_DEFAULT, _crash_limit),
        }
    )


def _crash_limit(limit: int | None) -> object:
    return "never" if limit is None else limit


def _backoff(backoff: Backoff) -> View:
    return {
        "initial": format_duration_ms(backoff.initial_ms),
        "factor": backoff.factor,
        "max": format_duration_ms(backoff.max_ms),
        "jitter": backoff.jitter,
    }


def _unusual(value: T, usual: T, shown: Callable[[T], object] = lambda value: value) -> object:
    """Nothing for what most jobs leave as it is."""
    return None if value == usual else shown(value)


def handed_job(claimed: Claimed) -> View:
    """A job as a worker that polls gets it, with the run that it is to execute."""
    return {
        "id": claimed.job_id,
        "name": claimed.name,
        "command": claimed.command,
        "created_at": time(claimed.job_created_ms),
        "updated_at": time(claimed.job_updated_ms),
        "run_id": claimed.run_id,
        "attempt": claimed.attempt,
        **({"timeout_ms": claimed.timeout_ms} if claimed.timeout_ms is not None else {}),
        **({"user": claimed.user} if claimed.user is not None else {}),
        **({"env": claimed.env} if claimed.env is not None else {}),
    }


def run(run: Run, output: RunOutput | None) -> View:
    return _set(
        {
            "run_id": run.run_id,
            "job_id": run.job_id,
            "attempt": run.attempt,
            "worker_id": run.worker_id,
            "status": run.status,
            "reason": run.reason,
            "detail": run.detail,
            "due_at": time(run.due_ms),
            "exit_code": run.exit_code,
            "signal": run.signal,
            "start_time": time(run.started_ms),
            "end_time": time(run.finished_ms),
            "logs": None if output is None else logs(run, output),
            "created_at": time(run.created_ms),
        }
    )


def logs(run: Run, output: RunOutput) -> str:
    """What a run wrote, as the first workers wrote it down: both streams under their names, cut where they are long."""
    if output.text:
        return _shown(run, output.stdout, "stdout")
    stdout, stderr = _shown(run, output.stdout, "stdout"), _shown(run, output.stderr, "stderr")
    return f"STDOUT:\n{stdout}\n\nSTDERR:\n{stderr}"


def _shown(run: Run, stream: Stream, name: str) -> str:
    where = f"/runs/{run.run_id}/log?stream={name}"
    return kept(stream, LOGS_BYTES_SHOWN, f"all that is kept: {where}").decode(errors="replace")


def kept(stream: Stream, most: int, remark: str) -> bytes:
    """A stream's kept bytes, at most so many, with a marker line where something is left out."""
    if stream.cut == 0 and stream.total <= most:
        return stream.head + stream.tail
    if stream.cut == 0:
        whole = stream.head + stream.tail
        head, tail = whole[: most // 2], whole[-(most // 2) :]
    else:
        tail = stream.tail[-(most // 2) :]
        head = stream.head[: most - len(tail)]
    left_out = stream.total - len(head) - len(tail)
    return head + f"\n[... {left_out} bytes left out; {remark} ...]\n".encode() + tail


def worker(worker: Worker, held: Sequence[ForeignRuns] = ()) -> View:
    """A worker. `held`: what it holds for other databases."""
    return _set(
        {
            "worker_id": worker.worker_id,
            "status": worker.status,
            "kind": worker.kind,
            "slots": worker.slots,
            "host": worker.host or None,
            "agent": worker.agent or None,
            "can": list(worker.can) or None,
            "labels": dict(worker.labels or {}) or None,
            "leaving_at": time(worker.leaving_ms),
            "last_seen": time(worker.last_seen_ms),
            "registered_at": time(worker.registered_ms),
            "foreign": [foreign(one) for one in held] or None,
        }
    )


def foreign(held: ForeignRuns) -> View:
    return _set(
        {
            "worker_id": held.worker_id,
            "db": held.db,
            "running": held.running,
            "results": held.results,
            "runs": held.runs,
            "since": time(held.since_ms),
            "decision": held.decision,
            "decided_by": held.decided_by,
            "decided_at": time(held.decided_ms),
        }
    )


def token(token: Token) -> View:
    """A token without its secret, which nobody keeps."""
    return _set(
        {
            "id": token.token_id,
            "name": token.name,
            "scopes": sorted(token.scopes),
            "note": token.note,
            "created_at": time(token.created_ms),
            "created_by": token.created_by,
            "expires_at": time(token.expires_ms),
            "revoked_at": time(token.revoked_ms),
            "last_used_at": time(token.last_used_ms),
            "run_as": token.run_as,
            "pending_max": token.pending_max,
            "schedules_max": token.schedules_max,
            "workers": token.workers or None,
            "slots_max": token.slots_max,
            "ending": token.ending or None,
        }
    )


def key(key: WorkerKey) -> View:
    return _set(
        {
            "worker_id": key.worker_id,
            "public_key": key.public_key,
            "origin": key.origin,
            "created_at": time(key.created_ms),
            "created_by": key.created_by,
            "revoked_at": time(key.revoked_ms),
            "slots_max": key.slots_max,
        }
    )


def event(event: Event) -> View:
    return _set(
        {
            "id": event.event_id,
            "at": time(event.at_ms),
            "actor": event.actor,
            "job_id": event.job_id,
            "runs": event.runs,
            "worker_id": event.worker_id,
            "was": event.was,
            "became": event.became,
            "reason": event.reason,
            "detail": event.detail,
        }
    )


def _set(view: View) -> View:
    return {name: value for name, value in view.items() if value is not None}
