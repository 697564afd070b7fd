"""The SQL statements of acts of callers on stored jobs: hold, release, run again, change, remove.

As sql.py, for all engines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from zsched.model.types import JobFields, Policy
from zsched.store import array_sql, sql
from zsched.store.mapping import stored_columns

# --- which jobs a call on many of them reads ---

HELD_JOBS: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE held_ms IS NOT NULL AND job_id > ? AND {sql.LIVE_TASKS}
    ORDER BY job_id LIMIT ?"""
HELD_JOBS_OF: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE +{sql.OWNED} AND held_ms IS NOT NULL AND job_id > ? AND {sql.LIVE_TASKS}
    ORDER BY job_id LIMIT ?"""
ENDED_TARGETS: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE status = ? AND job_id > ? AND schedule IS NULL ORDER BY job_id LIMIT ?"""
ENDED_TARGETS_OF: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE +{sql.OWNED} AND status = ? AND job_id > ? AND schedule IS NULL
    ORDER BY job_id LIMIT ?"""
# A job that has ended, as removal.ENDED_JOBS.
REMOVABLE: Final = """
    SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL, dependents > 0 OR after_jobs IS NOT NULL
    FROM jobs WHERE job_id = ? AND schedule IS NULL AND pending + running + unmade = 0"""

# --- hold, release and rerun ---

# 8 is Blocked.HELD. RETURNING tells whether the statement changed anything.
HOLD_JOB: Final = """
    UPDATE jobs SET held_ms = ?, hold_reason = ?, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NULL RETURNING job_id"""
HOLD_RUNS: Final = "UPDATE runs SET blocked = blocked | 8 WHERE job_id = ? AND status IN ('pending', 'running')"
RELEASE_JOB: Final = """
    UPDATE jobs SET held_ms = NULL, hold_reason = NULL, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NOT NULL RETURNING task_array IS NOT NULL"""
RELEASE_RUNS: Final = "UPDATE runs SET blocked = blocked & ~8 WHERE job_id = ? AND status IN ('pending', 'running')"
# The last run of a job, and what the job says of the next one; its owner, if its pending jobs are counted.
LAST_RUN: Final = """
    SELECT r.run_id, r.status, j.demand_id, j.unique_key, j.dependents > 0 OR j.after_jobs IS NOT NULL,
        (SELECT owner FROM owners WHERE owners.owner_id = j.owner_id AND j.metered = 1)
    FROM runs r JOIN jobs j ON j.job_id = r.job_id
    WHERE r.job_id = ? ORDER BY r.run_id DESC LIMIT 1"""
REVIVE_JOB: Final = """
    UPDATE jobs SET cancel_by = NULL, cancel_ms = NULL, cancel_reason = NULL
    WHERE job_id = ? AND cancel_ms IS NOT NULL"""

# --- edits ---

# The columns of a job that an edit may change, and the columns of its pending runs that follow some of them.
EDITED: Final = (*stored_columns(JobFields), *stored_columns(Policy))
RUN_COLUMNS: Final[Mapping[str, str]] = {"deadline_ms": "expires_ms", "priority": "priority"}


DEMAND_OF_JOB: Final = "SELECT demand_id FROM jobs WHERE job_id = ?"
SET_DEMAND: Final = "UPDATE jobs SET demand_id = ? WHERE job_id = ?"
PENDING_RUNS: Final = "SELECT run_id, demand_id FROM runs WHERE job_id = ? AND status = 'pending'"
SET_DEMAND_OF_RUN: Final = "UPDATE runs SET demand_id = ? WHERE run_id = ?"


def edit(columns: Sequence[str]) -> str:
    """An UPDATE of some columns of a job, of its next fire and the time of its change."""
    sets = ", ".join(f"{column} = ?" for column in (*columns, "next_fire_ms", "updated_ms"))
    return f"UPDATE jobs SET {sets} WHERE job_id = ?"


def edit_runs(column: str, *, of_array: bool) -> str:
    """The UPDATE of a job's pending runs that follows a change of a column of the job."""
    where = f"{array_sql.LIVE_ALL} AND status = 'pending'" if of_array else "job_id = ? AND status = 'pending'"
    return f"UPDATE runs SET {RUN_COLUMNS[column]} = ? WHERE {where}"
