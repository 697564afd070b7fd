"""Rows as the model's types, for both sides of the store. Columns stand in the order of sql.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Final, TypeVar

from zsched.model.demand import Demand
from zsched.model.types import (
    USUAL_BACKOFF,
    Backoff,
    Event,
    ForeignDecision,
    ForeignRuns,
    Job,
    JobId,
    KeyOrigin,
    OnDisconnect,
    OnLost,
    Policy,
    Run,
    RunId,
    RunStatus,
    Scope,
    Token,
    Worker,
    WorkerId,
    WorkerKey,
    WorkerKind,
    WorkerStatus,
)
from zsched.store.contract import Submitted
from zsched.store.engine import Row

A = TypeVar("A")
B = TypeVar("B")

# A look-up in a dict takes a third of the time of RunStatus(…), and lists have thousands of rows.
RUN_STATUS: Final[Mapping[str, RunStatus]] = {status.value: status for status in RunStatus}


def job(row: Row) -> Job:
    """A job to show. Damaged parts are left out; a claim reads them again, and fails."""
    job_id, name, command, status, created_ms, updated_ms, schedule, next_fire_ms, cancel_ms, user, env, secret_env = (
        row[:12]
    )
    owner, paused_ms, ended_ms, live = row[19:]
    return Job(
        job_id=job_id,
        name=name,
        command=command,
        status=RUN_STATUS[status],
        created_ms=created_ms,
        updated_ms=updated_ms,
        schedule=schedule,
        next_fire_ms=next_fire_ms,
        policy=_or_none(policy, row[12:19]) or Policy(),
        cancel_ms=cancel_ms,
        user=user,
        env=None if env is None else _or_none(variables, env),
        secret_env=None if secret_env is None else _or_none(variables, secret_env),
        owner=owner or "",
        paused_ms=paused_ms,
        ended_ms=ended_ms,
        live=bool(live),
    )


# Most jobs have one of a few.
@lru_cache(maxsize=256)
def policy(row: Row) -> Policy:
    """A job's policy. Raises ValueError or TypeError for a damaged one."""
    timeout_ms, grace_ms, crash_limit, retries, backoff_, on_lost, on_disconnect = row
    return Policy(
        timeout_ms=timeout_ms,
        grace_ms=grace_ms,
        crash_limit=crash_limit or None,
        retries=retries,
        backoff=backoff(backoff_),
        on_lost=OnLost(on_lost),
        on_disconnect=OnDisconnect(on_disconnect),
    )


def stored_policy(given: Policy) -> Row:
    """What `policy` reads."""
    return (
        given.timeout_ms, given.grace_ms, given.crash_limit or 0, given.retries, stored_backoff(given.backoff),
        given.on_lost, given.on_disconnect,
    )  # fmt: skip


def backoff(text: str | None) -> Backoff:
    """Raises ValueError or TypeError for a damaged one."""
    if text is None:
        return USUAL_BACKOFF
    initial_ms, factor, max_ms, jitter = json.loads(text)
    return Backoff(initial_ms=initial_ms, factor=factor, max_ms=max_ms, jitter=jitter)


def stored_backoff(given: Backoff) -> str | None:
    """What `backoff` reads; None for the usual one."""
    if given == USUAL_BACKOFF:
        return None
    return json.dumps([given.initial_ms, given.factor, given.max_ms, given.jitter])


def _or_none(read: Callable[[A], B], stored: A) -> B | None:
    """Nothing for what is damaged."""
    try:
        return read(stored)
    except (ValueError, TypeError):
        return None


def variables(text: str | None) -> dict[str, str] | None:
    """A job's own variables as they are stored. Raises ValueError for damaged ones."""
    if text is None:
        return None
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("the stored variables are damaged")
    return found


def stored_variables(given: Mapping[str, str] | None) -> str | None:
    """What `variables` reads."""
    return None if given is None else json.dumps(dict(given), ensure_ascii=False, separators=(",", ":"))


