"""The SQL statements about jobs that wait for other jobs, and about flows. As sql.py, for all engines."""

from __future__ import annotations

from typing import Final

# --- what a job waits for ---

ADD: Final = "INSERT INTO dependencies (child_id, judged, parent_id, task, ends) VALUES (?, ?, ?, ?, ?)"
# 1: others wait for the job; 2: for some of its tasks.
MARK_PARENT: Final = "UPDATE jobs SET dependents = dependents | ? WHERE job_id = ?"
# Parents, by their counters. `unmade` and the others count tasks.
PARENTS: Final = """
    SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), schedule IS NOT NULL,
        CASE WHEN pending + running + unmade = 0 THEN status END, task_array, success + failed + cancelled > 0,
        (SELECT count(*) FROM dependencies d WHERE d.parent_id = jobs.job_id AND d.judged = 2)
    FROM jobs WHERE job_id IN (VALUES (?)) AND removing_ms IS NULL"""
# Reasons of failures without a start: also a condition of the index runs_failed_of_array.
_STARTED: Final = "reason NOT IN ('dependency', 'expired', 'quarantined')"
_LATEST_FAILURES: Final = f"""
            SELECT f.run_id, f.task FROM runs f
            WHERE f.of_array = 1 AND f.status = 'failed' AND f.{_STARTED} AND f.job_id = jobs.job_id
            ORDER BY f.run_id DESC LIMIT 1000"""
# Of some failed jobs, those that had started. A task of an array counts if it has failed so in its last run, and has
# not ended since without a run. More than 1,000 such failures of an array are not looked at: then it has started.
HAVE_RUN: Final = f"""
    SELECT job_id FROM jobs WHERE job_id IN (VALUES (?)) AND CASE WHEN task_array IS NULL THEN EXISTS (
        SELECT 1 FROM (SELECT reason FROM runs WHERE runs.job_id = jobs.job_id ORDER BY run_id DESC LIMIT 1) AS latest
        WHERE {_STARTED})
    ELSE (SELECT count(*) FROM ({_LATEST_FAILURES}) AS failures) = 1000 OR EXISTS (
        SELECT 1 FROM ({_LATEST_FAILURES}) AS latest
        WHERE NOT EXISTS (
            SELECT 1 FROM runs n
            WHERE n.of_array = 1 AND n.job_id = jobs.job_id AND n.task = latest.task AND n.run_id > latest.run_id)
        AND latest.task > coalesce((
            SELECT s.last_task FROM task_ranges s WHERE s.job_id = jobs.job_id AND s.first_task <= latest.task
            ORDER BY s.first_task DESC LIMIT 1), -1))
    END"""
# The open dependencies of a job, and how many there are.
WAITS_FOR: Final = """
    SELECT d.parent_id, d.task, d.ends, j.status FROM dependencies d JOIN jobs j ON j.job_id = d.parent_id
    WHERE d.child_id = ? AND d.judged = ? ORDER BY d.parent_id, d.task LIMIT ?"""
COUNT_WAITS: Final = "SELECT count(*) FROM dependencies WHERE child_id = ? AND judged = ?"

# --- jobs that have ended ---

SETTLE: Final = """
    INSERT INTO settled (settled_id, first_task, last_task) VALUES (?, -1, -1)
    ON CONFLICT (settled_id, first_task) DO NOTHING"""
SETTLE_TASKS: Final = """
    INSERT INTO settled (settled_id, first_task, last_task) VALUES (?, ?, ?)
    ON CONFLICT (settled_id, first_task) DO UPDATE SET last_task =
        CASE WHEN excluded.last_task > settled.last_task THEN excluded.last_task ELSE settled.last_task END"""
SETTLED: Final = "SELECT settled_id, first_task, last_task FROM settled ORDER BY settled_id, first_task LIMIT ?"
# All of a job, of which nothing is left to judge.
UNSETTLE: Final = "DELETE FROM settled WHERE settled_id IN (VALUES (?))"
UNSETTLE_JOBS: Final = "DELETE FROM settled WHERE settled_id IN (VALUES (?)) AND first_task = -1"
UNSETTLE_TASKS: Final = "DELETE FROM settled WHERE settled_id = ? AND first_task BETWEEN ? AND ?"
OPEN: Final = """
    SELECT child_id, parent_id, task, ends FROM dependencies
    WHERE parent_id IN (VALUES (?)) AND judged = 0 AND task = -1 LIMIT ?"""
JUDGE: Final = "UPDATE dependencies SET judged = 1 WHERE child_id = ? AND judged = 0 AND parent_id = ? AND task = ?"
# 32 is Blocked.PARENTS.
FREE: Final = """
    UPDATE runs SET blocked = blocked & ~32 WHERE job_id IN (VALUES (?)) AND blocked & 32 <> 0
        AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = runs.job_id AND d.judged = 0)
        AND status = 'pending'"""
OWN: Final = "SELECT child_id FROM dependencies WHERE child_id IN (VALUES (?)) LIMIT ?"
FORGET: Final = "DELETE FROM dependencies WHERE child_id IN (VALUES (?))"
# Of a list of ended jobs, those that must stay for others, or whose end is not handled to its end.
NEEDED: Final = """
    SELECT job_id FROM jobs WHERE job_id IN (VALUES (?)) AND (
        EXISTS (SELECT 1 FROM dependencies d WHERE d.parent_id = jobs.job_id)
        OR EXISTS (SELECT 1 FROM settled s WHERE s.settled_id = jobs.job_id))"""

# --- tasks ---

# Jobs with tasks for which others wait.
WATCHED: Final = "SELECT job_id FROM jobs WHERE dependents > 1"
TASKS_OF_RUNS: Final = "SELECT job_id, task FROM runs WHERE run_id IN (VALUES (?))"
OPEN_TASKS: Final = """
    SELECT child_id, parent_id, task, ends FROM dependencies
    WHERE parent_id = ? AND judged = 0 AND task IN (VALUES (?)) LIMIT ?"""
# Jobs each of whose tasks waits for the same task of a job; and the jobs for whose tasks those of a job wait.
FOLLOWERS: Final = "SELECT child_id FROM dependencies WHERE parent_id = ? AND judged = 2 ORDER BY child_id"
LEADERS: Final = "SELECT parent_id FROM dependencies WHERE child_id = ? AND judged = 2"
LAST_OF_TASKS: Final = """
    SELECT task, status, reason FROM runs WHERE run_id IN (
        SELECT max(run_id) FROM runs WHERE of_array = 1 AND job_id = ? AND task IN (VALUES (?)) GROUP BY task)"""

# --- flows ---

FLOW_JOBS: Final = "SELECT job_id FROM jobs WHERE flow = ? ORDER BY job_id"
FLOW_COUNTS: Final = "SELECT status, count(*) FROM jobs WHERE flow = ? GROUP BY status"
