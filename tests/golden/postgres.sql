-- ADD_ARTIFACTS
INSERT INTO artifacts (run_id, listing, data) SELECT given.c1, given.c2, given.c3 FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS given (c1, c2, c3);

-- ADD_DEMAND
INSERT INTO demands (demand_id, wish) SELECT given.c1, given.c2 FROM unnest($1::bigint[], $2::text[]) AS given (c1, c2);

-- ADD_EVENT
INSERT INTO events (event_id, at_ms, actor, job_id, run_first, run_last, worker_id, was, became, reason, detail) SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8, given.c9, given.c10, given.c11 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11);

-- ADD_FILES
INSERT INTO files (job_id, listing, data) SELECT given.c1, given.c2, given.c3 FROM unnest($1::bigint[], $2::text[], $3::bytea[]) AS given (c1, c2, c3);

-- ADD_FIRE
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked)
    SELECT given.c1, given.c2, 1, given.c3, given.c4, 'pending', given.c5, given.c6 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) AS given (c1, c2, c3, c4, c5, c6);

-- ADD_FIRST_RUN
INSERT INTO fires (fired_id, first_run) SELECT given.c1, given.c2 FROM unnest($1::bigint[], $2::bigint[]) AS given (c1, c2);

-- ADD_HELD_RUN
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms, blocked, due_ms, expires_ms)
    SELECT given.c1, given.c2, 1, given.c3, given.c4, 'pending', given.c5, given.c6, given.c7, given.c8 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8);

-- ADD_INPUT
INSERT INTO inputs (job_id, content) SELECT given.c1, given.c2 FROM unnest($1::bigint[], $2::text[]) AS given (c1, c2);

-- ADD_JOB
INSERT INTO jobs (job_id, argv, artifacts, cwd, umask, cwd_hint, umask_hint, run_as, env, secret_env, name, command, schedule, run_at_ms, deadline_ms, tags, priority, queue, limits, unique_key, after_jobs, flow, task_array, max_fails, timeout_ms, grace_ms, early_signal, retries, backoff, retry_on, on_lost, on_disconnect, crash_limit, labels, demand_id, next_fire_ms, created_ms, updated_ms, owner_id, metered, stdin_bytes, entries, files_bytes, pending) SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8, given.c9, given.c10, given.c11, given.c12, given.c13, given.c14, given.c15, given.c16, given.c17, given.c18, given.c19, given.c20, given.c21, given.c22, given.c23, given.c24, given.c25, given.c26, given.c27, given.c28, given.c29, given.c30, given.c31, given.c32, given.c33, given.c34, given.c35, given.c36, given.c37, given.c38, given.c39, given.c40, given.c41, given.c42, given.c43, given.c44 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::text[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::text[], $22::bigint[], $23::text[], $24::bigint[], $25::bigint[], $26::bigint[], $27::text[], $28::bigint[], $29::text[], $30::text[], $31::text[], $32::text[], $33::bigint[], $34::text[], $35::bigint[], $36::bigint[], $37::bigint[], $38::bigint[], $39::bigint[], $40::bigint[], $41::bigint[], $42::bigint[], $43::bigint[], $44::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20, c21, c22, c23, c24, c25, c26, c27, c28, c29, c30, c31, c32, c33, c34, c35, c36, c37, c38, c39, c40, c41, c42, c43, c44);

-- ADD_OUTPUT
INSERT INTO outputs (run_id, form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail, stderr_total)
    SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8 FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8);

-- ADD_RUN
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms)
    SELECT given.c1, given.c2, 1, given.c3, given.c4, 'pending', given.c5 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS given (c1, c2, c3, c4, c5);

-- ADD_TAG
INSERT INTO job_tags (tag, tagged_id) SELECT given.c1, given.c2 FROM unnest($1::text[], $2::bigint[]) AS given (c1, c2);

-- ADD_TO_TOTALS
UPDATE totals SET tasks = tasks + given.c1 FROM unnest($1::bigint[], $2::text[]) AS given (c1, c2) WHERE status = given.c2;

-- BOUNCE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'pending' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'undelivered' END,
        returns = returns + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE 1 END,
        finished_ms = CAST($1 AS BIGINT) + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE NULL END, worker_id = CASE WHEN cancel_ms IS NOT NULL THEN worker_id ELSE NULL END, handed_n = NULL, claimed_ms = NULL, lease_ms = NULL, ends_ms = NULL,
        blocked = CASE WHEN blocked & 8 <> 0 AND of_array = 1 THEN blocked | 1 ELSE blocked END
    WHERE run_id = $2 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND started_ms IS NULL AND worker_id = $3
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- CANCEL_PENDING
UPDATE runs SET status = 'cancelled',
        reason = 'cancelled',
        cancel_by = $1, cancel_ms = $2, finished_ms = $3, due_ms = NULL
    WHERE job_id = $4 AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- CLAIM
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = $1, handed_n = $2, claimed_ms = $3, lease_ms = $4, probation = $5,
        ends_ms = CASE WHEN $6 THEN (SELECT $7 + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = $8
        AND r.priority >= $9 ORDER BY r.priority DESC, r.run_id LIMIT $10) AND status || '' = 'pending';