def run(row: Row) -> Run:
    (run_id, job_id, task, attempt, status, created_ms, worker_id, reason, detail, exit_code, signal, crashes) = row[
        :12
    ]
    claimed_ms, started_ms, finished_ms, cancel_ms, failures, due_ms = row[12:]
    return Run(
        run_id=RunId(run_id),
        job_id=JobId(job_id),
        task=task,
        attempt=attempt,
        status=RunStatus(status),
        created_ms=created_ms,
        worker_id=worker_id,
        reason=reason,
        detail=detail,
        exit_code=exit_code,
        signal=signal,
        crashes=crashes,
        failures=failures,
        due_ms=due_ms,
        claimed_ms=claimed_ms,
        started_ms=started_ms,
        finished_ms=finished_ms,
        cancel_ms=cancel_ms,
    )


def worker(row: Row) -> Worker:
    (worker_id, kind, status, slots, registered_ms, last_seen_ms, host, incarnation, boot_id) = row[:9]
    lock_device, lock_inode, agent, can, labels, leaving_ms = row[9:]
    return Worker(
        worker_id=WorkerId(worker_id),
        kind=WorkerKind(kind),
        status=WorkerStatus(status),
        slots=slots,
        registered_ms=registered_ms,
        last_seen_ms=last_seen_ms,
        host=host,
        incarnation=incarnation,
        boot_id=boot_id,
        lock=(lock_device, lock_inode),
        agent=agent,
        can=tuple(_or_none(json.loads, can) or ()),
        labels=_or_none(json.loads, labels) or {},
        leaving_ms=leaving_ms,
    )


def foreign(row: Row) -> ForeignRuns:
    worker_id, db, running, results, runs, since_ms, decision, decided_by, decided_ms = row
    return ForeignRuns(
        worker_id=WorkerId(worker_id),
        db=db,
        running=running,
        results=results,
        runs=tuple(_or_none(json.loads, runs) or ()),
        since_ms=since_ms,
        decision=None if decision is None else ForeignDecision(decision),
        decided_by=decided_by,
        decided_ms=decided_ms,
    )


def demand_key(demand: Demand) -> str:
    """A demand as the canonical text that makes it unique."""
    # A truth value where it says the same: so earlier releases wrote it.
    probation = demand.probation if demand.probation > 1 else bool(demand.probation)
    asked: dict[str, object] = {"needs": sorted(demand.needs), "probation": probation}
    if demand.once:
        asked["once"] = True
    return json.dumps(asked, sort_keys=True, separators=(",", ":"))


def demand(text: str) -> Demand:
    """The demand that `wish` wrote."""
    read = json.loads(text)
    return Demand(needs=tuple(read["needs"]), probation=int(read["probation"]), once=read.get("once", False))


def readable_demand(text: str) -> Demand | None:
    """The demand that `wish` wrote; None for what is damaged."""
    try:
        return demand(text)
    except (ValueError, TypeError, KeyError):
        return None


def token(row: Row) -> Token:
    token_id, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, name, *more = row
    run_as, pending_max, schedules_max, workers, slots_max, last_used_ms, ending = more
    return Token(
        token_id=token_id,
        name=name,
        digest=digest,
        scopes=frozenset(Scope(word) for word in scopes.split()),
        note=note,
        created_ms=created_ms,
        created_by=created_by,
        expires_ms=expires_ms,
        revoked_ms=revoked_ms,
        run_as=run_as,
        pending_max=pending_max,
        schedules_max=schedules_max,
        workers=tuple((workers or "").split()),
        slots_max=slots_max,
        last_used_ms=last_used_ms,
        ending=bool(ending),
    )


def key(row: Row) -> WorkerKey:
    public_key, worker_id, origin, created_ms, created_by, revoked_ms, slots_max = row
    return WorkerKey(
        public_key=public_key,
        worker_id=WorkerId(worker_id),
        origin=KeyOrigin(origin),
        created_ms=created_ms,
        created_by=created_by,
        revoked_ms=revoked_ms,
        slots_max=slots_max,
    )


def submitted(row: Row) -> Submitted:
    digest, first, last, jobs = row
    return Submitted(digest, JobId(first), JobId(last), jobs)


def event(row: Row) -> Event:
    event_id, at_ms, actor, job_id, first, last, worker_id, was, became, reason, detail = row
    return Event(
        event_id=event_id,
        at_ms=at_ms,
        actor=actor,
        became=became,
        job_id=job_id,
        runs=None if first is None else (RunId(first), RunId(last)),
        worker_id=worker_id,
        was=was,
        reason=reason,
        detail=detail,
    )
