"""The SQL statements that all engines share. `?` marks a parameter. SQL of one engine belongs in its own folder."""

from __future__ import annotations

from typing import Final

from zsched.model.access import Token, WorkerKey
from zsched.model.lifecycle import Cause
from zsched.model.order import Order
from zsched.model.records import Event, ForeignRuns, Instance
from zsched.model.requirements import Requirements
from zsched.model.types import Job, JobFields, Policy, Run, RunStatus, Worker
from zsched.store.mapping import columns, insert, stored_columns
from zsched.store.moves import MOVED, guard

# Below the priority of every run.
PRIORITY_MIN: Final = -(2**63)

IDENTITY: Final = "SELECT db FROM identity"
ADD_IDENTITY: Final = "INSERT INTO identity (db, created_ms) VALUES (?, ?)"
REPLACE_IDENTITY: Final = "UPDATE identity SET db = ?, created_ms = ?"
RETAINS: Final = "SELECT retention FROM identity"
PREDECESSORS: Final = "SELECT db FROM predecessors ORDER BY generation DESC"
ADD_PREDECESSOR: Final = "INSERT INTO predecessors (generation, db, made_ms, restored_ms) VALUES (?, ?, ?, ?)"
RUNNING: Final = "SELECT run_id FROM runs WHERE status = 'running' ORDER BY run_id"
# The longest lease that a worker may still hold: of a running run, or the last lease granted.
LEASE_GIVEN: Final = """
    SELECT coalesce(max(lease_ms), 0) FROM (
        SELECT max(lease_ms) AS lease_ms FROM runs WHERE status = 'running'
        UNION ALL SELECT lease_ms FROM (
            SELECT lease_ms FROM runs WHERE lease_ms IS NOT NULL ORDER BY run_id DESC LIMIT 1) AS last) AS given"""
DUE_FIRES: Final = """
    SELECT job_id, schedule, on_lost = 'fail', on_disconnect = 'stop' FROM jobs WHERE next_fire_ms <= ?"""
PENDING_DEMANDS: Final = "SELECT DISTINCT demand_id FROM runs WHERE status = 'pending'"
# 2 is Blocked.DUE. A run of an array has left its place before.
DELAY: Final = """
    UPDATE runs SET blocked = blocked | 2, due_ms = CASE WHEN due_ms > ? THEN due_ms ELSE ? END
    WHERE status = 'pending' AND demand_id = ?"""
TAKE_OVER: Final = "UPDATE epoch SET epoch = epoch + 1 RETURNING epoch"
RAISE_EPOCH: Final = "UPDATE epoch SET epoch = CASE WHEN epoch > ? THEN epoch ELSE ? END + ?"
BEGIN_EPOCH: Final = "INSERT INTO schedulers (epoch, host, pid, version, started_ms) VALUES (?, ?, ?, ?, ?)"
INSTANCES: Final = f"SELECT {columns(Instance)} FROM instances ORDER BY role, url, instance"
KEY_CHECK: Final = "SELECT key_check FROM identity"
SET_KEY_CHECK: Final = "UPDATE identity SET key_check = ?"
TRANSFER: Final = "SELECT state, db, place, at_ms FROM transfer"
ADD_TRANSFER: Final = "INSERT INTO transfer (state, db, place, at_ms) VALUES (?, ?, ?, ?)"
END_TRANSFER: Final = "DELETE FROM transfer"
EPOCH: Final = "SELECT epoch FROM epoch"
END_EPOCH: Final = "UPDATE schedulers SET stopped_ms = ? WHERE epoch = ?"

FIND_DEMANDS: Final = "SELECT demand_id, wish FROM demands WHERE wish IN (VALUES (?))"
DEMAND_OF: Final = "SELECT wish FROM runs JOIN demands USING (demand_id) WHERE run_id = ?"
ADD_DEMAND: Final = "INSERT INTO demands (demand_id, wish) VALUES (?, ?)"
DEMAND: Final = "SELECT wish FROM demands WHERE demand_id = ?"

