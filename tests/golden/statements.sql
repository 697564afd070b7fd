-- MOVED
run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- IDENTITY
SELECT db FROM identity;

-- ADD_IDENTITY
INSERT INTO identity (db, created_ms) VALUES (?, ?);

-- REPLACE_IDENTITY
UPDATE identity SET db = ?, created_ms = ?;

-- RETAINS
SELECT retention FROM identity;

-- PREDECESSORS
SELECT db FROM predecessors ORDER BY generation DESC;

-- ADD_PREDECESSOR
INSERT INTO predecessors (generation, db, made_ms, restored_ms) VALUES (?, ?, ?, ?);

-- RUNNING
SELECT run_id FROM runs WHERE status = 'running' ORDER BY run_id;

-- LEASE_GIVEN
SELECT coalesce(max(lease_ms), 0) FROM (
        SELECT max(lease_ms) AS lease_ms FROM runs WHERE status = 'running'
        UNION ALL SELECT lease_ms FROM (
            SELECT lease_ms FROM runs WHERE lease_ms IS NOT NULL ORDER BY run_id DESC LIMIT 1) AS last) AS given;

-- DUE_FIRES
SELECT job_id, schedule, on_lost = 'fail', on_disconnect = 'stop' FROM jobs WHERE next_fire_ms <= ?;

-- PENDING_DEMANDS
SELECT demand_id, count(*) FROM runs WHERE of_array = 1 AND job_id = ? AND task >= 0 AND status IN ('pending', 'running') AND status = 'pending' GROUP BY demand_id;

-- DELAY
UPDATE runs SET blocked = blocked | 2, due_ms = CASE WHEN due_ms > ? THEN due_ms ELSE ? END
    WHERE status = 'pending' AND demand_id = ?;

-- TAKE_OVER
UPDATE epoch SET epoch = epoch + 1 RETURNING epoch;

-- RAISE_EPOCH
UPDATE epoch SET epoch = CASE WHEN epoch > ? THEN epoch ELSE ? END + ?;

-- BEGIN_EPOCH
INSERT INTO schedulers (epoch, host, pid, version, started_ms) VALUES (?, ?, ?, ?, ?);

-- INSTANCES
SELECT instance, role, host, pid, version, url, endpoint, public_key, started_ms, seen_ms FROM instances ORDER BY role, url, instance;

-- KEY_CHECK
SELECT key_check FROM identity;

-- SET_KEY_CHECK
UPDATE identity SET key_check = ?;

-- TRANSFER
SELECT state, db, place, at_ms FROM transfer;

-- ADD_TRANSFER
INSERT INTO transfer (state, db, place, at_ms) VALUES (?, ?, ?, ?);

-- END_TRANSFER
DELETE FROM transfer;

-- EPOCH
SELECT epoch FROM epoch;

-- END_EPOCH
UPDATE schedulers SET stopped_ms = ? WHERE epoch = ?;

-- FIND_DEMANDS
SELECT demand_id, wish FROM demands WHERE wish IN (VALUES (?));

-- DEMAND_OF
SELECT wish FROM runs JOIN demands USING (demand_id) WHERE run_id = ?;

-- ADD_DEMAND
INSERT INTO demands (demand_id, wish) VALUES (?, ?);

-- DEMAND
SELECT wish FROM demands WHERE demand_id = ?;

-- LIVE_DEMANDS
SELECT demand_id, wish, pending, running FROM demands WHERE pending + running > 0;

-- COUNT_DEMAND
UPDATE demands SET pending = pending + ?, running = running + ? WHERE demand_id = ?;

-- TASKS_BY_DEMAND
SELECT wish, pending, running FROM demands WHERE pending + running > 0
    UNION ALL SELECT NULL, (SELECT tasks FROM totals WHERE status = 'pending'),
        (SELECT tasks FROM totals WHERE status = 'running');

-- FIND_OWNER
SELECT owner_id FROM owners WHERE owner = ?;

-- ADD_OWNER
INSERT INTO owners (owner_id, owner) VALUES (?, ?);

-- LIVE_TASKS
pending + running + unmade > 0;

-- JOB_COLUMNS
argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms;

-- JOB
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE job_id = ?;

-- JOBS
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?;

-- JOBS_BETWEEN
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id LIMIT ?;

-- LAST_JOB
SELECT coalesce(max(job_id), 0) FROM jobs;

-- JOB_FROM
SELECT job_id, created_ms FROM jobs WHERE job_id >= ? ORDER BY job_id LIMIT 1;

-- COUNT_JOBS_BETWEEN
SELECT count(*) FROM jobs WHERE job_id BETWEEN ? AND ?;

-- JOBS_BY_STATUS
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE status = ? AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?;

-- OWNED
owner_id = (SELECT owner_id FROM owners WHERE owner = ?);

-- JOBS_BY_OWNER
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?;

-- JOBS_BY_OWNER_AND_STATUS
SELECT argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, labels, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, job_id, status, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), stdin_bytes, entries, CASE WHEN task_array IS NOT NULL THEN unmade || ' ' || pending || ' ' || running || ' ' || success
        || ' ' || failed || ' ' || cancelled END, files_bytes, next_fire_ms, pending + running + unmade > 0, paused_ms, ended_ms, cancel_ms, cancel_reason, held_ms, hold_reason, removing_ms, created_ms, updated_ms FROM jobs WHERE +owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND status = ? AND job_id < ? ORDER BY job_id DESC LIMIT ? OFFSET ?;

-- COUNT_METERED
SELECT count(*) FROM (
        SELECT 1 FROM jobs WHERE owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND status = 'pending' AND metered = 1 LIMIT ?) AS found;

-- COUNT_RECURRING_OF
SELECT count(*) FROM (SELECT 1 FROM jobs WHERE owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND schedule IS NOT NULL AND ended_ms IS NULL LIMIT ?) AS found;

-- TARGET
job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status;

-- TARGETS_BETWEEN
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id LIMIT ?;

-- RECURRING
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE schedule IS NOT NULL AND ended_ms IS NULL AND +job_id > ? ORDER BY +job_id LIMIT ?;

-- RECURRING_OF
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND schedule IS NOT NULL AND ended_ms IS NULL AND job_id > ? ORDER BY job_id LIMIT ?;

-- LIVE
of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running');

-- LIVE_OF
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE +owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND status = ? AND job_id > ? AND pending + running + unmade > 0 ORDER BY job_id LIMIT ?;

-- STATUS
SELECT status FROM jobs WHERE job_id = ?;

-- STATUSES_BETWEEN
SELECT job_id, status FROM jobs WHERE job_id BETWEEN ? AND ? ORDER BY job_id;

-- UNFINISHED
SELECT job_id FROM jobs WHERE status IN ('pending', 'running') AND schedule IS NULL;

-- UNFINISHED_OF
SELECT job_id FROM jobs WHERE status IN ('pending', 'running') AND schedule IS NULL AND +owner_id = (SELECT owner_id FROM owners WHERE owner = ?);

-- COUNT_LIVE_OF
SELECT count(*) FROM jobs WHERE +owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND status IN ('pending', 'running') AND pending + running + unmade > 0;

