"""The SQL statements that make or move runs. Their guards and new values are generated from the table of a run's life.

No other statement changes a run's status; lives.py executes them. `?` marks a parameter; the name of the worker that
reports comes last where the table fences the move.
"""

from __future__ import annotations

from typing import Final

from zsched.model.lifecycle import Cause
from zsched.model.types import RunStatus
from zsched.store import array_sql, moves, sql
from zsched.store.moves import choose, guard, made, update

_PENDING: Final = RunStatus.PENDING
_RUNNING: Final = RunStatus.RUNNING

# --- runs are made ---

ADD_RUN: Final = f"""
    INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms)
    VALUES (?, ?, 1, ?, ?, {made(Cause.SUBMIT)}, ?)"""
# For a submit with times or limits.
ADD_HELD_RUN: Final = f"""
    INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked, due_ms, expires_ms)
    VALUES (?, ?, 1, ?, ?, {made(Cause.SUBMIT)}, ?, ?, ?, ?)"""
ADD_FIRE: Final = f"""
    INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked)
    VALUES (?, ?, 1, ?, ?, {made(Cause.FIRE)}, ?, ?)"""
# A run of a task of an array.
ADD_TASK: Final = f"""
    INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, created_ms, blocked, due_ms,
        expires_ms, of_array)
    VALUES (?, ?, ?, ?, ?, ?, {made(Cause.SUBMIT)}, ?, ?, ?, ?, 1)"""
# The next run of a task. The second parameter: whether its predecessor counts as an attempt if it has started.
_ADD_SUCCESSOR: Final = """
    INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, blocked, due_ms, crashes, failures,
        returns, created_ms, expires_ms, avoids, of_array)
    SELECT ?, job_id, task, attempt + CASE WHEN ? AND started_ms IS NOT NULL THEN 1 ELSE 0 END, ?, priority, {}, ?, ?,
        crashes, failures + ?, returns, ?, expires_ms, ?, of_array
    FROM runs WHERE run_id = ?"""