# Demands with pending or running runs, of those that are counted.
LIVE_DEMANDS: Final = "SELECT demand_id, wish, pending, running FROM demands WHERE pending + running > 0"
COUNT_DEMAND: Final = "UPDATE demands SET pending = pending + ?, running = running + ? WHERE demand_id = ?"
# The same for readers, and in a row without a demand the numbers of all tasks.
TASKS_BY_DEMAND: Final = """
    SELECT wish, pending, running FROM demands WHERE pending + running > 0
    UNION ALL SELECT NULL, (SELECT tasks FROM totals WHERE status = 'pending'),
        (SELECT tasks FROM totals WHERE status = 'running')"""

FIND_OWNER: Final = "SELECT owner_id FROM owners WHERE owner = ?"
ADD_OWNER: Final = "INSERT INTO owners (owner_id, owner) VALUES (?, ?)"

# --- jobs ---

LIVE_TASKS: Final = "pending + running + unmade > 0"
# The counters of an array, as arrays.read_progress reads them; NULL for other jobs.
_PROGRESS: Final = """CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END"""
_OWNER: Final = "(SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id)"
JOB_COLUMNS: Final = columns(Job, owner=_OWNER, live=LIVE_TASKS, tasks=_PROGRESS)
JOB: Final = f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id = ?"
JOBS: Final = f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?"
JOBS_BETWEEN: Final = f"SELECT {JOB_COLUMNS} FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id LIMIT ?"
LAST_JOB: Final = "SELECT coalesce(max(job_id), 0) FROM jobs"
JOB_FROM: Final = "SELECT job_id, created_ms FROM jobs WHERE job_id >= ? ORDER BY job_id LIMIT 1"
COUNT_JOBS_BETWEEN: Final = "SELECT count(*) FROM jobs WHERE job_id BETWEEN ? AND ?"
JOBS_BY_STATUS: Final = f"""
    SELECT {JOB_COLUMNS} FROM jobs WHERE status = ? AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?"""

# --- jobs of an owner ---

# A recurring job that fires or can be resumed.
_RECURS: Final = "schedule IS NOT NULL AND ended_ms IS NULL"
OWNED: Final = "owner_id = (SELECT owner_id FROM owners WHERE owner = ?)"
JOBS_BY_OWNER: Final = f"""
    SELECT {JOB_COLUMNS} FROM jobs WHERE {OWNED} AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?"""
# The plus makes SQLite use the index by status, which contains the owner: skipping a million other jobs takes 60 ms.
JOBS_BY_OWNER_AND_STATUS: Final = f"""
    SELECT {JOB_COLUMNS} FROM jobs WHERE +{OWNED} AND status = ? AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?"""