-- ADD_JOB
INSERT INTO jobs (job_id, argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, labels, demand_id, next_fire_ms, created_ms, updated_ms, owner_id, metered, stdin_bytes, entries, files_bytes, pending) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- FIND_UNIQUE
SELECT unique_key, holder_id, (
        SELECT status IN ('pending', 'running') FROM runs WHERE job_id = holder_id ORDER BY run_id DESC LIMIT 1)
    FROM unique_jobs WHERE unique_key IN (VALUES (?));

-- HOLD_UNIQUE
INSERT INTO unique_jobs (unique_key, holder_id) VALUES (?, ?)
    ON CONFLICT (unique_key) DO UPDATE SET holder_id = excluded.holder_id;

-- FREE_UNIQUE
DELETE FROM unique_jobs WHERE unique_key = ? AND holder_id = ?;

-- ADD_TAG
INSERT INTO job_tags (tag, tagged_id) VALUES (?, ?);

-- DELETE_TAG
DELETE FROM job_tags WHERE tag = ? AND tagged_id = ?;

-- ADD_FIRST_RUN
INSERT INTO fires (fired_id, first_run) VALUES (?, ?);

-- COUNT_TASKS
SELECT coalesce(sum((last_task - first_task) / ? + 1), 0) FROM task_ranges
    WHERE job_id = ? AND state IN (?, ?, ?);

-- COUNT_ENDED
UPDATE jobs SET pending = pending + ?, running = running + ?, success = success + ?, failed = failed + ?,
        cancelled = cancelled + ?, updated_ms = ? WHERE job_id = ?
    RETURNING job_id, pending + running + unmade, dependents > 0 OR after_jobs IS NOT NULL, owner_id, queue;

-- MARK_JOB_CANCELLED
UPDATE jobs SET cancel_by = ?, cancel_ms = ?, cancel_reason = ?,
        updated_ms = ? WHERE job_id = ? AND cancel_ms IS NULL AND schedule IS NULL;

-- ADD_TO_TOTALS
UPDATE totals SET tasks = tasks + ? WHERE status = ?;

-- TOTALS
SELECT status, tasks FROM totals;

-- TOTAL_PENDING
SELECT tasks FROM totals WHERE status = 'pending';

-- DUE_JOBS
SELECT job_id, schedule, next_fire_ms, pending + running + unmade > 0 FROM jobs
    WHERE next_fire_ms <= ? ORDER BY next_fire_ms, job_id LIMIT ?;

-- START_FIRE
UPDATE jobs SET next_fire_ms = ?, unmade = 0, pending = 0, running = 0, success = 0, failed = 0,
        cancelled = 0, updated_ms = ?
    WHERE job_id = ? RETURNING demand_id, priority;

-- SET_NEXT_FIRE
UPDATE jobs SET next_fire_ms = ? WHERE job_id = ?;

-- PAUSE_SCHEDULE
UPDATE jobs SET paused_ms = ?, next_fire_ms = NULL, updated_ms = ?
    WHERE job_id = ? AND schedule IS NOT NULL AND paused_ms IS NULL AND ended_ms IS NULL RETURNING job_id;

-- RESUME_SCHEDULE
UPDATE jobs SET paused_ms = NULL, next_fire_ms = ?, updated_ms = ?
    WHERE job_id = ? AND paused_ms IS NOT NULL RETURNING job_id;

-- END_SCHEDULE
UPDATE jobs SET ended_ms = ?, paused_ms = NULL, next_fire_ms = NULL, updated_ms = ?
    WHERE job_id = ? AND schedule IS NOT NULL AND ended_ms IS NULL RETURNING job_id;

-- LAST_FIRE_LIVES
SELECT status IN ('pending', 'running') FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT 1;

-- LATEST
SELECT at_ms FROM events ORDER BY event_id DESC LIMIT 1;

-- NEXT_DUE
SELECT min(at_ms), EXISTS (SELECT 1 FROM runs WHERE status = 'pending' AND blocked = 16) FROM (
        SELECT (SELECT next_fire_ms FROM jobs WHERE next_fire_ms IS NOT NULL ORDER BY next_fire_ms LIMIT 1) AS at_ms
        UNION ALL SELECT (
            SELECT due_ms FROM runs WHERE status = 'pending' AND due_ms IS NOT NULL ORDER BY due_ms LIMIT 1)
        UNION ALL SELECT (
            SELECT expires_ms FROM runs WHERE status = 'pending' AND expires_ms IS NOT NULL ORDER BY expires_ms LIMIT 1)
        UNION ALL SELECT (
            SELECT ends_ms FROM runs WHERE status = 'running' AND ends_ms IS NOT NULL ORDER BY ends_ms LIMIT 1)
        ) AS due;

-- TASK
CASE WHEN of_array = 1 THEN task END;

-- RUN
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE run_id = ?;

-- RUNS_OF_JOB
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE job_id = ? AND run_id < ? ORDER BY run_id DESC LIMIT ?;

-- FIRST_RUN
SELECT run_id FROM runs WHERE job_id = ? ORDER BY run_id LIMIT 1;

-- LIVE_ON_WORKER
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE worker_id = ? AND status = 'running' AND job_id = ? ORDER BY run_id DESC LIMIT 2;

-- LAST_ON_WORKER
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM (SELECT * FROM runs WHERE job_id = ? ORDER BY run_id DESC LIMIT 100) AS latest
    WHERE worker_id = ? ORDER BY run_id DESC LIMIT 1;

