"""The SQL statements about arrays: their tasks, runs, ranges and entries. As sql.py, for all engines.

A statement about live runs has the whole condition of the index runs_live_of_array. It does not begin with the job, as
those do that read all runs of a job.
"""

from __future__ import annotations

from typing import Final

from zsched.model.types import Run
from zsched.store.mapping import columns
from zsched.store.sql import TASK

# --- arrays ---

LIVE_ARRAYS: Final = """
    SELECT job_id, deadline_ms FROM jobs WHERE task_array IS NOT NULL AND pending + running + unmade > 0"""
STATES: Final = """
    SELECT job_id, task_array, demand_id, priority, held_ms IS NULL AND cancel_ms IS NULL AND (after_jobs IS NULL
        OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = jobs.job_id AND d.judged = 0)),
        run_at_ms, deadline_ms, max_fails, forgiven, unmade, pending, running, waiting, success, failed, cancelled
    FROM jobs WHERE job_id IN (VALUES (?)) AND task_array IS NOT NULL"""
TASK_ARRAY: Final = "SELECT task_array FROM jobs WHERE job_id = ?"
SHIFT_TASKS: Final = """
    UPDATE jobs SET pending = pending + ?, running = running + ?, success = success + ?, failed = failed + ?,
        cancelled = cancelled + ?, unmade = unmade + ?, waiting = waiting + ?, updated_ms = ? WHERE job_id = ?"""
START_LATER: Final = "UPDATE jobs SET run_at_ms = ? WHERE job_id = ?"
FORGIVE: Final = "UPDATE jobs SET forgiven = ? WHERE job_id = ?"
# The unique key of an array, and its owner if the owner's pending jobs are counted.
HELD_BY: Final = """
    SELECT unique_key, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id AND jobs.metered = 1)
    FROM jobs WHERE job_id = ?"""

# --- runs of tasks ---

# 1 is Blocked.CAP. Runs that wait for nothing but a place have no other bit than LIMITED (4) or AVOIDS (16): these are
# the conditions of the index runs_placeless.
GIVE_PLACES: Final = """
    UPDATE runs SET blocked = blocked & ~1 WHERE run_id IN (
        SELECT r.run_id FROM runs r WHERE r.job_id = ? AND r.status = 'pending' AND r.blocked IN (1, 5, 17)
        ORDER BY r.task LIMIT ?)
    RETURNING run_id"""
PLACELESS: Final = "SELECT 1 FROM runs WHERE status = 'pending' AND blocked IN (1, 5, 17) AND job_id = ? LIMIT 1"
LIVE: Final = "of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running')"
# Without a condition on the task, SQLite may read all runs of the job.
LIVE_ALL: Final = "of_array = 1 AND job_id = ? AND task >= 0 AND status IN ('pending', 'running')"
LEAVE_PLACES: Final = f"""
    UPDATE runs SET blocked = blocked | 1 WHERE {LIVE} AND status = 'pending' AND blocked & 1 = 0 RETURNING run_id"""
LEAVE_ALL_PLACES: Final = """
    UPDATE runs SET blocked = blocked | 1
    WHERE status = 'pending' AND demand_id = ? AND of_array = 1 AND blocked & 1 = 0 RETURNING job_id"""
# 8 is Blocked.HELD.
HOLD_TASKS: Final = f"UPDATE runs SET blocked = blocked | 8 WHERE {LIVE} AND blocked & 8 = 0 RETURNING run_id"
RELEASE_TASKS: Final = f"UPDATE runs SET blocked = blocked & ~8 WHERE {LIVE} AND blocked & 8 <> 0 RETURNING run_id"
_LAST: Final = """
    (SELECT max(run_id) AS last_id FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ?
        GROUP BY task) AS l JOIN runs r ON r.run_id = l.last_id"""
