"""The SQL statements of retention: what is old, and its removal. As sql.py, for all engines."""

from __future__ import annotations

from typing import Final

# Ended jobs without a schedule, by status in the order of their ids; the counters of their tasks, and their tags. The
# last column: whether other jobs may wait for it, or it has waited for some.
ENDED_JOBS: Final = """
    SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL, dependents > 0 OR after_jobs IS NOT NULL
    FROM jobs WHERE status = ? AND job_id > ? ORDER BY job_id LIMIT ?"""
COUNT_OLD: Final = """
    SELECT count(*) FROM jobs
    WHERE status = ? AND job_id BETWEEN ? AND ? AND created_ms < ? AND updated_ms < ? AND schedule IS NULL
        AND (dependents = 0 OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.parent_id = jobs.job_id))"""
NOTE_PURGED: Final = "UPDATE identity SET purged = 1 WHERE purged = 0"
# Jobs with fires, each with the first run of the oldest fire that is kept; NULL: the job has no more fires than that.
# Jumps from one job to the next.
FIRED: Final = """
    WITH RECURSIVE fired (job) AS (
        SELECT (SELECT fired_id FROM fires WHERE fired_id > ? ORDER BY fired_id LIMIT 1)
        UNION ALL
        SELECT (SELECT fired_id FROM fires WHERE fired_id > fired.job ORDER BY fired_id LIMIT 1)
        FROM fired WHERE fired.job IS NOT NULL)
    SELECT job, (SELECT first_run FROM fires WHERE fired_id = fired.job ORDER BY first_run DESC LIMIT 1 OFFSET ?)
    FROM fired WHERE job IS NOT NULL LIMIT ?"""
# The fires of a job before one of its runs, oldest first: the first and the last run of each, and how it ended.
FIRES: Final = """
    SELECT f.first_run, l.run_id, l.status, l.finished_ms FROM fires f JOIN runs l ON l.run_id = (
        SELECT r.run_id FROM runs r WHERE r.job_id = f.fired_id AND r.run_id < (
            SELECT g.first_run FROM fires g WHERE g.fired_id = f.fired_id AND g.first_run > f.first_run
            ORDER BY g.first_run LIMIT 1)
        ORDER BY r.run_id DESC LIMIT 1)
    WHERE f.fired_id = ? AND f.first_run > ? AND f.first_run < ? ORDER BY f.first_run LIMIT ?"""
DELETE_RUNS_OF_FIRES: Final = "DELETE FROM runs WHERE job_id = ? AND run_id BETWEEN ? AND ?"
DELETE_FIRES: Final = "DELETE FROM fires WHERE fired_id = ? AND first_run BETWEEN ? AND ?"
# Tokens that were not valid any more at a time. Not those whose jobs are being ended.
OLD_TOKENS: Final = """
    SELECT token_id, name FROM tokens WHERE ending_by IS NULL AND (revoked_ms <= ? OR expires_ms <= ?)
    ORDER BY token_id LIMIT ?"""
DELETE_TOKEN: Final = "DELETE FROM tokens WHERE token_id = ?"  # noqa: S105
# Of a list of ids, those that are still there.
JOBS_THERE: Final = "SELECT job_id FROM jobs WHERE job_id IN (VALUES (?))"
RUNS_THERE: Final = "SELECT run_id FROM runs WHERE run_id IN (VALUES (?))"
RUN_BETWEEN: Final = "SELECT run_id FROM runs WHERE run_id BETWEEN ? AND ? LIMIT 1"
# The first runs of a job, each with the bytes of its output and its artifacts.
SIZES: Final = """
    SELECT r.run_id, coalesce((
        SELECT coalesce(length(o.stdout_head), 0) + coalesce(length(o.stdout_tail), 0)
            + coalesce(length(o.stderr_head), 0) + coalesce(length(o.stderr_tail), 0)
        FROM outputs o WHERE o.run_id = r.run_id), 0)
        + coalesce((SELECT length(a.data) FROM artifacts a WHERE a.run_id = r.run_id), 0)
    FROM runs r WHERE r.job_id = ? ORDER BY r.run_id LIMIT ?"""
# Of an array with many runs: some of these, its ranges, its entries, and whether there is such an array.
NOTE_REMOVING: Final = "UPDATE jobs SET removing_ms = ? WHERE job_id = ? AND removing_ms IS NULL RETURNING job_id"
DELETE_SOME_RUNS: Final = "DELETE FROM runs WHERE job_id = ? AND run_id <= ?"
DELETE_SOME_RANGES: Final = """
    DELETE FROM task_ranges WHERE job_id = ? AND first_task IN (
        SELECT s.first_task FROM task_ranges s WHERE s.job_id = ? ORDER BY s.first_task LIMIT ?) RETURNING first_task"""
DELETE_SOME_ENTRIES: Final = """
    DELETE FROM entries WHERE job_id = ? AND first_entry IN (
        SELECT e.first_entry FROM entries e WHERE e.job_id = ? ORDER BY e.first_entry LIMIT ?) RETURNING first_entry"""
REMOVING: Final = """
    SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL FROM jobs
    WHERE removing_ms IS NOT NULL ORDER BY job_id LIMIT 1"""
DELETE_RUNS: Final = "DELETE FROM runs WHERE job_id IN (VALUES (?))"
DELETE_JOBS: Final = "DELETE FROM jobs WHERE job_id IN (VALUES (?))"
# What a look at old events needs of them.
OLD_EVENTS: Final = """
    SELECT event_id, at_ms, job_id, run_first, run_last, became FROM events
    WHERE event_id > ? ORDER BY event_id LIMIT ?"""
DELETE_EVENTS: Final = "DELETE FROM events WHERE event_id IN (VALUES (?))"