-- READY
WITH RECURSIVE waiting (demand_id) AS (
        SELECT (SELECT demand_id FROM runs WHERE status = 'pending' AND blocked = 0 ORDER BY demand_id LIMIT 1)
        UNION ALL
        SELECT (SELECT demand_id FROM runs WHERE status = 'pending' AND blocked = 0 AND demand_id > waiting.demand_id
                ORDER BY demand_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    SELECT run_id, demand_id, priority FROM runs WHERE run_id IN (
        SELECT (SELECT run_id FROM runs WHERE status = 'pending' AND blocked = 0 AND demand_id = waiting.demand_id
                ORDER BY priority DESC, run_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    ORDER BY priority DESC, run_id;

-- READY_LIMITED
WITH RECURSIVE waiting (demand_id) AS (
        SELECT (SELECT demand_id FROM runs WHERE status = 'pending' AND blocked = 4 ORDER BY demand_id LIMIT 1)
        UNION ALL
        SELECT (SELECT demand_id FROM runs WHERE status = 'pending' AND blocked = 4 AND demand_id > waiting.demand_id
                ORDER BY demand_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    SELECT run_id, demand_id, priority FROM runs WHERE run_id IN (
        SELECT (SELECT run_id FROM runs WHERE status = 'pending' AND blocked = 4 AND demand_id = waiting.demand_id
                ORDER BY priority DESC, run_id LIMIT 1)
        FROM waiting WHERE waiting.demand_id IS NOT NULL)
    ORDER BY priority DESC, run_id;

-- READY_OF
SELECT run_id, priority FROM runs WHERE status = 'pending' AND blocked = 0 AND demand_id = ? ORDER BY priority DESC, run_id LIMIT 1;

-- READY_LIMITED_OF
SELECT run_id, priority FROM runs WHERE status = 'pending' AND blocked = 4 AND demand_id = ? ORDER BY priority DESC, run_id LIMIT 1;

-- READY_COUNT
SELECT count(*) FROM (
        SELECT 1 FROM runs WHERE status = 'pending' AND blocked = 0 AND demand_id = ? LIMIT ?) AS found;

-- READY_LIMITED_COUNT
SELECT count(*) FROM (
        SELECT 1 FROM runs WHERE status = 'pending' AND blocked = 4 AND demand_id = ? LIMIT ?) AS found;

-- CLAIMED
run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?);

-- CLAIMED_LIMITED
run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 4 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?);

-- CLAIMABLE_IDS
SELECT run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?;

-- CLAIMABLE_LIMITED_IDS
SELECT run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 4 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?;

-- CLAIMABLE
SELECT j.argv, j.artifacts, j.cwd, j.umask, j.cwd_hint, j.umask_hint, j.run_as, j.env, j.secret_env, j.name, j.command, j.timeout_ms, j.grace_ms, j.early_signal, j.created_ms, j.updated_ms, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?;

-- CLAIMABLE_LIMITED
SELECT j.argv, j.artifacts, j.cwd, j.umask, j.cwd_hint, j.umask_hint, j.run_as, j.env, j.secret_env, j.name, j.command, j.timeout_ms, j.grace_ms, j.early_signal, j.created_ms, j.updated_ms, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id WHERE r.status = 'pending' AND r.blocked = 4 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?;

-- CLAIMABLE_AHEAD
SELECT r.priority, j.argv, j.artifacts, j.cwd, j.umask, j.cwd_hint, j.umask_hint, j.run_as, j.env, j.secret_env, j.name, j.command, j.timeout_ms, j.grace_ms, j.early_signal, j.created_ms, j.updated_ms, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?;

-- ORDER
SELECT j.argv, j.artifacts, j.cwd, j.umask, j.cwd_hint, j.umask_hint, j.run_as, j.env, j.secret_env, j.name, j.command, j.timeout_ms, j.grace_ms, j.early_signal, j.created_ms, j.updated_ms, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?;

-- ORDER_AVOIDING
SELECT j.argv, j.artifacts, j.cwd, j.umask, j.cwd_hint, j.umask_hint, j.run_as, j.env, j.secret_env, j.name, j.command, j.timeout_ms, j.grace_ms, j.early_signal, j.created_ms, j.updated_ms, r.run_id, r.job_id, r.task, r.attempt,
        r.expires_ms
    FROM runs r LEFT JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ? AND r.status = 'pending' AND r.blocked = 16;

-- REPORTED
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, status, started_ms FROM runs WHERE run_id IN (VALUES (?));

-- LOAD
SELECT count(*), count(nullif(probation, 0)), coalesce(min(nullif(probation, 0)), 0), coalesce(max(lease_ms), 0)
    FROM runs
    WHERE worker_id = ? AND status = 'running';

-- HELD
SELECT run_id, job_id, handed_n, claimed_ms, started_ms, probation, cancel_ms IS NOT NULL,
        crashes, stuck, demand_id FROM runs
    WHERE worker_id = ? AND status = 'running' ORDER BY run_id;

-- ADOPT
UPDATE runs SET handed_n = 0 WHERE worker_id = ? AND status = 'running' AND handed_n > 0;

-- SHIFT_DUE
UPDATE runs SET due_ms = due_ms + ? WHERE status = 'pending' AND due_ms IS NOT NULL AND blocked & 18 <> 0;

-- SHIFT_ENDS
UPDATE runs SET ends_ms = ends_ms + ? WHERE status = 'running' AND ends_ms IS NOT NULL;

-- CRASHES
SELECT r.crashes, j.crash_limit FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?;

-- ENDED_RUNS
SELECT r.run_id, r.job_id, r.task, r.failures, r.demand_id, j.owner_id, j.queue, j.retries, j.backoff, j.retry_on,
        r.blocked, r.of_array, r.worker_id, r.reason, r.exit_code, r.signal
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id IN (VALUES (?)) ORDER BY r.run_id;

-- RELEASE_DUE
UPDATE runs SET blocked = CASE WHEN blocked & 66 <> 0 THEN blocked & ~66 ELSE blocked & ~16 END,
        due_ms = CASE WHEN blocked & 66 <> 0 AND blocked & 16 <> 0 THEN CAST(? AS BIGINT) END
    WHERE run_id IN (
        SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.due_ms <= ? AND r.blocked & 82 <> 0
        ORDER BY r.due_ms LIMIT ?)
    RETURNING job_id, blocked & of_array;

-- AVOIDING
SELECT run_id, demand_id, priority, avoids FROM runs WHERE status = 'pending' AND blocked = 16
    ORDER BY run_id LIMIT ?;

-- STOP_AVOIDING
UPDATE runs SET blocked = blocked & ~16, due_ms = NULL WHERE run_id IN (VALUES (?));

-- WORKER
SELECT worker_id, status, kind, slots, host, incarnation, boot_id, lock_device, lock_inode, agent, can, labels, queues, leaving_ms, last_seen_ms, registered_ms FROM workers WHERE worker_id = ?;

-- WORKERS
SELECT worker_id, status, kind, slots, host, incarnation, boot_id, lock_device, lock_inode, agent, can, labels, queues, leaving_ms, last_seen_ms, registered_ms FROM workers WHERE worker_id > ? ORDER BY worker_id;

-- WORKERS_BY_STATUS
SELECT status, count(*) FROM workers GROUP BY status;

-- ACTIVE_WORKERS
SELECT worker_id, status, kind, slots, host, incarnation, boot_id, lock_device, lock_inode, agent, can, labels, queues, leaving_ms, last_seen_ms, registered_ms FROM workers WHERE status = 'active' ORDER BY worker_id;

-- REGISTER
INSERT INTO workers (worker_id, status, kind, slots, host, incarnation, boot_id, lock_device, lock_inode, agent, can, labels, queues, leaving_ms, last_seen_ms, registered_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (worker_id) DO UPDATE SET status = excluded.status, kind = excluded.kind, slots = excluded.slots, host = excluded.host, incarnation = excluded.incarnation, boot_id = excluded.boot_id, lock_device = excluded.lock_device, lock_inode = excluded.lock_inode, agent = excluded.agent, can = excluded.can, labels = excluded.labels, queues = excluded.queues, leaving_ms = excluded.leaving_ms, last_seen_ms = excluded.last_seen_ms RETURNING worker_id, status, kind, slots, host, incarnation, boot_id, lock_device, lock_inode, agent, can, labels, queues, leaving_ms, last_seen_ms, registered_ms;

-- WORKER_STATUS
SELECT status FROM workers WHERE worker_id = ?;

-- SEEN
UPDATE workers SET last_seen_ms = ?, status = 'active' WHERE worker_id = ?;

-- NOTE_SEEN
UPDATE workers SET last_seen_ms = ? WHERE worker_id = ? AND last_seen_ms <> ?;

-- LEAVE
UPDATE workers SET leaving_ms = ? WHERE worker_id = ? AND leaving_ms IS NULL RETURNING status;

-- DELETE_WORKER
DELETE FROM workers WHERE worker_id = ? AND status = 'inactive' RETURNING worker_id;

-- RETIRE
UPDATE workers SET status = 'inactive' WHERE worker_id = ? AND status = 'active';

-- EVENT_COLUMNS
event_id, at_ms, actor, job_id, run_first, run_last, worker_id, was, became, reason, detail;

-- ADD_EVENT
INSERT INTO events (event_id, at_ms, actor, job_id, run_first, run_last, worker_id, was, became, reason, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- EVENTS
SELECT event_id, at_ms, actor, job_id, run_first, run_last, worker_id, was, became, reason, detail FROM events WHERE event_id > ? ORDER BY event_id LIMIT ?;

-- EVENT_FROM
SELECT event_id, at_ms FROM events WHERE event_id >= ? ORDER BY event_id LIMIT 1;

-- LAST_EVENT
SELECT coalesce(max(event_id), 0) FROM events;

-- JOBS_OF_EVENTS
SELECT event_id, job_id FROM events WHERE event_id > ? ORDER BY event_id LIMIT ?;

-- TOKEN
SELECT token_id, name, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, last_used_ms, run_as, pending_max, schedules_max, priority_max, workers, slots_max, ending_by IS NOT NULL FROM tokens WHERE token_id = ?;

-- TOKEN_NAMED
SELECT token_id, name, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, last_used_ms, run_as, pending_max, schedules_max, priority_max, workers, slots_max, ending_by IS NOT NULL FROM tokens WHERE name = ?;

-- TOKENS
SELECT token_id, name, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, last_used_ms, run_as, pending_max, schedules_max, priority_max, workers, slots_max, ending_by IS NOT NULL FROM tokens WHERE (revoked_ms IS NULL OR revoked_ms > ?) AND (expires_ms IS NULL OR expires_ms > ?) ORDER BY created_ms, token_id;

-- TOKENS_AFTER
SELECT token_id, name, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, last_used_ms, run_as, pending_max, schedules_max, priority_max, workers, slots_max, ending_by IS NOT NULL FROM tokens
    WHERE (revoked_ms IS NULL OR revoked_ms > ?) AND (expires_ms IS NULL OR expires_ms > ?)
        AND (created_ms, token_id) > (SELECT created_ms, token_id FROM tokens WHERE token_id = ?)
    ORDER BY created_ms, token_id;

-- ADD_TOKEN
INSERT INTO tokens (token_id, name, digest, scopes, note, created_ms, created_by, expires_ms, revoked_ms, last_used_ms, run_as, pending_max, schedules_max, priority_max, workers, slots_max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- USE_TOKEN
UPDATE tokens SET last_used_ms = ? WHERE token_id = ?;

-- END_JOBS
UPDATE tokens SET ending_by = ?, ended_to = 0 WHERE token_id = ?;

-- ENDING
SELECT token_id, 'token:' || name, ending_by, ended_to FROM tokens
    WHERE ending_by IS NOT NULL ORDER BY token_id LIMIT 1;

-- ENDED_TO
UPDATE tokens SET ended_to = ? WHERE token_id = ?;

-- ENDED
UPDATE tokens SET ending_by = NULL WHERE token_id = ?;

-- REVOKE_TOKEN
UPDATE tokens SET revoked_ms = ? WHERE token_id = ? AND revoked_ms IS NULL RETURNING token_id;

-- KEY
SELECT worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max FROM keys WHERE public_key = ?;

-- KEY_OF
SELECT worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max FROM keys WHERE worker_id = ? AND revoked_ms IS NULL;

-- KEYS
SELECT worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max FROM keys WHERE revoked_ms IS NULL OR revoked_ms > ? ORDER BY worker_id, created_ms, public_key;

-- KEYS_AFTER
SELECT worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max FROM keys
    WHERE (revoked_ms IS NULL OR revoked_ms > ?) AND (worker_id, created_ms, public_key) >
        (SELECT worker_id, created_ms, public_key FROM keys WHERE public_key = ?)
    ORDER BY worker_id, created_ms, public_key;

-- REMOTE_KEY
SELECT 1 FROM keys WHERE revoked_ms IS NULL AND origin <> 'enrolled' LIMIT 1;

-- ADD_KEY
INSERT INTO keys (worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max) VALUES (?, ?, ?, ?, ?, ?, ?);

-- LIMIT_KEY
UPDATE keys SET slots_max = ? WHERE public_key = ?;

-- REVOKE_KEY
UPDATE keys SET revoked_ms = ? WHERE worker_id = ? AND revoked_ms IS NULL RETURNING worker_id, public_key, origin, created_ms, created_by, revoked_ms, slots_max;

-- FOREIGN_OF
SELECT worker_id, db, running, results, runs, since_ms, decision, decided_by, decided_ms FROM foreign_runs WHERE worker_id = ? ORDER BY db;

-- FOREIGN
SELECT worker_id, db, running, results, runs, since_ms, decision, decided_by, decided_ms FROM foreign_runs WHERE (worker_id, db) > (?, ?) ORDER BY worker_id, db;

-- FOREIGN_FOUND
INSERT INTO foreign_runs (worker_id, db, running, results, runs, since_ms, decision, decided_by, decided_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- FOREIGN_UPDATE
UPDATE foreign_runs SET running = ?, results = ?, runs = ? WHERE worker_id = ? AND db = ?;

-- FOREIGN_GONE
DELETE FROM foreign_runs WHERE worker_id = ? AND db = ?;

-- FOREIGN_DECIDE
UPDATE foreign_runs SET decision = ?, decided_by = ?, decided_ms = ? WHERE worker_id = ? AND db = ?
    RETURNING worker_id, db, running, results, runs, since_ms, decision, decided_by, decided_ms;

-- FOREIGN_UNDECIDED
SELECT coalesce(sum(running), 0), count(DISTINCT worker_id) FROM foreign_runs
    WHERE running > 0 AND decision IS NULL;

-- SUBMITTED
SELECT digest, first_job, last_job, jobs FROM idempotency WHERE caller = ? AND idem_key = ? AND made_ms > ?;

-- KEEP_SUBMITTED
INSERT INTO idempotency (caller, idem_key, digest, first_job, last_job, jobs, made_ms) VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (caller, idem_key) DO UPDATE SET digest = excluded.digest, first_job = excluded.first_job,
        last_job = excluded.last_job, jobs = excluded.jobs, made_ms = excluded.made_ms;

-- FORGET_SUBMITTED
DELETE FROM idempotency WHERE (caller, idem_key) IN (
        SELECT caller, idem_key FROM idempotency WHERE made_ms <= ? ORDER BY made_ms LIMIT ?)
    RETURNING made_ms;

-- HELD_JOBS
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE held_ms IS NOT NULL AND job_id > ? AND pending + running + unmade > 0
    ORDER BY job_id LIMIT ?;

-- HELD_JOBS_OF
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE +owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND held_ms IS NOT NULL AND job_id > ? AND pending + running + unmade > 0
    ORDER BY job_id LIMIT ?;

-- ENDED_TARGETS
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE status = ? AND job_id > ? AND schedule IS NULL ORDER BY job_id LIMIT ?;

-- ENDED_TARGETS_OF
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), status FROM jobs WHERE +owner_id = (SELECT owner_id FROM owners WHERE owner = ?) AND status = ? AND job_id > ? AND schedule IS NULL
    ORDER BY job_id LIMIT ?;

-- REMOVABLE
SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL, dependents > 0 OR after_jobs IS NOT NULL
    FROM jobs WHERE job_id = ? AND schedule IS NULL AND pending + running + unmade = 0;

-- HOLD_JOB
UPDATE jobs SET held_ms = ?, hold_reason = ?, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NULL RETURNING job_id;

-- HOLD_RUNS
UPDATE runs SET blocked = blocked | 8 WHERE job_id = ? AND status IN ('pending', 'running');

-- RELEASE_JOB
UPDATE jobs SET held_ms = NULL, hold_reason = NULL, updated_ms = ?
    WHERE job_id = ? AND held_ms IS NOT NULL RETURNING task_array IS NOT NULL;

-- RELEASE_RUNS
UPDATE runs SET blocked = blocked & ~8 WHERE job_id = ? AND status IN ('pending', 'running');

-- LAST_RUN
SELECT r.run_id, r.status, j.demand_id, j.unique_key, j.dependents > 0 OR j.after_jobs IS NOT NULL,
        (SELECT owner FROM owners WHERE owners.owner_id = j.owner_id AND j.metered = 1)
    FROM runs r JOIN jobs j ON j.job_id = r.job_id
    WHERE r.job_id = ? ORDER BY r.run_id DESC LIMIT 1;

-- REVIVE_JOB
UPDATE jobs SET cancel_by = NULL, cancel_ms = NULL, cancel_reason = NULL
    WHERE job_id = ? AND cancel_ms IS NOT NULL;

-- DEMAND_OF_JOB
SELECT demand_id FROM jobs WHERE job_id = ?;

-- SET_DEMAND
UPDATE runs SET demand_id = ? WHERE of_array = 1 AND job_id = ? AND task >= 0 AND status IN ('pending', 'running') AND status = 'pending' AND demand_id = ?;

-- PENDING_RUNS
SELECT run_id, demand_id FROM runs WHERE job_id = ? AND status = 'pending';

-- SET_DEMAND_OF_RUN
UPDATE runs SET demand_id = ? WHERE run_id = ?;

-- ADD
INSERT INTO dependencies (child_id, judged, parent_id, task, ends) VALUES (?, ?, ?, ?, ?);

-- MARK_PARENT
UPDATE jobs SET dependents = dependents | ? WHERE job_id = ?;

-- PARENTS
SELECT job_id, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id), schedule IS NOT NULL,
        CASE WHEN pending + running + unmade = 0 THEN status END, task_array, success + failed + cancelled > 0,
        (SELECT count(*) FROM dependencies d WHERE d.parent_id = jobs.job_id AND d.judged = 2)
    FROM jobs WHERE job_id IN (VALUES (?)) AND removing_ms IS NULL;

-- HAVE_RUN
SELECT job_id FROM jobs WHERE job_id IN (VALUES (?)) AND CASE WHEN task_array IS NULL THEN EXISTS (
        SELECT 1 FROM (SELECT reason FROM runs WHERE runs.job_id = jobs.job_id ORDER BY run_id DESC LIMIT 1) AS latest
        WHERE reason NOT IN ('dependency', 'expired', 'quarantined'))
    ELSE (SELECT count(*) FROM (
            SELECT f.run_id, f.task FROM runs f
            WHERE f.of_array = 1 AND f.status = 'failed' AND f.reason NOT IN ('dependency', 'expired', 'quarantined') AND f.job_id = jobs.job_id
            ORDER BY f.run_id DESC LIMIT 1000) AS failures) = 1000 OR EXISTS (
        SELECT 1 FROM (
            SELECT f.run_id, f.task FROM runs f
            WHERE f.of_array = 1 AND f.status = 'failed' AND f.reason NOT IN ('dependency', 'expired', 'quarantined') AND f.job_id = jobs.job_id
            ORDER BY f.run_id DESC LIMIT 1000) AS latest
        WHERE NOT EXISTS (
            SELECT 1 FROM runs n
            WHERE n.of_array = 1 AND n.job_id = jobs.job_id AND n.task = latest.task AND n.run_id > latest.run_id)
        AND latest.task > coalesce((
            SELECT s.last_task FROM task_ranges s WHERE s.job_id = jobs.job_id AND s.first_task <= latest.task
            ORDER BY s.first_task DESC LIMIT 1), -1))
    END;

-- WAITS_FOR
SELECT d.parent_id, d.task, d.ends, j.status FROM dependencies d JOIN jobs j ON j.job_id = d.parent_id
    WHERE d.child_id = ? AND d.judged = ? ORDER BY d.parent_id, d.task LIMIT ?;

-- COUNT_WAITS
SELECT count(*) FROM dependencies WHERE child_id = ? AND judged = ?;

-- SETTLE
INSERT INTO settled (settled_id, first_task, last_task) VALUES (?, -1, -1)
    ON CONFLICT (settled_id, first_task) DO NOTHING;

-- SETTLE_TASKS
INSERT INTO settled (settled_id, first_task, last_task) VALUES (?, ?, ?)
    ON CONFLICT (settled_id, first_task) DO UPDATE SET last_task =
        CASE WHEN excluded.last_task > settled.last_task THEN excluded.last_task ELSE settled.last_task END;

-- SETTLED
SELECT settled_id, first_task, last_task FROM settled ORDER BY settled_id, first_task LIMIT ?;

-- UNSETTLE
DELETE FROM settled WHERE settled_id IN (VALUES (?));

-- UNSETTLE_JOBS
DELETE FROM settled WHERE settled_id IN (VALUES (?)) AND first_task = -1;

-- UNSETTLE_TASKS
DELETE FROM settled WHERE settled_id = ? AND first_task BETWEEN ? AND ?;

-- OPEN
SELECT child_id, parent_id, task, ends FROM dependencies
    WHERE parent_id IN (VALUES (?)) AND judged = 0 AND task = -1 LIMIT ?;

-- JUDGE
UPDATE dependencies SET judged = 1 WHERE child_id = ? AND judged = 0 AND parent_id = ? AND task = ?;

-- FREE
UPDATE runs SET blocked = blocked & ~32 WHERE job_id IN (VALUES (?)) AND blocked & 32 <> 0
        AND NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = runs.job_id AND d.judged = 0)
        AND status = 'pending';

-- OWN
SELECT child_id FROM dependencies WHERE child_id IN (VALUES (?)) LIMIT ?;

-- FORGET
DELETE FROM dependencies WHERE child_id IN (VALUES (?));

-- NEEDED
SELECT job_id FROM jobs WHERE job_id IN (VALUES (?)) AND (
        EXISTS (SELECT 1 FROM dependencies d WHERE d.parent_id = jobs.job_id)
        OR EXISTS (SELECT 1 FROM settled s WHERE s.settled_id = jobs.job_id));

-- WATCHED
SELECT job_id FROM jobs WHERE dependents > 1;

-- TASKS_OF_RUNS
SELECT job_id, task FROM runs WHERE run_id IN (VALUES (?));

-- OPEN_TASKS
SELECT child_id, parent_id, task, ends FROM dependencies
    WHERE parent_id = ? AND judged = 0 AND task IN (VALUES (?)) LIMIT ?;

-- FOLLOWERS
SELECT child_id FROM dependencies WHERE parent_id = ? AND judged = 2 ORDER BY child_id;

-- LEADERS
SELECT parent_id FROM dependencies WHERE child_id = ? AND judged = 2;

-- LAST_OF_TASKS
SELECT task, status, reason FROM runs WHERE run_id IN (
        SELECT max(run_id) FROM runs WHERE of_array = 1 AND job_id = ? AND task IN (VALUES (?)) GROUP BY task);

-- FLOW_JOBS
SELECT job_id FROM jobs WHERE flow = ? ORDER BY job_id;

-- FLOW_COUNTS
SELECT status, count(*) FROM jobs WHERE flow = ? GROUP BY status;

-- LIVE_ARRAYS
SELECT job_id, deadline_ms FROM jobs WHERE task_array IS NOT NULL AND pending + running + unmade > 0;

-- STATES
SELECT job_id, task_array, demand_id, priority, held_ms IS NULL AND cancel_ms IS NULL AND (after_jobs IS NULL
        OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = jobs.job_id AND d.judged = 0)),
        run_at_ms, deadline_ms, max_fails, forgiven, unmade, pending, running, waiting, success, failed, cancelled
    FROM jobs WHERE job_id IN (VALUES (?)) AND task_array IS NOT NULL;

-- TASK_ARRAY
SELECT task_array FROM jobs WHERE job_id = ?;

-- SHIFT_TASKS
UPDATE jobs SET pending = pending + ?, running = running + ?, success = success + ?, failed = failed + ?,
        cancelled = cancelled + ?, unmade = unmade + ?, waiting = waiting + ?, updated_ms = ? WHERE job_id = ?;

-- START_LATER
UPDATE jobs SET run_at_ms = ? WHERE job_id = ?;

-- FORGIVE
UPDATE jobs SET forgiven = ? WHERE job_id = ?;

-- HELD_BY
SELECT unique_key, (SELECT owner FROM owners WHERE owners.owner_id = jobs.owner_id AND jobs.metered = 1)
    FROM jobs WHERE job_id = ?;

-- GIVE_PLACES
UPDATE runs SET blocked = blocked & ~1 WHERE run_id IN (
        SELECT r.run_id FROM runs r WHERE r.job_id = ? AND r.status = 'pending' AND r.blocked IN (1, 5, 17)
        ORDER BY r.task LIMIT ?)
    RETURNING run_id;

-- PLACELESS
SELECT 1 FROM runs WHERE status = 'pending' AND blocked IN (1, 5, 17) AND job_id = ? LIMIT 1;

-- LIVE_ALL
of_array = 1 AND job_id = ? AND task >= 0 AND status IN ('pending', 'running');

-- LEAVE_PLACES
UPDATE runs SET blocked = blocked | 1 WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND status = 'pending' AND blocked & 1 = 0 RETURNING run_id;

-- LEAVE_ALL_PLACES
UPDATE runs SET blocked = blocked | 1
    WHERE status = 'pending' AND demand_id = ? AND of_array = 1 AND blocked & 1 = 0 RETURNING job_id;

-- HOLD_TASKS
UPDATE runs SET blocked = blocked | 8 WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND blocked & 8 = 0 RETURNING run_id;

-- RELEASE_TASKS
UPDATE runs SET blocked = blocked & ~8 WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND blocked & 8 <> 0 RETURNING run_id;

-- ATTEMPTS
SELECT r.task, r.attempt + CASE WHEN r.started_ms IS NOT NULL THEN 1 ELSE 0 END FROM 
    (SELECT max(run_id) AS last_id FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ?
        GROUP BY task) AS l JOIN runs r ON r.run_id = l.last_id;

-- LAST_STATUSES
SELECT r.task, r.status, r.reason FROM 
    (SELECT max(run_id) AS last_id FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ?
        GROUP BY task) AS l JOIN runs r ON r.run_id = l.last_id;

-- RUNS_OF_MANY
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND run_id < ?
    ORDER BY run_id DESC LIMIT ?;

-- RUNS_OF_FEW
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND +run_id < ?
    ORDER BY +run_id DESC LIMIT ?;

-- LAST_RUNS
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE run_id IN (
        SELECT max(run_id) FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? GROUP BY task);

-- LIVE_RUN
SELECT run_id, job_id, CASE WHEN of_array = 1 THEN task END, attempt, worker_id, status, reason, detail, due_ms, blocked, avoids, exit_code, signal, crashes, failures, returns, probation, claimed_ms, started_ms, finished_ms, cancel_ms, created_ms FROM runs WHERE of_array = 1 AND job_id = ? AND task >= 0 AND status IN ('pending', 'running') ORDER BY blocked, task LIMIT 1;

-- LOWEST_RANGE
SELECT first_task, last_task, state, again, reason FROM task_ranges WHERE job_id = ? AND first_task = (
        SELECT u.first_task FROM task_ranges u WHERE u.job_id = ? AND u.state = 'unmade'
        ORDER BY u.first_task LIMIT 1);

-- RUNS_AGAIN
SELECT 1 FROM task_ranges WHERE job_id = ? AND again = 1 AND state IN ('unmade', 'held', 'waits') LIMIT 1;

-- RANGES
SELECT first_task, last_task, state, again, reason FROM task_ranges WHERE job_id = ? AND first_task <= ? AND first_task >= coalesce((
        SELECT b.first_task FROM task_ranges b WHERE b.job_id = ? AND b.first_task <= ?
        ORDER BY b.first_task DESC LIMIT 1), 0)
    ORDER BY first_task;

-- ADD_RANGE
INSERT INTO task_ranges (job_id, first_task, last_task, state, again, reason) VALUES (?, ?, ?, ?, ?, ?);

-- COUNT_RANGES
SELECT count(*) FROM (SELECT 1 FROM task_ranges WHERE job_id = ? LIMIT ?) AS found;

-- SPANS
SELECT first_task, last_task FROM task_ranges WHERE job_id = ? AND state IN (?, ?, ?);

-- CHANGE_ALL
UPDATE task_ranges SET state = ?, again = coalesce(?, again), reason = ?
    WHERE job_id = ? AND state IN (?, ?, ?);

-- BEGIN_LATER
UPDATE task_ranges SET first_task = ? WHERE job_id = ? AND first_task = ?;

-- DELETE_RANGES
DELETE FROM task_ranges WHERE job_id = ? AND first_task BETWEEN ? AND ?;

-- ADD_ENTRIES
INSERT INTO entries (job_id, first_entry, packed) VALUES (?, ?, ?);

-- ENTRIES
SELECT first_entry, packed FROM entries WHERE job_id = ? AND first_entry <= ? ORDER BY first_entry DESC LIMIT 1;

-- ADD_INPUT
INSERT INTO inputs (job_id, content) VALUES (?, ?);

-- INPUT
SELECT content FROM inputs WHERE job_id = ?;

-- ADD_FILES
INSERT INTO files (job_id, listing, data) VALUES (?, ?, ?);

-- FILES
SELECT listing, data FROM files WHERE job_id = ?;

-- ADD_OUTPUT
INSERT INTO outputs (run_id, form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail, stderr_total)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?);

-- OUTPUT
SELECT form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail,
        stderr_total FROM outputs WHERE run_id = ?;

-- ADD_ARTIFACTS
INSERT INTO artifacts (run_id, listing, data) VALUES (?, ?, ?);

-- ARTIFACTS
SELECT listing FROM artifacts WHERE run_id = ?;

-- ARTIFACT
SELECT substr(data, CAST(? AS INTEGER), CAST(? AS INTEGER)) FROM artifacts WHERE run_id = ?;

-- ENDED_JOBS
SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL, dependents > 0 OR after_jobs IS NOT NULL
    FROM jobs WHERE status = ? AND job_id > ? ORDER BY job_id LIMIT ?;

-- COUNT_OLD
SELECT count(*) FROM jobs
    WHERE status = ? AND job_id BETWEEN ? AND ? AND created_ms < ? AND updated_ms < ? AND schedule IS NULL
        AND (dependents = 0 OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.parent_id = jobs.job_id));

-- NOTE_PURGED
UPDATE identity SET purged = 1 WHERE purged = 0;

-- FIRED
WITH RECURSIVE fired (job) AS (
        SELECT (SELECT fired_id FROM fires WHERE fired_id > ? ORDER BY fired_id LIMIT 1)
        UNION ALL
        SELECT (SELECT fired_id FROM fires WHERE fired_id > fired.job ORDER BY fired_id LIMIT 1)
        FROM fired WHERE fired.job IS NOT NULL)
    SELECT job, (SELECT first_run FROM fires WHERE fired_id = fired.job ORDER BY first_run DESC LIMIT 1 OFFSET ?)
    FROM fired WHERE job IS NOT NULL LIMIT ?;

-- FIRES
SELECT f.first_run, l.run_id, l.status, l.finished_ms FROM fires f JOIN runs l ON l.run_id = (
        SELECT r.run_id FROM runs r WHERE r.job_id = f.fired_id AND r.run_id < (
            SELECT g.first_run FROM fires g WHERE g.fired_id = f.fired_id AND g.first_run > f.first_run
            ORDER BY g.first_run LIMIT 1)
        ORDER BY r.run_id DESC LIMIT 1)
    WHERE f.fired_id = ? AND f.first_run > ? AND f.first_run < ? ORDER BY f.first_run LIMIT ?;

-- DELETE_RUNS_OF_FIRES
DELETE FROM runs WHERE job_id = ? AND run_id BETWEEN ? AND ?;

-- DELETE_FIRES
DELETE FROM fires WHERE fired_id = ? AND first_run BETWEEN ? AND ?;

-- OLD_TOKENS
SELECT token_id, name FROM tokens WHERE ending_by IS NULL AND (revoked_ms <= ? OR expires_ms <= ?)
    ORDER BY token_id LIMIT ?;

-- DELETE_TOKEN
DELETE FROM tokens WHERE token_id = ?;

-- JOBS_THERE
SELECT job_id FROM jobs WHERE job_id IN (VALUES (?));

-- RUNS_THERE
SELECT run_id FROM runs WHERE run_id IN (VALUES (?));

-- RUN_BETWEEN
SELECT run_id FROM runs WHERE run_id BETWEEN ? AND ? LIMIT 1;

-- SIZES
SELECT r.run_id, coalesce((
        SELECT coalesce(length(o.stdout_head), 0) + coalesce(length(o.stdout_tail), 0)
            + coalesce(length(o.stderr_head), 0) + coalesce(length(o.stderr_tail), 0)
        FROM outputs o WHERE o.run_id = r.run_id), 0)
        + coalesce((SELECT length(a.data) FROM artifacts a WHERE a.run_id = r.run_id), 0)
    FROM runs r WHERE r.job_id = ? ORDER BY r.run_id LIMIT ?;

-- NOTE_REMOVING
UPDATE jobs SET removing_ms = ? WHERE job_id = ? AND removing_ms IS NULL RETURNING job_id;

-- DELETE_SOME_RUNS
DELETE FROM runs WHERE job_id = ? AND run_id <= ?;

-- DELETE_SOME_RANGES
DELETE FROM task_ranges WHERE job_id = ? AND first_task IN (
        SELECT s.first_task FROM task_ranges s WHERE s.job_id = ? ORDER BY s.first_task LIMIT ?) RETURNING first_task;

-- DELETE_SOME_ENTRIES
DELETE FROM entries WHERE job_id = ? AND first_entry IN (
        SELECT e.first_entry FROM entries e WHERE e.job_id = ? ORDER BY e.first_entry LIMIT ?) RETURNING first_entry;

-- REMOVING
SELECT job_id, created_ms, updated_ms, success, failed, cancelled, tags, schedule IS NOT NULL, unique_key,
        task_array IS NOT NULL FROM jobs
    WHERE removing_ms IS NOT NULL ORDER BY job_id LIMIT 1;

-- DELETE_RUNS
DELETE FROM runs WHERE job_id IN (VALUES (?));

-- DELETE_JOBS
DELETE FROM jobs WHERE job_id IN (VALUES (?));

-- OLD_EVENTS
SELECT event_id, at_ms, job_id, run_first, run_last, became FROM events
    WHERE event_id > ? ORDER BY event_id LIMIT ?;

-- DELETE_EVENTS
DELETE FROM events WHERE event_id IN (VALUES (?));

-- ADD_OWNER_USAGE
INSERT INTO usage (kind, name, day, success, failed, cancelled, run_ms)
    VALUES ('owner', coalesce((SELECT owner FROM owners WHERE owner_id = ?), ''), ?, ?, ?, ?, ?)
    ON CONFLICT (kind, day, name) DO UPDATE SET success = usage.success + excluded.success,
        failed = usage.failed + excluded.failed, cancelled = usage.cancelled + excluded.cancelled,
        run_ms = usage.run_ms + excluded.run_ms;

-- ADD_QUEUE_USAGE
INSERT INTO usage (kind, name, day, success, failed, cancelled, run_ms)
    VALUES ('queue', ?, ?, ?, ?, ?, ?)
    ON CONFLICT (kind, day, name) DO UPDATE SET success = usage.success + excluded.success,
        failed = usage.failed + excluded.failed, cancelled = usage.cancelled + excluded.cancelled,
        run_ms = usage.run_ms + excluded.run_ms;

-- TIMES
SELECT run_id, started_ms FROM runs WHERE run_id IN (VALUES (?)) AND started_ms IS NOT NULL;

-- USAGE
SELECT name, sum(success), sum(failed), sum(cancelled), sum(run_ms) FROM usage
    WHERE kind = ? AND day >= ? GROUP BY name ORDER BY sum(run_ms) DESC, name LIMIT ?;

-- TOTAL_USAGE
SELECT coalesce(sum(success), 0), coalesce(sum(failed), 0), coalesce(sum(cancelled), 0), coalesce(sum(run_ms), 0)
    FROM usage WHERE kind = ? AND day >= ?;

-- DELETE_USAGE
DELETE FROM usage WHERE kind = ? AND day < ?;

-- ADD_RUN
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms)
    VALUES (?, ?, 1, ?, ?, 'pending', ?);

-- ADD_HELD_RUN
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked, due_ms, expires_ms)
    VALUES (?, ?, 1, ?, ?, 'pending', ?, ?, ?, ?);