# The attempts of the next runs of tasks that have run, and how their last runs are.
ATTEMPTS: Final = f"SELECT r.task, r.attempt + CASE WHEN r.started_ms IS NOT NULL THEN 1 ELSE 0 END FROM {_LAST}"
LAST_STATUSES: Final = f"SELECT r.task, r.status, r.reason FROM {_LAST}"
_RUN: Final = columns(Run, task=TASK)
# Of many tasks the newest runs are found in the order of the runs, of few by the tasks: the plus prevents that order.
RUNS_OF_MANY: Final = f"""
    SELECT {_RUN} FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND run_id < ?
    ORDER BY run_id DESC LIMIT ?"""
RUNS_OF_FEW: Final = RUNS_OF_MANY.replace("AND run_id", "AND +run_id").replace("BY run_id", "BY +run_id")
LAST_RUNS: Final = f"""
    SELECT {_RUN} FROM runs WHERE run_id IN (
        SELECT max(run_id) FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? GROUP BY task)"""
# A live run of an array, a ready one if there is one: it tells best why the array waits.
LIVE_RUN: Final = f"""
    SELECT {_RUN} FROM runs WHERE {LIVE_ALL} ORDER BY blocked, task LIMIT 1"""

PENDING_DEMANDS: Final = f"""
    SELECT demand_id, count(*) FROM runs WHERE {LIVE_ALL} AND status = 'pending' GROUP BY demand_id"""
SET_DEMAND: Final = f"UPDATE runs SET demand_id = ? WHERE {LIVE_ALL} AND status = 'pending' AND demand_id = ?"

# --- tasks without runs ---

_RANGE: Final = "first_task, last_task, state, again, reason"
# In two steps, so that no other ranges are read before the first unmade one.
LOWEST_RANGE: Final = f"""
    SELECT {_RANGE} FROM task_ranges WHERE job_id = ? AND first_task = (
        SELECT u.first_task FROM task_ranges u WHERE u.job_id = ? AND u.state = 'unmade'
        ORDER BY u.first_task LIMIT 1)"""
# Whether unmade tasks run again.
RUNS_AGAIN: Final = """
    SELECT 1 FROM task_ranges WHERE job_id = ? AND again = 1 AND state IN ('unmade', 'held', 'waits') LIMIT 1"""
# From the last range that begins at an index or before it.
RANGES: Final = f"""
    SELECT {_RANGE} FROM task_ranges WHERE job_id = ? AND first_task <= ? AND first_task >= coalesce((
        SELECT b.first_task FROM task_ranges b WHERE b.job_id = ? AND b.first_task <= ?
        ORDER BY b.first_task DESC LIMIT 1), 0)
    ORDER BY first_task"""
ADD_RANGE: Final = f"INSERT INTO task_ranges (job_id, {_RANGE}) VALUES (?, ?, ?, ?, ?, ?)"
# All ranges of a job in up to three states, where there are many: their number up to a bound, the tasks of a job whose
# indexes have equal steps, and a change that merges none.
COUNT_RANGES: Final = "SELECT count(*) FROM (SELECT 1 FROM task_ranges WHERE job_id = ? LIMIT ?) AS found"
COUNT_TASKS: Final = """
    SELECT coalesce(sum((last_task - first_task) / ? + 1), 0) FROM task_ranges
    WHERE job_id = ? AND state IN (?, ?, ?)"""
SPANS: Final = "SELECT first_task, last_task FROM task_ranges WHERE job_id = ? AND state IN (?, ?, ?)"
CHANGE_ALL: Final = """
    UPDATE task_ranges SET state = ?, again = coalesce(?, again), reason = ?
    WHERE job_id = ? AND state IN (?, ?, ?)"""
BEGIN_LATER: Final = "UPDATE task_ranges SET first_task = ? WHERE job_id = ? AND first_task = ?"
DELETE_RANGES: Final = "DELETE FROM task_ranges WHERE job_id = ? AND first_task BETWEEN ? AND ?"

# --- entries ---

ADD_ENTRIES: Final = "INSERT INTO entries (job_id, first_entry, packed) VALUES (?, ?, ?)"
ENTRIES: Final = """
    SELECT first_entry, packed FROM entries WHERE job_id = ? AND first_entry <= ? ORDER BY first_entry DESC LIMIT 1"""