-- CLAIM_AVOIDING
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = $2, handed_n = $3, claimed_ms = $4, lease_ms = $5, probation = $6,
        ends_ms = CASE WHEN $7 THEN (SELECT $8 + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL, blocked = 0
    WHERE run_id = ANY ($1::bigint[]) AND blocked = 16 AND status || '' = 'pending';

-- CLAIM_LISTED
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = $2, handed_n = $3, claimed_ms = $4, lease_ms = $5, probation = $6,
        ends_ms = CASE WHEN $7 THEN (SELECT $8 + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL
    WHERE run_id = ANY ($1::bigint[]) AND status || '' = 'pending';

-- COUNT_DEMAND
UPDATE demands SET pending = pending + given.c1, running = running + given.c2 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS given (c1, c2, c3) WHERE demand_id = given.c3;

-- COUNT_ENDED
UPDATE jobs SET pending = pending + given.c1, running = running + given.c2, success = success + given.c3, failed = failed + given.c4,
        cancelled = cancelled + given.c5, updated_ms = given.c6 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7) WHERE job_id = given.c7
    RETURNING job_id, pending + running + unmade, dependents > 0 OR after_jobs IS NOT NULL, owner_id, queue;

-- COUNT_TASKS
SELECT coalesce(sum((last_task - first_task) / given.c1 + 1), 0) FROM task_ranges
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS given (c1, c2, c3, c4, c5) WHERE job_id = given.c2 AND state IN (given.c3, given.c4, given.c5);

-- CRASH
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'worker_lost' END,
        crashes = crashes + 1,
        detail = $1, finished_ms = $2, ends_ms = NULL
    WHERE run_id = $3 AND status || '' = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- DELETE_EVENTS
DELETE FROM events WHERE event_id = ANY ($1::bigint[]);

-- DELETE_JOBS
DELETE FROM jobs WHERE job_id = ANY ($1::bigint[]);

-- DELETE_RUNS
DELETE FROM runs WHERE job_id = ANY ($1::bigint[]);

-- ENDED_RUNS
SELECT r.run_id, r.job_id, r.task, r.failures, r.demand_id, j.owner_id, j.queue, j.retries, j.backoff, j.retry_on,
        r.blocked, r.of_array, r.worker_id, r.reason, r.exit_code, r.signal
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ANY ($1::bigint[]) ORDER BY r.run_id;

-- EXPIRE
UPDATE runs SET status = 'failed',
        reason = 'expired',
        detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id = ANY ($1::bigint[]) AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- FAIL
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE $1 END,
        detail = $2, exit_code = $3, signal = $4, started_ms = coalesce($5, started_ms), finished_ms = $6, ends_ms = NULL
    WHERE run_id = $7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- FAIL_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- FIND_DEMANDS
SELECT demand_id, wish FROM demands WHERE wish = ANY ($1::text[]);

-- FIND_UNIQUE
SELECT unique_key, holder_id, (
        SELECT status IN ('pending', 'running') FROM runs WHERE job_id = holder_id ORDER BY run_id DESC LIMIT 1)
    FROM unique_jobs WHERE unique_key = ANY ($1::text[]);

-- HANG
UPDATE runs SET stuck = 1
    WHERE run_id = $1 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND worker_id = $2
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- HANGING
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id FROM runs WHERE run_id = $1 AND stuck = 0 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND worker_id = $2;

-- HOLD_UNIQUE
INSERT INTO unique_jobs (unique_key, holder_id) SELECT given.c1, given.c2 FROM unnest($1::text[], $2::bigint[]) AS given (c1, c2)
    ON CONFLICT (unique_key) DO UPDATE SET holder_id = excluded.holder_id;

-- JOBS_THERE
SELECT job_id FROM jobs WHERE job_id = ANY ($1::bigint[]);

-- LAPSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE $1 END,
        detail = $2, exit_code = $3, signal = $4, started_ms = coalesce($5, started_ms), finished_ms = $6, ends_ms = NULL
    WHERE run_id = $7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LAPSE_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LAST_CRASH
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'crash_limit' END,
        crashes = crashes + 1,
        detail = $1, finished_ms = $2, ends_ms = NULL
    WHERE run_id = $3 AND status || '' = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- LOSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' WHEN stuck > 0 THEN 'unkillable' ELSE 'worker_lost' END,
        detail = $1, finished_ms = $2, ends_ms = NULL
    WHERE run_id = $3 AND status || '' = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- MARK_CANCELLED
UPDATE runs SET cancel_by = coalesce(cancel_by, $1), cancel_ms = coalesce(cancel_ms, $2)
    WHERE job_id = $3 AND status || '' = 'running'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- NOTE_SEEN
UPDATE workers SET last_seen_ms = given.c1 FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS given (c1, c2, c3) WHERE worker_id = given.c2 AND last_seen_ms <> given.c3;

-- OUTLIVE
UPDATE runs SET probation = 0
    WHERE run_id = $1 AND probation > 0 AND status || '' = 'running' AND started_ms IS NOT NULL
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- PENDING_RUNS
SELECT run_id, demand_id FROM runs WHERE job_id = $1 AND status || '' = 'pending';

-- QUARANTINE
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        detail = $1, finished_ms = $2, ends_ms = NULL
    WHERE run_id = $3 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 0 WHEN stuck > 0 THEN 0 ELSE 1 END = 1
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- QUARANTINE_DEMAND
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = $1, detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 0 AND r.demand_id = $4
        AND r.priority >= $5 ORDER BY r.priority DESC, r.run_id LIMIT $6) AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- QUARANTINE_LIMITED
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = $1, detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id IN (SELECT r.run_id FROM runs r WHERE r.status = 'pending' AND r.blocked = 4 AND r.demand_id = $4
        AND r.priority >= $5 ORDER BY r.priority DESC, r.run_id LIMIT $6) AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- QUARANTINE_PENDING