-- ADD_FIRE
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked)
    VALUES (?, ?, 1, ?, ?, 'pending', ?, ?);

-- ADD_TASK
INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, created_ms, blocked, due_ms,
        expires_ms, of_array)
    VALUES (?, ?, ?, ?, ?, ?, 'pending', ?, ?, ?, ?, 1);

-- REQUEUE
INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, blocked, due_ms, crashes, failures,
        returns, created_ms, expires_ms, avoids, of_array)
    SELECT ?, job_id, task, attempt + CASE WHEN ? AND started_ms IS NOT NULL THEN 1 ELSE 0 END, ?, priority, 'pending', ?, ?,
        crashes, failures + ?, returns, ?, expires_ms, ?, of_array
    FROM runs WHERE run_id = ?;

-- RETRY
INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, blocked, due_ms, crashes, failures,
        returns, created_ms, expires_ms, avoids, of_array)
    SELECT ?, job_id, task, attempt + CASE WHEN ? AND started_ms IS NOT NULL THEN 1 ELSE 0 END, ?, priority, 'pending', ?, ?,
        crashes, failures + ?, returns, ?, expires_ms, ?, of_array
    FROM runs WHERE run_id = ?;

-- RERUN
INSERT INTO runs (run_id, job_id, task, attempt, demand_id, priority, status, blocked, created_ms, expires_ms)
    SELECT ?, r.job_id, r.task, r.attempt + CASE WHEN r.started_ms IS NOT NULL THEN 1 ELSE 0 END, ?,
        j.priority, 'pending', ? | CASE WHEN j.held_ms IS NULL THEN 0 ELSE 8 END, ?,
        CASE WHEN j.deadline_ms > ? THEN j.deadline_ms END
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ?;