REQUEUE: Final = _ADD_SUCCESSOR.format(made(Cause.REQUEUE))
RETRY: Final = _ADD_SUCCESSOR.format(made(Cause.RETRY))
# The run of an ended task that is run again: as the job says now. A deadline that has passed does not count.
RERUN: Final = f"""
    INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, blocked, created_ms, expires_ms)
    SELECT ?, r.job_id, r.task, r.attempt + CASE WHEN r.started_ms IS NOT NULL THEN 1 ELSE 0 END, ?,
        j.priority, {made(Cause.RERUN)}, ? | CASE WHEN j.held_ms IS NULL THEN 0 ELSE 8 END, ?,
        CASE WHEN j.deadline_ms > ? THEN j.deadline_ms END
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""

# --- pending runs ---

_HANDED: Final = """worker_id = ?, handed_n = ?, claimed_ms = ?, lease_ms = ?, probation = ?,
        ends_ms = CASE WHEN ? THEN (SELECT ? + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL"""
CLAIM: Final = update(_PENDING, Cause.CLAIM, _HANDED, sql.CLAIMED)
CLAIM_LISTED: Final = update(_PENDING, Cause.CLAIM, _HANDED, "run_id IN (VALUES (?))")
# A run that avoids a worker, for another one.
CLAIM_AVOIDING: Final = update(
    *(_PENDING, Cause.CLAIM), f"{_HANDED}, blocked = 0", "run_id IN (VALUES (?)) AND blocked = 16"
)
_QUARANTINED: Final = "worker_id = ?, detail = ?, finished_ms = ?, due_ms = NULL"
QUARANTINE_PENDING: Final = update(_PENDING, Cause.QUARANTINE, _QUARANTINED, "run_id = ?")
QUARANTINE_DEMAND: Final = update(_PENDING, Cause.QUARANTINE, _QUARANTINED, sql.CLAIMED)
CANCEL_PENDING: Final = update(
    *(_PENDING, Cause.CANCEL), "cancel_by = ?, cancel_ms = ?, finished_ms = ?, due_ms = NULL", "job_id = ?"
)
# The same for some tasks of an array.
CANCEL_TASKS: Final = update(
    *(_PENDING, Cause.CANCEL), "cancel_by = ?, cancel_ms = ?, finished_ms = ?, due_ms = NULL", array_sql.LIVE
)
GIVE_UP_TASKS: Final = update(*(_PENDING, Cause.GIVE_UP), "detail = ?, finished_ms = ?, due_ms = NULL", array_sql.LIVE)
# Pending runs whose deadline has come, the most overdue first.
EXPIRED: Final = f"""
    SELECT run_id FROM runs WHERE {guard(_PENDING, Cause.EXPIRE)} AND expires_ms <= ? ORDER BY expires_ms LIMIT ?"""
EXPIRE: Final = update(
    *(_PENDING, Cause.EXPIRE), "detail = ?, finished_ms = ?, due_ms = NULL", "run_id IN (VALUES (?))"
)
# Waiting runs whose time has come: they may have been handed out. That of a run that avoids a worker (66 is Blocked.DUE
# and Blocked.DATE) is not the time of its start.
WAITING: Final = f"""
    SELECT run_id FROM runs
    WHERE {guard(_PENDING, Cause.RESTORE)} AND (due_ms IS NULL OR due_ms <= ? OR blocked & 66 = 0) ORDER BY run_id"""
RESTORE: Final = update(
    *(_PENDING, Cause.RESTORE), "detail = ?, finished_ms = ?, due_ms = NULL", "run_id IN (VALUES (?))"
)

# --- running runs ---

START: Final = update(_RUNNING, Cause.START, "started_ms = coalesce(started_ms, ?)", "run_id = ?")
# A run that has not started is not trusted: the turn that stored its start may have been rolled back.
OUTLIVE: Final = update(_RUNNING, Cause.OUTLIVE, "probation = 0", "run_id = ? AND probation > 0")
# The running runs of a job, before they are marked.
RUNNING_OF_JOB: Final = f"""
    SELECT {moves.MOVED} FROM runs WHERE job_id = ? AND {guard(_RUNNING, Cause.CANCEL)} ORDER BY run_id"""
MARK_CANCELLED: Final = update(
    *(_RUNNING, Cause.CANCEL), "cancel_by = coalesce(cancel_by, ?), cancel_ms = coalesce(cancel_ms, ?)", "job_id = ?"
)
RUNNING_TASKS: Final = f"""
    SELECT {moves.MOVED} FROM runs WHERE {array_sql.LIVE} AND {guard(_RUNNING, Cause.CANCEL)} ORDER BY run_id"""
MARK_TASKS_CANCELLED: Final = update(
    *(_RUNNING, Cause.CANCEL), "cancel_by = coalesce(cancel_by, ?), cancel_ms = coalesce(cancel_ms, ?)", array_sql.LIVE
)
# What a worker reports: the reason, five facts, and the run. For one run each is a parameter; for several, a column of
# a VALUES list.
RESULT_COLUMNS: Final = ("reason", "detail", "exit_code", "signal", "started_ms", "finished_ms", "run_id")
_RESULT: Final = "detail = {}, exit_code = {}, signal = {}, started_ms = coalesce({}, started_ms), finished_ms = {}"
_MANY: Final = [f"ended.column{number}" for number in range(1, 8)]


def _result(cause: Cause, source: str, reason: str, *columns: str) -> str:
    *facts, run_id = columns
    sets = _RESULT.format(*facts) + ", ends_ms = NULL"
    return update(_RUNNING, cause, sets, f"run_id = {run_id}", given=reason, source=source)


def _results(cause: Cause) -> str:
    return _result(cause, "\n    FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) AS ended", *_MANY)


SUCCEED: Final = _result(Cause.SUCCEED, "", *"???????")
SUCCEED_MANY: Final = _results(Cause.SUCCEED)
FAIL: Final = _result(Cause.FAIL, "", *"???????")
FAIL_MANY: Final = _results(Cause.FAIL)
LAPSE: Final = _result(Cause.LAPSE, "", *"???????")
LAPSE_MANY: Final = _results(Cause.LAPSE)
REFUSE: Final = _result(Cause.REFUSE, "", *"???????")
REFUSE_MANY: Final = _results(Cause.REFUSE)


def _back(cause: Cause) -> str:
    """A run leaves its worker. One that ends keeps the worker's name, and gets the time of its end."""
    final = choose(_RUNNING, cause, final="0", live="NULL")
    worker = choose(_RUNNING, cause, final="worker_id", live="NULL")
    # One that is held frees the place of its task: 1 is Blocked.CAP, 8 is Blocked.HELD.
    place = "blocked = CASE WHEN blocked & 8 <> 0 AND of_array = 1 THEN blocked | 1 ELSE blocked END"
    rest = f"handed_n = NULL, claimed_ms = NULL, lease_ms = NULL, ends_ms = NULL,\n        {place}"
    return update(
        _RUNNING, cause, f"finished_ms = CAST(? AS BIGINT) + {final}, worker_id = {worker}, {rest}", "run_id = ?"
    )


RETURN: Final = _back(Cause.RETURN)
BOUNCE: Final = _back(Cause.BOUNCE)
# The run, before it is stuck. Only the first report counts.
HANGING: Final = f"""
    SELECT {moves.MOVED} FROM runs WHERE run_id = ? AND stuck = 0 AND {guard(_RUNNING, Cause.HANG)}"""
HANG: Final = update(_RUNNING, Cause.HANG, "stuck = 1", "run_id = ?")
# Ends by the scheduler's decision.
_END: Final = "detail = ?, finished_ms = ?, ends_ms = NULL"
LOSE: Final = update(_RUNNING, Cause.LOSE, _END, "run_id = ?")
CRASH: Final = update(_RUNNING, Cause.CRASH, _END, "run_id = ?")
LAST_CRASH: Final = update(_RUNNING, Cause.LAST_CRASH, _END, "run_id = ?")
WITHDRAW: Final = update(_RUNNING, Cause.WITHDRAW, _END, "run_id = ?")
QUARANTINE: Final = update(_RUNNING, Cause.QUARANTINE, _END, "run_id = ?")
OVERDUE: Final = update(_RUNNING, Cause.OVERDUE, _END, "ends_ms <= ?")
