"""The SQL statements of what callers do with stored jobs: hold, release, run again. As sql.py, for all engines."""

from __future__ import annotations

from typing import Final

from zsched.store import sql

# --- which jobs a call on many of them reads ---

HELD_JOBS: Final = f"SELECT {sql.TARGET} FROM jobs WHERE held_ms IS NOT NULL AND job_id > ? ORDER BY job_id LIMIT ?"
HELD_JOBS_OF: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE +{sql.OWNED} AND held_ms IS NOT NULL AND job_id > ? ORDER BY job_id LIMIT ?"""
ENDED_TARGETS: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE status = ? AND job_id > ? AND schedule IS NULL ORDER BY job_id LIMIT ?"""
ENDED_TARGETS_OF: Final = f"""
    SELECT {sql.TARGET} FROM jobs WHERE +{sql.OWNED} AND status = ? AND job_id > ? AND schedule IS NULL
    ORDER BY job_id LIMIT ?"""

# --- hold, release and rerun ---

# 8 is Blocked.HELD. RETURNING tells whether the statement changed anything.
HOLD_JOB: Final = """
    UPDATE jobs SET held_ms = ?, hold_reason = ?, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NULL RETURNING job_id"""
HOLD_RUNS: Final = "UPDATE runs SET blocked = blocked | 8 WHERE job_id = ? AND status IN ('pending', 'running')"
RELEASE_JOB: Final = """
    UPDATE jobs SET held_ms = NULL, hold_reason = NULL, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NOT NULL RETURNING job_id"""
RELEASE_RUNS: Final = "UPDATE runs SET blocked = blocked & ~8 WHERE job_id = ? AND status IN ('pending', 'running')"
LAST_RUN: Final = "SELECT run_id, status FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT 1"
REVIVE_JOB: Final = """
    UPDATE jobs SET cancel_by = NULL, cancel_ms = NULL, cancel_reason = NULL
    WHERE job_id = ? AND cancel_ms IS NOT NULL"""