-- CLAIM
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = ?, handed_n = ?, claimed_ms = ?, lease_ms = ?, probation = ?,
        ends_ms = CASE WHEN ? THEN (SELECT ? + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?) AND status = 'pending';

-- CLAIM_LISTED
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = ?, handed_n = ?, claimed_ms = ?, lease_ms = ?, probation = ?,
        ends_ms = CASE WHEN ? THEN (SELECT ? + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL
    WHERE run_id IN (VALUES (?)) AND status = 'pending';

-- CLAIM_AVOIDING
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = ?, handed_n = ?, claimed_ms = ?, lease_ms = ?, probation = ?,
        ends_ms = CASE WHEN ? THEN (SELECT ? + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL, blocked = 0
    WHERE run_id IN (VALUES (?)) AND blocked = 16 AND status = 'pending';

-- QUARANTINE_PENDING
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = ?, detail = ?, finished_ms = ?, due_ms = NULL
    WHERE run_id = ? AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- QUARANTINE_DEMAND
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = ?, detail = ?, finished_ms = ?, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?) AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- QUARANTINE_LIMITED
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = ?, detail = ?, finished_ms = ?, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 4 AND r.demand_id = ?
        AND r.priority >= ? ORDER BY r.priority DESC, r.run_id LIMIT ?) AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- CANCEL_PENDING
