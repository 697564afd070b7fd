"""The SQL statements about jobs that wait for other jobs, and about flows. As sql.py, for all engines."""

from __future__ import annotations

from typing import Final

# --- what a job waits for ---

ADD: Final = "INSERT INTO dependencies (child_id, parent_id, ends) VALUES (?, ?, ?)"
MARK_PARENT: Final = "UPDATE jobs SET dependents = 1 WHERE job_id = ?"
# Parents, by their counters. `unmade` and the others count tasks.
PARENTS: Final = """
    SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), schedule IS NOT NULL,
        CASE WHEN pending + running + unmade = 0 THEN status END
    FROM jobs WHERE job_id IN (VALUES (?))"""
# Why those of the last runs of a job failed that did, up to a number of runs.
LAST_FAILURES: Final = """
    SELECT reason FROM (SELECT status, reason FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT ?) AS latest
    WHERE status = 'failed'"""
# The open dependencies of a job, and how many there are.
WAITS_FOR: Final = """
    SELECT d.parent_id, d.ends, j.status FROM dependencies d JOIN jobs j ON j.job_id = d.parent_id
    WHERE d.child_id = ? AND d.judged = 0 ORDER BY d.parent_id LIMIT ?"""
COUNT_WAITS: Final = "SELECT count(*) FROM dependencies WHERE child_id = ? AND judged = 0"

# --- jobs that have ended ---

SETTLE: Final = "INSERT INTO settled (settled_id) VALUES (?) ON CONFLICT (settled_id) DO NOTHING"
SETTLED: Final = "SELECT settled_id FROM settled ORDER BY settled_id LIMIT ?"
UNSETTLE: Final = "DELETE FROM settled WHERE settled_id IN (VALUES (?))"
OPEN: Final = """
    SELECT parent_id, child_id, ends FROM dependencies WHERE parent_id IN (VALUES (?)) AND judged = 0 LIMIT ?"""
JUDGE: Final = "UPDATE dependencies SET judged = 1 WHERE child_id = ? AND judged = 0 AND parent_id = ?"
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

# --- flows ---

FLOW_JOBS: Final = "SELECT job_id FROM jobs WHERE flow = ? ORDER BY job_id"
FLOW_COUNTS: Final = "SELECT status, count(*) FROM jobs WHERE flow = ? GROUP BY status"
