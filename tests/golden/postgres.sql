-- ADD_EVENT
INSERT INTO events (event_id, at_ms, actor, job_id, run_first, run_last, worker_id, was, became, reason, detail) SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8, given.c9, given.c10, given.c11 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11);

-- ADD_FIRE
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms)
    SELECT given.c1, given.c2, 1, given.c3, given.c4, 'pending', given.c5 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS given (c1, c2, c3, c4, c5);

-- ADD_JOB
INSERT INTO jobs (job_id, run_as, env, secret_env, name, command, schedule, timeout_ms, grace_ms, retries, backoff, on_lost, on_disconnect, crash_limit, demand_id, next_fire_ms, created_ms, updated_ms, owner_id, metered) SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8, given.c9, given.c10, given.c11, given.c12, given.c13, given.c14, given.c15, given.c16, given.c17, given.c18, given.c19, given.c20 FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::text[], $13::text[], $14::bigint[], $15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::bigint[], $20::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16, c17, c18, c19, c20);

-- ADD_OUTPUT
INSERT INTO outputs (run_id, form, stdout_head, stdout_tail, stdout_total, stderr_head, stderr_tail, stderr_total)
    SELECT given.c1, given.c2, given.c3, given.c4, given.c5, given.c6, given.c7, given.c8 FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bytea[], $8::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7, c8);

-- ADD_RUN
INSERT INTO runs (run_id, job_id, attempt, demand_id, priority, status, created_ms)
    SELECT given.c1, given.c2, 1, given.c3, given.c4, 'pending', given.c5 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) AS given (c1, c2, c3, c4, c5);

-- ADD_TO_TOTALS
UPDATE totals SET tasks = tasks + given.c1 FROM unnest($1::bigint[], $2::text[]) AS given (c1, c2) WHERE status = given.c2;

-- CLAIM_LISTED
UPDATE runs SET status = 'running',
        reason = NULL,
        worker_id = $2, handed_n = $3, claimed_ms = $4, lease_ms = $5, probation = $6,
        ends_ms = CASE WHEN $7 THEN (SELECT $8 + timeout_ms + grace_ms FROM jobs WHERE jobs.job_id = runs.job_id) END,
        detail = NULL, due_ms = NULL
    WHERE run_id = ANY ($1::bigint[]) AND status = 'pending';

-- COUNT_ENDED
UPDATE jobs SET pending = pending + given.c1, running = running + given.c2, success = success + given.c3, failed = failed + given.c4,
        cancelled = cancelled + given.c5, updated_ms = given.c6 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7) WHERE job_id = given.c7 RETURNING job_id, pending + running + unmade;

-- COUNT_TASKS
UPDATE jobs SET pending = pending + given.c1, running = running + given.c2, success = success + given.c3, failed = failed + given.c4,
        cancelled = cancelled + given.c5, updated_ms = given.c6 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS given (c1, c2, c3, c4, c5, c6, c7) WHERE job_id = given.c7;

-- ENDED_RUNS
SELECT r.run_id, r.job_id, r.task, r.failures, r.demand_id, j.retries, j.backoff
    FROM runs r JOIN jobs j ON j.job_id = r.job_id WHERE r.run_id = ANY ($1::bigint[]) ORDER BY r.run_id;

-- FAIL_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck;

-- LAPSE_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'failed' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck;

-- NOTE_SEEN
UPDATE workers SET last_seen_ms = given.c1 FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS given (c1, c2, c3) WHERE worker_id = given.c2 AND last_seen_ms <> given.c3;

-- REPORTED
SELECT run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck, status, started_ms FROM runs WHERE run_id = ANY ($1::bigint[]);

-- RESTORE
UPDATE runs SET status = 'failed',
        reason = 'worker_lost',
        detail = $2, finished_ms = $3, due_ms = NULL
    WHERE run_id = ANY ($1::bigint[]) AND status = 'pending'
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck;

-- SUCCEED_MANY
UPDATE runs SET status = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE 'success' END,
        reason = CASE WHEN cancel_ms IS NOT NULL THEN 'cancelled' ELSE ended.column1 END,
        detail = ended.column2, exit_code = ended.column3, signal = ended.column4, started_ms = coalesce(ended.column5, started_ms), finished_ms = ended.column6, ends_ms = NULL
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) AS ended (column1, column2, column3, column4, column5, column6, column7)
    WHERE run_id = ended.column7 AND status = 'running' AND worker_id = $8
    RETURNING run_id, job_id, worker_id, cancel_ms IS NOT NULL, stuck;