UPDATE runs SET status = 'cancelled',
        reason = 'cancelled',
        cancel_by = ?, cancel_ms = ?, finished_ms = ?, due_ms = NULL
    WHERE job_id = ? AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- CANCEL_TASKS
UPDATE runs SET status = 'cancelled',
        reason = 'cancelled',
        cancel_by = ?, cancel_ms = ?, finished_ms = ?, due_ms = NULL
    WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- GIVE_UP_TASKS
UPDATE runs SET status = 'cancelled',
        reason = 'max_fails',
        detail = ?, finished_ms = ?, due_ms = NULL
    WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- EXPIRED
SELECT run_id FROM runs WHERE status = 'pending' AND expires_ms <= ? ORDER BY expires_ms LIMIT ?;

-- EXPIRE
UPDATE runs SET status = 'failed',
        reason = 'expired',
        detail = ?, finished_ms = ?, due_ms = NULL
    WHERE run_id IN (VALUES (?)) AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- STRAND
UPDATE runs SET status = 'failed',
        reason = 'dependency',
        detail = ?, finished_ms = ?, due_ms = NULL
    WHERE job_id IN (VALUES (?)) AND blocked & 32 <> 0 AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- WAITING
SELECT run_id FROM runs
    WHERE status = 'pending' AND (due_ms IS NULL OR due_ms <= ? OR blocked & 66 = 0) ORDER BY run_id;