UPDATE runs SET status = 'failed',
        reason = 'quarantined',
        worker_id = $1, detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id = $4 AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- REFUSE
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE $1 END,
        detail = $2, exit_code = $3, signal = $4, started_ms = coalesce($5, started_ms), finished_ms = $6, ends_ms = NULL
    WHERE run_id = $7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- REFUSE_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- REPORTED
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, status, started_ms FROM runs WHERE run_id = ANY ($1::bigint[]);

-- RESTORE
UPDATE runs SET status = 'failed',
        reason = 'worker_lost',
        detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id = ANY ($1::bigint[]) AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- RETURN
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'pending' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'returned' END,
        returns = returns + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE 1 END,
        finished_ms = CAST($1 AS BIGINT) + CASE WHEN cancel_ms IS NOT NULL THEN 0 ELSE NULL END, worker_id = CASE WHEN cancel_ms IS NOT NULL THEN worker_id ELSE NULL END, handed_n = NULL, claimed_ms = NULL, lease_ms = NULL, ends_ms = NULL,
        blocked = CASE WHEN blocked & 8 <> 0 AND of_array = 1 THEN blocked | 1 ELSE blocked END
    WHERE run_id = $2 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 WHEN stuck > 0 THEN 0 ELSE 1 END = 1 AND started_ms IS NULL AND worker_id = $3
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- RUNNING_OF_JOB
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id FROM runs WHERE job_id = $1 AND status || '' = 'running' ORDER BY run_id;

-- RUNS_THERE
SELECT run_id FROM runs WHERE run_id = ANY ($1::bigint[]);

-- START
UPDATE runs SET started_ms = coalesce(started_ms, $1)
    WHERE run_id = $2 AND status || '' = 'running' AND worker_id = $3
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- STATES
SELECT job_id, task_array, demand_id, priority, held_ms IS NULL AND cancel_ms IS NULL AND (after_jobs IS NULL
        OR NOT EXISTS (SELECT 1 FROM dependencies d WHERE d.child_id = jobs.job_id AND d.judged = 0)),
        run_at_ms, deadline_ms, max_fails, forgiven, unmade, pending, running, waiting, success, failed, cancelled
    FROM jobs WHERE job_id = ANY ($1::bigint[]) AND task_array IS NOT NULL;

-- STOP_AVOIDING
UPDATE runs SET blocked = blocked & ~16, due_ms = NULL WHERE run_id = ANY ($1::bigint[]);

-- STRAND
UPDATE runs SET status = 'failed',
        reason = 'dependency',
        detail = $2, finished_ms = $3, due_ms = NULL
    WHERE job_id = ANY ($1::bigint[]) AND blocked & 32 <> 0 AND status || '' = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id, blocked & of_array;

-- SUCCEED
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'success' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE $1 END,
        detail = $2, exit_code = $3, signal = $4, started_ms = coalesce($5, started_ms), finished_ms = $6, ends_ms = NULL
    WHERE run_id = $7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- SUCCEED_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'success' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status || '' = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;

-- TIMES
SELECT run_id, started_ms FROM runs WHERE run_id = ANY ($1::bigint[]) AND started_ms IS NOT NULL;

-- WITHDRAW
UPDATE runs SET status = 'cancelled',
        reason = 'cancelled',
        detail = $1, finished_ms = $2, ends_ms = NULL
    WHERE run_id = $3 AND status || '' = 'running' AND CASE WHEN cancel_ms IS NOT NULL THEN 1 ELSE 0 END = 1
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, demand_id;
