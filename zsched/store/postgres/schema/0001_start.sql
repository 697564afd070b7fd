-- The schema that SQLite has after sqlite/schema/0012_crash.sql, which describes each table and column. Text is compared
-- by its bytes on both engines. The writer gives out the ids, from the row of `turn`.

-- One row: the number of migrations applied.
CREATE TABLE migrations (
    schema BIGINT NOT NULL
);
INSERT INTO migrations (schema) VALUES (0);

-- One row: which scheduler is the active one. A takeover increments it.
CREATE TABLE epoch (
    epoch BIGINT NOT NULL
);
INSERT INTO epoch (epoch) VALUES (0);

-- One row: the last turn that was stored, and the last id that was given out in each table. The writer locks it.
CREATE TABLE turn (
    mark         TEXT COLLATE "C" NOT NULL DEFAULT '',
    jobs         BIGINT NOT NULL DEFAULT 0,
    runs         BIGINT NOT NULL DEFAULT 0,
    events       BIGINT NOT NULL DEFAULT 0,
    demands      BIGINT NOT NULL DEFAULT 0,
    owners       BIGINT NOT NULL DEFAULT 0,
    schedulers   BIGINT NOT NULL DEFAULT 0,
    predecessors BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO turn DEFAULT VALUES;

-- `key_check` is sealed by secret.key: a scheduler that can't open it has another key, and must not take over.
CREATE TABLE identity (
    db         TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    key_check  TEXT COLLATE "C"
);

CREATE TABLE schedulers (
    epoch      BIGINT PRIMARY KEY,
    host       TEXT COLLATE "C" NOT NULL,
    pid        BIGINT NOT NULL,
    version    TEXT COLLATE "C" NOT NULL,
    started_ms BIGINT NOT NULL,
    stopped_ms BIGINT
);

-- The schedulers of this database that run: the active one and its standbys, as each publishes itself.
CREATE TABLE instances (
    instance   TEXT COLLATE "C" PRIMARY KEY,
    role       TEXT COLLATE "C" NOT NULL CHECK (role IN ('active', 'standby')),
    host       TEXT COLLATE "C" NOT NULL,
    pid        BIGINT NOT NULL,
    version    TEXT COLLATE "C" NOT NULL,
    url        TEXT COLLATE "C" NOT NULL,
    endpoint   TEXT COLLATE "C" NOT NULL,
    public_key TEXT COLLATE "C" NOT NULL,
    started_ms BIGINT NOT NULL,
    seen_ms    BIGINT NOT NULL
);

CREATE TABLE demands (
    demand_id BIGINT PRIMARY KEY,
    wish      TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE owners (
    owner_id BIGINT PRIMARY KEY,
    owner    TEXT COLLATE "C" NOT NULL UNIQUE
);

CREATE TABLE jobs (
    job_id        BIGINT PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL,
    command       TEXT COLLATE "C" NOT NULL,
    demand_id     BIGINT NOT NULL REFERENCES demands,
    priority      BIGINT NOT NULL DEFAULT 0,
    timeout_ms    BIGINT,
    grace_ms      BIGINT NOT NULL,
    crash_limit   BIGINT NOT NULL,
    schedule      TEXT COLLATE "C",
    next_fire_ms  BIGINT,
    cancel_by     TEXT COLLATE "C",
    cancel_ms     BIGINT,
    unmade        BIGINT NOT NULL DEFAULT 0,
    pending       BIGINT NOT NULL DEFAULT 0,
    running       BIGINT NOT NULL DEFAULT 0,
    success       BIGINT NOT NULL DEFAULT 0,
    failed        BIGINT NOT NULL DEFAULT 0,
    cancelled     BIGINT NOT NULL DEFAULT 0,
    created_ms    BIGINT NOT NULL,
    updated_ms    BIGINT NOT NULL,
    run_as        TEXT COLLATE "C",
    env           TEXT COLLATE "C",
    secret_env    TEXT COLLATE "C",
    retries       BIGINT NOT NULL DEFAULT 0,
    backoff       TEXT COLLATE "C",
    on_lost       TEXT COLLATE "C" NOT NULL DEFAULT 'requeue',
    on_disconnect TEXT COLLATE "C" NOT NULL DEFAULT 'continue',
    owner_id      BIGINT REFERENCES owners,
    metered       BIGINT NOT NULL DEFAULT 0,
    paused_ms     BIGINT,
    ended_ms      BIGINT,
    status        TEXT COLLATE "C" NOT NULL GENERATED ALWAYS AS (
        CASE WHEN running > 0          THEN 'running'
             WHEN pending + unmade > 0 THEN 'pending'
             WHEN failed > 0           THEN 'failed'
             WHEN cancelled > 0        THEN 'cancelled'
             WHEN success > 0          THEN 'success'
             WHEN ended_ms IS NOT NULL THEN 'cancelled'
             ELSE 'pending' END) STORED
);

CREATE INDEX jobs_due ON jobs (next_fire_ms) WHERE next_fire_ms IS NOT NULL;
CREATE INDEX jobs_by_owner ON jobs (owner_id, job_id) WHERE owner_id IS NOT NULL;
CREATE INDEX jobs_by_status ON jobs (status, job_id, owner_id);
CREATE INDEX jobs_metered ON jobs (owner_id, status) WHERE metered = 1;
CREATE INDEX jobs_recurring ON jobs (owner_id, job_id) WHERE schedule IS NOT NULL AND ended_ms IS NULL;

CREATE TABLE runs (
    run_id      BIGINT PRIMARY KEY,
    job_id      BIGINT NOT NULL REFERENCES jobs,
    task        BIGINT NOT NULL DEFAULT 0,
    attempt     BIGINT NOT NULL,
    demand_id   BIGINT NOT NULL REFERENCES demands,
    priority    BIGINT NOT NULL,
    status      TEXT COLLATE "C" NOT NULL
        CHECK (status IN ('pending', 'running', 'success', 'failed', 'cancelled')),
    blocked     BIGINT NOT NULL DEFAULT 0,
    due_ms      BIGINT,
    expires_ms  BIGINT,
    worker_id   TEXT COLLATE "C",
    handed_n    BIGINT,
    lease_ms    BIGINT,
    ends_ms     BIGINT,
    crashes     BIGINT NOT NULL DEFAULT 0,
    probation   BIGINT NOT NULL DEFAULT 0,
    reason      TEXT COLLATE "C",
    detail      TEXT COLLATE "C",
    exit_code   BIGINT,
    signal      BIGINT,
    cancel_by   TEXT COLLATE "C",
    cancel_ms   BIGINT,
    created_ms  BIGINT NOT NULL,
    claimed_ms  BIGINT,
    started_ms  BIGINT,
    finished_ms BIGINT,
    failures    BIGINT NOT NULL DEFAULT 0,
    stuck       BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX runs_ready ON runs (demand_id, priority DESC, run_id) WHERE status = 'pending' AND blocked = 0;
CREATE INDEX runs_of_job ON runs (job_id, run_id);
CREATE INDEX runs_held ON runs (worker_id, run_id) WHERE status = 'running';
CREATE INDEX runs_due ON runs (due_ms) WHERE status = 'pending' AND due_ms IS NOT NULL;
CREATE INDEX runs_ending ON runs (ends_ms) WHERE status = 'running' AND ends_ms IS NOT NULL;

CREATE FUNCTION refuse_change_of_run() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE integrity_constraint_violation USING MESSAGE = 'terminal is final';
END
$$;

CREATE TRIGGER runs_change_by_the_table BEFORE UPDATE ON runs FOR EACH ROW
WHEN (OLD.status IN ('success', 'failed', 'cancelled') OR (OLD.status = 'pending' AND NEW.status = 'success'))
EXECUTE FUNCTION refuse_change_of_run();

CREATE TABLE outputs (
    run_id       BIGINT PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    form         TEXT COLLATE "C" NOT NULL CHECK (form IN ('streams', 'text')),
    stdout_head  BYTEA NOT NULL,
    stdout_tail  BYTEA NOT NULL,
    stdout_total BIGINT NOT NULL,
    stderr_head  BYTEA NOT NULL,
    stderr_tail  BYTEA NOT NULL,
    stderr_total BIGINT NOT NULL
);

CREATE TABLE workers (
    worker_id     TEXT COLLATE "C" PRIMARY KEY,
    kind          TEXT COLLATE "C" NOT NULL CHECK (kind IN ('zmq', 'rest')),
    status        TEXT COLLATE "C" NOT NULL CHECK (status IN ('active', 'inactive')),
    draining      BIGINT NOT NULL DEFAULT 0,
    slots         BIGINT NOT NULL,
    host          TEXT COLLATE "C" NOT NULL,
    incarnation   TEXT COLLATE "C" NOT NULL,
    boot_id       TEXT COLLATE "C" NOT NULL,
    lock_device   BIGINT NOT NULL,
    lock_inode    BIGINT NOT NULL,
    agent         TEXT COLLATE "C" NOT NULL,
    can           TEXT COLLATE "C" NOT NULL,
    labels        TEXT COLLATE "C" NOT NULL,
    registered_ms BIGINT NOT NULL,
    last_seen_ms  BIGINT NOT NULL,
    leaving_ms    BIGINT
);

CREATE INDEX workers_active ON workers (worker_id) WHERE status = 'active';

CREATE TABLE totals (
    status TEXT COLLATE "C" PRIMARY KEY,
    tasks  BIGINT NOT NULL
) WITH (fillfactor = 20);
INSERT INTO totals (status, tasks) VALUES ('pending', 0), ('running', 0), ('success', 0), ('failed', 0), ('cancelled', 0);

CREATE TABLE events (
    event_id  BIGINT PRIMARY KEY,
    at_ms     BIGINT NOT NULL,
    actor     TEXT COLLATE "C" NOT NULL,
    job_id    BIGINT,
    run_first BIGINT,
    run_last  BIGINT,
    worker_id TEXT COLLATE "C",
    was       TEXT COLLATE "C",
    became    TEXT COLLATE "C" NOT NULL,
    reason    TEXT COLLATE "C",
    detail    TEXT COLLATE "C"
);

CREATE TABLE tokens (
    token_id      TEXT COLLATE "C" PRIMARY KEY,
    digest        BYTEA NOT NULL,
    scopes        TEXT COLLATE "C" NOT NULL,
    note          TEXT COLLATE "C" NOT NULL,
    created_ms    BIGINT NOT NULL,
    created_by    TEXT COLLATE "C" NOT NULL,
    expires_ms    BIGINT,
    revoked_ms    BIGINT,
    name          TEXT COLLATE "C" NOT NULL,
    run_as        TEXT COLLATE "C",
    pending_max   BIGINT,
    schedules_max BIGINT,
    workers       TEXT COLLATE "C",
    slots_max     BIGINT,
    last_used_ms  BIGINT,
    ending_by     TEXT COLLATE "C",
    ended_to      BIGINT NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX tokens_by_name ON tokens (name);
CREATE INDEX tokens_ending ON tokens (token_id) WHERE ending_by IS NOT NULL;

CREATE TABLE keys (
    public_key TEXT COLLATE "C" PRIMARY KEY,
    worker_id  TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    revoked_ms BIGINT,
    slots_max  BIGINT,
    origin     TEXT COLLATE "C" NOT NULL DEFAULT 'file' CHECK (origin IN ('enrolled', 'remote', 'file'))
);

CREATE UNIQUE INDEX keys_of_worker ON keys (worker_id) WHERE revoked_ms IS NULL;

CREATE TABLE idempotency (
    caller    TEXT COLLATE "C" NOT NULL,
    idem_key  BYTEA NOT NULL,
    digest    BYTEA NOT NULL,
    first_job BIGINT NOT NULL,
    last_job  BIGINT NOT NULL,
    jobs      BIGINT NOT NULL,
    made_ms   BIGINT NOT NULL,
    PRIMARY KEY (caller, idem_key)
);

CREATE INDEX idempotency_by_age ON idempotency (made_ms);

CREATE TABLE predecessors (
    generation  BIGINT PRIMARY KEY,
    db          TEXT COLLATE "C" NOT NULL UNIQUE,
    made_ms     BIGINT,
    restored_ms BIGINT NOT NULL
);

CREATE TABLE foreign_runs (
    worker_id  TEXT COLLATE "C" NOT NULL,
    db         TEXT COLLATE "C" NOT NULL,
    running    BIGINT NOT NULL,
    results    BIGINT NOT NULL,
    runs       TEXT COLLATE "C" NOT NULL,
    since_ms   BIGINT NOT NULL,
    decision   TEXT COLLATE "C" CHECK (decision IN ('keep', 'discard')),
    decided_by TEXT COLLATE "C",
    decided_ms BIGINT,
    PRIMARY KEY (worker_id, db)
);