COUNT_METERED: Final = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM jobs WHERE {OWNED} AND status = 'pending' AND metered = 1 LIMIT ?) AS found"""
COUNT_RECURRING_OF: Final = f"""
    SELECT count(*) FROM (SELECT 1 FROM jobs WHERE {OWNED} AND {_RECURS} LIMIT ?) AS found"""
# What a bulk call reads. The plus prevents SQLite from scanning all jobs just to get the order.
TARGET: Final = f"job_id, {_OWNER}, status"
TARGETS_BETWEEN: Final = f"SELECT {TARGET} FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id LIMIT ?"
RECURRING: Final = f"SELECT {TARGET} FROM jobs WHERE {_RECURS} AND +job_id > ? ORDER BY +job_id LIMIT ?"
RECURRING_OF: Final = f"""
    SELECT {TARGET} FROM jobs WHERE {OWNED} AND {_RECURS} AND job_id > ? ORDER BY job_id LIMIT ?"""
LIVE: Final = f"SELECT {TARGET} FROM jobs WHERE status = ? AND job_id > ? AND {LIVE_TASKS} ORDER BY job_id LIMIT ?"
LIVE_OF: Final = f"""
    SELECT {TARGET} FROM jobs WHERE +{OWNED} AND status = ? AND job_id > ? AND {LIVE_TASKS} ORDER BY job_id LIMIT ?"""
STATUS: Final = "SELECT status FROM jobs WHERE job_id = ?"
STATUSES_BETWEEN: Final = "SELECT job_id, status FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id"
UNFINISHED: Final = """
    SELECT job_id FROM jobs WHERE status IN ('pending', 'running') AND schedule IS NULL"""
UNFINISHED_OF: Final = f"{UNFINISHED} AND +{OWNED}"
COUNT_LIVE_OF: Final = f"""
    SELECT count(*) FROM jobs WHERE +{OWNED} AND status IN ('pending', 'running') AND {LIVE_TASKS}"""
# Rows of JobFields, of Policy and of Requirements come after the id.
ADD_JOB: Final = insert(
    "jobs",
    (
        *("job_id", *stored_columns(JobFields), *stored_columns(Policy), *stored_columns(Requirements)),
        *("demand_id", "next_fire_ms", "created_ms", "updated_ms", "owner_id", "metered", "stdin_bytes"),
        *("entries", "files_bytes", "pending"),
    ),
)
# The given unique keys that a live job holds. Only the newest run of a job can be live.
FIND_UNIQUE: Final = """
    SELECT unique_key, holder_id, (
        SELECT status IN ('pending', 'running') FROM runs WHERE job_id = holder_id ORDER BY run_id DESC LIMIT 1)
    FROM unique_jobs WHERE unique_key IN (VALUES (?))"""
HOLD_UNIQUE: Final = """
    INSERT INTO unique_jobs (unique_key, holder_id) VALUES (?, ?)
    ON CONFLICT (unique_key) DO UPDATE SET holder_id = excluded.holder_id"""
FREE_UNIQUE: Final = "DELETE FROM unique_jobs WHERE unique_key = ? AND holder_id = ?"
ADD_TAG: Final = "INSERT INTO job_tags (tag, tagged_id) VALUES (?, ?)"
DELETE_TAG: Final = "DELETE FROM job_tags WHERE tag = ? AND tagged_id = ?"
# The first run of a fire, so that old fires are found.
ADD_FIRST_RUN: Final = "INSERT INTO fires (fired_id, first_run) VALUES (?, ?)"
COUNT_TASKS: Final = """
    UPDATE jobs SET pending = pending + ?, running = running + ?, success = success + ?, failed = failed + ?,
        cancelled = cancelled + ?, updated_ms = ? WHERE job_id = ?"""
# Of a job with a task that has ended: returns how many live ones it has left, whether another job waits for it or it
# waited for another one, and its owner.
COUNT_ENDED: Final = f"""{COUNT_TASKS}
    RETURNING job_id, pending + running + unmade, dependents > 0 OR after_jobs IS NOT NULL, owner_id, queue"""
# A cancel of a recurring job cancels only its live fire.
MARK_JOB_CANCELLED: Final = """
    UPDATE jobs SET cancel_by = ?, cancel_ms = ?, cancel_reason = ?,
        updated_ms = ? WHERE job_id = ? AND cancel_ms IS NULL AND schedule IS NULL"""
ADD_TO_TOTALS: Final = "UPDATE totals SET tasks = tasks + ? WHERE status = ?"
TOTALS: Final = "SELECT status, tasks FROM totals"
TOTAL_PENDING: Final = "SELECT tasks FROM totals WHERE status = 'pending'"
DUE_JOBS: Final = f"""
    SELECT job_id, schedule, next_fire_ms, {LIVE_TASKS} FROM jobs
    WHERE next_fire_ms <= ? ORDER BY next_fire_ms, job_id LIMIT ?"""
# A recurring job counts only the tasks of its last fire.
START_FIRE: Final = """
    UPDATE jobs SET next_fire_ms = ?, unmade = 0, pending = 0, running = 0, success = 0, failed = 0,
        cancelled = 0, updated_ms = ?
    WHERE job_id = ? RETURNING demand_id, priority"""
SET_NEXT_FIRE: Final = "UPDATE jobs SET next_fire_ms = ? WHERE job_id = ?"
# An ended schedule is final. RETURNING tells whether the statement changed anything.
PAUSE_SCHEDULE: Final = """
    UPDATE jobs SET paused_ms = ?, next_fire_ms = NULL, updated_ms = ?
    WHERE job_id = ? AND schedule IS NOT NULL AND paused_ms IS NULL AND ended_ms IS NULL RETURNING job_id"""
RESUME_SCHEDULE: Final = """
    UPDATE jobs SET paused_ms = NULL, next_fire_ms = ?, updated_ms = ?
    WHERE job_id = ? AND paused_ms IS NOT NULL RETURNING job_id"""
END_SCHEDULE: Final = """
    UPDATE jobs SET ended_ms = ?, paused_ms = NULL, next_fire_ms = NULL, updated_ms = ?
    WHERE job_id = ? AND schedule IS NOT NULL AND ended_ms IS NULL RETURNING job_id"""
# Only the newest run of a job without an array can be live: a fire comes after the end of the last fire.
LAST_FIRE_LIVES: Final = """
    SELECT status IN ('pending', 'running') FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT 1"""
LATEST: Final = "SELECT at_ms FROM events ORDER BY event_id DESC LIMIT 1"
# And whether a run avoids a worker: 16 is Blocked.AVOIDS.
NEXT_DUE: Final = """
    SELECT min(at_ms), EXISTS (SELECT 1 FROM runs WHERE status = 'pending' AND blocked = 16) FROM (
        SELECT (SELECT next_fire_ms FROM jobs WHERE next_fire_ms IS NOT NULL ORDER BY next_fire_ms LIMIT 1) AS at_ms
        UNION ALL SELECT (
            SELECT due_ms FROM runs WHERE status = 'pending' AND due_ms IS NOT NULL ORDER BY due_ms LIMIT 1)
        UNION ALL SELECT (
            SELECT expires_ms FROM runs WHERE status = 'pending' AND expires_ms IS NOT NULL ORDER BY expires_ms LIMIT 1)
        UNION ALL SELECT (
            SELECT ends_ms FROM runs WHERE status = 'running' AND ends_ms IS NOT NULL ORDER BY ends_ms LIMIT 1)
        ) AS due"""

# --- runs ---

# The index of a task, for a run of an array.
TASK: Final = "CASE WHEN of_array = 1 THEN task END"
_RUN: Final = columns(Run, task=TASK)
RUN: Final = f"SELECT {_RUN} FROM runs WHERE run_id = ?"
RUNS_OF_JOB: Final = f"SELECT {_RUN} FROM runs WHERE job_id = ? AND run_id < ? ORDER BY run_id DESC LIMIT ?"
FIRST_RUN: Final = "SELECT run_id FROM runs WHERE job_id = ? ORDER BY run_id LIMIT 1"
LIVE_ON_WORKER: Final = f"""
    SELECT {_RUN} FROM runs WHERE worker_id = ? AND status = 'running' AND job_id = ? ORDER BY run_id DESC LIMIT 2"""
LAST_ON_WORKER: Final = f"""
    SELECT {_RUN} FROM (SELECT * FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT 100) AS latest
    WHERE worker_id = ? ORDER BY run_id DESC LIMIT 1"""
# A run that may start. It has no bit of Blocked; or only LIMITED (4), and then it may start while there is room under
# the limits of its demand.
_READY: Final = f"{guard(RunStatus.PENDING, Cause.CLAIM)} AND blocked = 0"
_LIMITED: Final = f"{guard(RunStatus.PENDING, Cause.CLAIM)} AND blocked = 4"


def _best(ready: str) -> str:
    """The best run of each demand that has such runs. Jumps from one demand to the next, so its cost grows with the
    number of demands, not of runs. Not by min(): PostgreSQL may read all of the runs for it.
    """
    return f"""
    WITH RECURSIVE waiting (demand_id) AS (
        SELECT (SELECT demand_id FROM runs WHERE {ready} ORDER BY demand_id LIMIT 1)
        UNION ALL
        SELECT (SELECT demand_id FROM runs WHERE {ready} AND demand_id > waiting.demand_id
                ORDER BY demand_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    SELECT run_id, demand_id, priority FROM runs WHERE run_id IN (
        SELECT (SELECT run_id FROM runs WHERE {ready} AND demand_id = waiting.demand_id
                ORDER BY priority DESC, run_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    ORDER BY priority DESC, run_id"""


def _best_of(ready: str) -> str:
    """The best run of one demand."""
    return f"""
    SELECT run_id, priority FROM runs WHERE {ready} AND demand_id = ? ORDER BY priority DESC, run_id LIMIT 1"""


def _count(ready: str) -> str:
    return f"""
    SELECT count(*) FROM (
        SELECT 1 FROM runs WHERE {ready} AND demand_id = ? LIMIT ?) AS found"""


READY: Final = _best(_READY)
READY_LIMITED: Final = _best(_LIMITED)
READY_OF: Final = _best_of(_READY)
READY_LIMITED_OF: Final = _best_of(_LIMITED)
READY_COUNT: Final = _count(_READY)
READY_LIMITED_COUNT: Final = _count(_LIMITED)
# The runs that a claim takes: those of a demand, with at least a priority, up to a number.
_CLAIMABLE: Final = f"""{guard(RunStatus.PENDING, Cause.CLAIM, "r.")} AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?"""
_CLAIMABLE_LIMITED: Final = _CLAIMABLE.replace("blocked = 0", "blocked = 4")
# The same as a condition of an UPDATE.
CLAIMED: Final = f"run_id IN (SELECT r.run_id FROM runs r WHERE {_CLAIMABLE})"
CLAIMED_LIMITED: Final = CLAIMED.replace("blocked = 0", "blocked = 4")
CLAIMABLE_IDS: Final = f"SELECT run_id FROM runs r WHERE {_CLAIMABLE}"
CLAIMABLE_LIMITED_IDS: Final = f"SELECT run_id FROM runs r WHERE {_CLAIMABLE_LIMITED}"
_ORDER: Final = columns(Order)
# What a worker needs of a job, and its run. LEFT JOIN: a run whose job is missing is damaged, and is detected by its
# missing command.
_ORDERS: Final = f"""
    SELECT {", ".join(f"j.{column}" for column in _ORDER.split(", "))}, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id"""
CLAIMABLE: Final = f"{_ORDERS} WHERE {_CLAIMABLE}"
CLAIMABLE_LIMITED: Final = f"{_ORDERS} WHERE {_CLAIMABLE_LIMITED}"
# The same with the priority, to claim some of them later.
CLAIMABLE_AHEAD: Final = CLAIMABLE.replace("SELECT ", "SELECT r.priority, ", 1)
ORDER: Final = f"{_ORDERS} WHERE r.run_id = ?"
ORDER_AVOIDING: Final = f"{ORDER} AND {guard(RunStatus.PENDING, Cause.CLAIM, 'r.')} AND r.blocked = 16"
# What the store has to know of runs to move them: moves.MOVED, and what the guards ask.
REPORTED: Final = f"SELECT {MOVED}, status, started_ms FROM runs WHERE run_id IN (VALUES (?))"
LOAD: Final = """
    SELECT count(*), count(nullif(probation, 0)), coalesce(min(nullif(probation, 0)), 0), coalesce(max(lease_ms), 0)
    FROM runs
    WHERE worker_id = ? AND status = 'running'"""
HELD: Final = """
    SELECT run_id, job_id, handed_n, claimed_ms, started_ms, probation, cancel_ms IS NOT NULL,
        crashes, stuck, demand_id FROM runs
    WHERE worker_id = ? AND status = 'running' ORDER BY run_id"""
ADOPT: Final = "UPDATE runs SET handed_n = 0 WHERE worker_id = ? AND status = 'running' AND handed_n > 0"
# A duration keeps its rest (18 is Blocked.DUE and Blocked.AVOIDS); a date stays.
SHIFT_DUE: Final = """
    UPDATE runs SET due_ms = due_ms + ? WHERE status = 'pending' AND due_ms IS NOT NULL AND blocked & 18 <> 0"""
SHIFT_ENDS: Final = "UPDATE runs SET ends_ms = ends_ms + ? WHERE status = 'running' AND ends_ms IS NOT NULL"
CRASHES: Final = """
    SELECT r.crashes, j.crash_limit FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?"""
# Ended runs, and what their jobs say of successors.
ENDED_RUNS: Final = """
    SELECT r.run_id, r.job_id, r.task, r.failures, r.demand_id, j.owner_id, j.queue, j.retries, j.backoff, j.retry_on,
        r.blocked, r.of_array, r.worker_id, r.reason, r.exit_code, r.signal
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id IN (VALUES (?)) ORDER BY r.run_id"""
# 66 is Blocked.DUE and Blocked.DATE. A run that then avoids a worker (16 is Blocked.AVOIDS) does so until another time.
# Also returns whether a run of an array now waits for a place.
RELEASE_DUE: Final = """
    UPDATE runs SET blocked = CASE WHEN blocked & 66 <> 0 THEN blocked & ~66 ELSE blocked & ~16 END,
        due_ms = CASE WHEN blocked & 66 <> 0 AND blocked & 16 <> 0 THEN CAST(? AS BIGINT) END
    WHERE run_id IN (
        SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.due_ms <= ? AND r.blocked & 82 <> 0
        ORDER BY r.due_ms LIMIT ?)
    RETURNING job_id, blocked & of_array"""
AVOIDING: Final = """
    SELECT run_id, demand_id, priority, avoids FROM runs WHERE status = 'pending' AND blocked = 16
    ORDER BY run_id LIMIT ?"""
STOP_AVOIDING: Final = "UPDATE runs SET blocked = blocked & ~16, due_ms = NULL WHERE run_id IN (VALUES (?))"

# --- workers ---

_WORKER: Final = columns(Worker)
WORKER: Final = f"SELECT {_WORKER} FROM workers WHERE worker_id = ?"
WORKERS: Final = f"SELECT {_WORKER} FROM workers WHERE worker_id > ? ORDER BY worker_id"
WORKERS_BY_STATUS: Final = "SELECT status, count(*) FROM workers GROUP BY status"
ACTIVE_WORKERS: Final = f"SELECT {_WORKER} FROM workers WHERE status = 'active' ORDER BY worker_id"
_KEPT: Final = ("worker_id", "registered_ms")
REGISTER: Final = insert(
    "workers",
    stored_columns(Worker),
    " ON CONFLICT (worker_id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in stored_columns(Worker) if name not in _KEPT)
    + f" RETURNING {_WORKER}",
)
WORKER_STATUS: Final = "SELECT status FROM workers WHERE worker_id = ?"
SEEN: Final = "UPDATE workers SET last_seen_ms = ?, status = 'active' WHERE worker_id = ?"
NOTE_SEEN: Final = "UPDATE workers SET last_seen_ms = ? WHERE worker_id = ? AND last_seen_ms <> ?"
LEAVE: Final = "UPDATE workers SET leaving_ms = ? WHERE worker_id = ? AND leaving_ms IS NULL RETURNING status"
DELETE_WORKER: Final = "DELETE FROM workers WHERE worker_id = ? AND status = 'inactive' RETURNING worker_id"
RETIRE: Final = "UPDATE workers SET status = 'inactive' WHERE worker_id = ? AND status = 'active'"

EVENT_COLUMNS: Final = columns(Event)
ADD_EVENT: Final = insert("events", stored_columns(Event))
EVENTS: Final = f"SELECT {EVENT_COLUMNS} FROM events WHERE event_id > ? ORDER BY event_id LIMIT ?"
EVENT_FROM: Final = "SELECT event_id, at_ms FROM events WHERE event_id >= ? ORDER BY event_id LIMIT 1"
LAST_EVENT: Final = "SELECT coalesce(max(event_id), 0) FROM events"
JOBS_OF_EVENTS: Final = "SELECT event_id, job_id FROM events WHERE event_id > ? ORDER BY event_id LIMIT ?"

# --- access ---

_TOKEN: Final = columns(Token, ending="ending_by IS NOT NULL")
TOKEN: Final = f"SELECT {_TOKEN} FROM tokens WHERE token_id = ?"
TOKEN_NAMED: Final = f"SELECT {_TOKEN} FROM tokens WHERE name = ?"
_VALID_AFTER: Final = "(revoked_ms IS NULL OR revoked_ms > ?) AND (expires_ms IS NULL OR expires_ms > ?)"
TOKENS: Final = f"SELECT {_TOKEN} FROM tokens WHERE {_VALID_AFTER} ORDER BY created_ms, token_id"
TOKENS_AFTER: Final = f"""
    SELECT {_TOKEN} FROM tokens
    WHERE {_VALID_AFTER}
        AND (created_ms, token_id) > (SELECT created_ms, token_id FROM tokens WHERE token_id = ?)
    ORDER BY created_ms, token_id"""
ADD_TOKEN: Final = insert("tokens", stored_columns(Token))
USE_TOKEN: Final = "UPDATE tokens SET last_used_ms = ? WHERE token_id = ?"  # noqa: S105
# A revoked token whose jobs are being ended. `ended_to`: the last job cancelled.
END_JOBS: Final = "UPDATE tokens SET ending_by = ?, ended_to = 0 WHERE token_id = ?"
ENDING: Final = """
    SELECT token_id, 'token:' || name, ending_by, ended_to FROM tokens
    WHERE ending_by IS NOT NULL ORDER BY token_id LIMIT 1"""
ENDED_TO: Final = "UPDATE tokens SET ended_to = ? WHERE token_id = ?"
ENDED: Final = "UPDATE tokens SET ending_by = NULL WHERE token_id = ?"
REVOKE_TOKEN: Final = "UPDATE tokens SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL RETURNING token_id"  # noqa: S105

_KEY: Final = columns(WorkerKey)
KEY: Final = f"SELECT {_KEY} FROM keys WHERE public_key = ?"
KEY_OF: Final = f"SELECT {_KEY} FROM keys WHERE worker_id = ? AND revoked_ms IS NULL"
KEYS: Final = f"""
    SELECT {_KEY} FROM keys WHERE revoked_ms IS NULL OR revoked_ms > ? ORDER BY worker_id, created_ms, public_key"""
KEYS_AFTER: Final = f"""
    SELECT {_KEY} FROM keys
    WHERE (revoked_ms IS NULL OR revoked_ms > ?) AND (worker_id, created_ms, public_key) >
        (SELECT worker_id, created_ms, public_key FROM keys WHERE public_key = ?)
    ORDER BY worker_id, created_ms, public_key"""
REMOTE_KEY: Final = "SELECT 1 FROM keys WHERE revoked_ms IS NULL AND origin <> 'enrolled' LIMIT 1"
ADD_KEY: Final = insert("keys", stored_columns(WorkerKey))
LIMIT_KEY: Final = "UPDATE keys SET slots_max = ? WHERE public_key = ?"
REVOKE_KEY: Final = f"UPDATE keys SET revoked_ms = ? WHERE worker_id = ? AND revoked_ms IS NULL RETURNING {_KEY}"

# --- foreign runs ---

_FOREIGN: Final = columns(ForeignRuns)
FOREIGN_OF: Final = f"SELECT {_FOREIGN} FROM foreign_runs WHERE worker_id = ? ORDER BY db"
FOREIGN: Final = f"SELECT {_FOREIGN} FROM foreign_runs WHERE (worker_id, db) > (?, ?) ORDER BY worker_id, db"
FOREIGN_FOUND: Final = insert("foreign_runs", stored_columns(ForeignRuns))
FOREIGN_UPDATE: Final = "UPDATE foreign_runs SET running = ?, results = ?, runs = ? WHERE worker_id = ? AND db = ?"
FOREIGN_GONE: Final = "DELETE FROM foreign_runs WHERE worker_id = ? AND db = ?"
FOREIGN_DECIDE: Final = f"""
    UPDATE foreign_runs SET decision = ?, decided_by = ?, decided_ms = ? WHERE worker_id = ? AND db = ?
    RETURNING {_FOREIGN}"""
FOREIGN_UNDECIDED: Final = """
    SELECT coalesce(sum(running), 0), count(DISTINCT worker_id) FROM foreign_runs
    WHERE running > 0 AND decision IS NULL"""

# --- idempotent submits ---

SUBMITTED: Final = """
    SELECT digest, first_job, last_job, jobs FROM idempotency WHERE caller = ? AND idem_key = ? AND made_ms > ?"""
# An expired row with the same key may still exist.
KEEP_SUBMITTED: Final = """
    INSERT INTO idempotency (caller, idem_key, digest, first_job, last_job, jobs, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (caller, idem_key) DO UPDATE SET digest = excluded.digest, first_job = excluded.first_job,
        last_job = excluded.last_job, jobs = excluded.jobs, made_ms = excluded.made_ms"""
FORGET_SUBMITTED: Final = """
    DELETE FROM idempotency WHERE (caller, idem_key) IN (
        SELECT caller, idem_key FROM idempotency WHERE made_ms <= ? ORDER BY made_ms LIMIT ?)
    RETURNING made_ms"""