-- RESTORE
UPDATE runs SET status = 'failed',
        reason = 'worker_lost',
        detail = ?, finished_ms = ?, due_ms = NULL
    WHERE run_id IN (VALUES (?)) AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- START
UPDATE runs SET started_ms = coalesce(started_ms, ?)
    WHERE run_id = ? AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- OUTLIVE
UPDATE runs SET probation = 0
    WHERE run_id = ? AND probation > 0 AND status = 'running' AND started_ms IS NOT NULL
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- RUNNING_OF_JOB
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id FROM runs WHERE job_id = ? AND status = 'running' ORDER BY run_id;

-- MARK_CANCELLED
UPDATE runs SET cancel_by = coalesce(cancel_by, ?), cancel_ms = coalesce(cancel_ms, ?)
    WHERE job_id = ? AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- RUNNING_TASKS
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id FROM runs WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND status = 'running' ORDER BY run_id;

-- MARK_TASKS_CANCELLED
UPDATE runs SET cancel_by = coalesce(cancel_by, ?), cancel_ms = coalesce(cancel_ms, ?)
    WHERE of_array = 1 AND job_id = ? AND task BETWEEN ? AND ? AND status IN ('pending', 'running') AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- SUCCEED
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'success' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ? END,
        detail = ?, exit_code = ?, signal = ?, started_ms = coalesce(?, started_ms), finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- SUCCEED_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'success' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) AS ended
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- FAIL
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ? END,
        detail = ?, exit_code = ?, signal = ?, started_ms = coalesce(?, started_ms), finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- FAIL_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) AS ended
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LAPSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ? END,
        detail = ?, exit_code = ?, signal = ?, started_ms = coalesce(?, started_ms), finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LAPSE_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) AS ended
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- REFUSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ? END,
        detail = ?, exit_code = ?, signal = ?, started_ms = coalesce(?, started_ms), finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- REFUSE_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM (VALUES (?, ?, ?, ?, ?, ?, ?)) AS ended
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- RETURN
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'pending' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'returned' END,
        returns = returns + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE 1 END,
        finished_ms = CAST(? AS BIGINT) + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE NULL END, worker_id = CASE WHEN cancel_ms IS NOT NULL THEN worker_id ELSE NULL END, handed_n = NULL, claimed_ms = NULL, lease_ms = NULL, ends_ms = NULL,
        blocked = CASE WHEN blocked & 8 <> 0 AND of_array = 1 THEN blocked | 1 ELSE blocked END
    WHERE run_id = ? AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND started_ms IS NULL AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- BOUNCE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'pending' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'undelivered' END,
        returns = returns + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE 1 END,
        finished_ms = CAST(? AS BIGINT) + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE NULL END, worker_id = CASE WHEN cancel_ms IS NOT NULL THEN worker_id ELSE NULL END, handed_n = NULL, claimed_ms = NULL, lease_ms = NULL, ends_ms = NULL,
        blocked = CASE WHEN blocked & 8 <> 0 AND of_array = 1 THEN blocked | 1 ELSE blocked END
    WHERE run_id = ? AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND started_ms IS NULL AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- HANGING
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id FROM runs WHERE run_id = ? AND stuck = 0 AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND worker_id = ?;

-- HANG
UPDATE runs SET stuck = 1
    WHERE run_id = ? AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND worker_id = ?
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LOSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'worker_lost' END,
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- CRASH
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'worker_lost' END,
        crashes = crashes + 1,
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LAST_CRASH
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'crash_limit' END,
        crashes = crashes + 1,
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- WITHDRAW
UPDATE runs SET status = 'cancelled',
        reason = 'cancelled',
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 ELSE 0 END = 1
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- QUARANTINE
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE run_id = ? AND status = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 0 WHEN stuck > 0 THEN 0 ELSE 1 END = 1
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- OVERDUE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'timeout' END,
        detail = ?, finished_ms = ?, ends_ms = NULL
    WHERE ends_ms <= ? AND status = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;
