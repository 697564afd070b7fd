-- The first schema. Times are milliseconds since 1970 UTC. Ids grow and are never used twice (AUTOINCREMENT), because a
-- run's id is the token that decides whose result counts.

-- One row: who this database is. Workers name it, so that runs of another database are never mistaken for ours.
CREATE TABLE identity (
    db         TEXT    NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

-- One row for each start of a scheduler.
CREATE TABLE schedulers (
    epoch      INTEGER PRIMARY KEY AUTOINCREMENT,
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    version    TEXT    NOT NULL,
    started_ms INTEGER NOT NULL,
    stopped_ms INTEGER
) STRICT;

-- What runs ask of a worker, each distinct wish once (canonical JSON), so that matching costs per wish and not per run.
CREATE TABLE demands (
    demand_id INTEGER PRIMARY KEY AUTOINCREMENT,
    wish      TEXT    NOT NULL UNIQUE
) STRICT;

-- The counters say in which state the job's tasks are, each by its last run; the status follows from them.
-- A recurring job counts its last fire, and is pending before the first.
CREATE TABLE jobs (
    job_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT    NOT NULL,
    command      TEXT    NOT NULL,
    demand_id    INTEGER NOT NULL REFERENCES demands,
    priority     INTEGER NOT NULL DEFAULT 0,
    timeout_ms   INTEGER,
    grace_ms     INTEGER NOT NULL,
    crash_limit  INTEGER NOT NULL,
    schedule     TEXT,
    next_fire_ms INTEGER,
    cancel_by    TEXT,
    cancel_ms    INTEGER,
    unmade       INTEGER NOT NULL DEFAULT 0,
    pending      INTEGER NOT NULL DEFAULT 0,
    running      INTEGER NOT NULL DEFAULT 0,
    success      INTEGER NOT NULL DEFAULT 0,
    failed       INTEGER NOT NULL DEFAULT 0,
    cancelled    INTEGER NOT NULL DEFAULT 0,
    created_ms   INTEGER NOT NULL,
    updated_ms   INTEGER NOT NULL,
    status       TEXT    NOT NULL GENERATED ALWAYS AS (
        CASE WHEN running > 0          THEN 'running'
             WHEN pending + unmade > 0 THEN 'pending'
             WHEN failed > 0           THEN 'failed'
             WHEN cancelled > 0        THEN 'cancelled'
             WHEN success > 0          THEN 'success'
             ELSE 'pending' END) STORED
) STRICT;

CREATE INDEX jobs_by_status ON jobs (status, job_id);
CREATE INDEX jobs_due ON jobs (next_fire_ms) WHERE next_fire_ms IS NOT NULL;

-- Each attempt of each task: the queue and the history. `blocked` holds the bits that keep a pending run from being
-- claimed. `handed_n` is the number of the frame that handed it out; `ends_ms` is when the scheduler itself ends it
-- (REST workers).
CREATE TABLE runs (
    run_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id      INTEGER NOT NULL REFERENCES jobs,
    task        INTEGER NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL,
    demand_id   INTEGER NOT NULL REFERENCES demands,
    priority    INTEGER NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('pending', 'running', 'success', 'failed', 'cancelled')),
    blocked     INTEGER NOT NULL DEFAULT 0,
    due_ms      INTEGER,
    expires_ms  INTEGER,
    worker_id   TEXT,
    handed_n    INTEGER,
    lease_ms    INTEGER,
    ends_ms     INTEGER,
    crashes     INTEGER NOT NULL DEFAULT 0,
    probation   INTEGER NOT NULL DEFAULT 0,
    reason      TEXT,
    detail      TEXT,
    exit_code   INTEGER,
    signal      INTEGER,
    cancel_by   TEXT,
    cancel_ms   INTEGER,
    created_ms  INTEGER NOT NULL,
    claimed_ms  INTEGER,
    started_ms  INTEGER,
    finished_ms INTEGER
) STRICT;

CREATE INDEX runs_ready ON runs (demand_id, priority DESC, run_id) WHERE status = 'pending' AND blocked = 0;
CREATE INDEX runs_of_job ON runs (job_id, run_id);
CREATE INDEX runs_held ON runs (worker_id, run_id) WHERE status = 'running';
CREATE INDEX runs_due ON runs (due_ms) WHERE status = 'pending' AND due_ms IS NOT NULL;
CREATE INDEX runs_ending ON runs (ends_ms) WHERE status = 'running' AND ends_ms IS NOT NULL;

CREATE TRIGGER runs_change_by_the_table BEFORE UPDATE ON runs
WHEN OLD.status IN ('success', 'failed', 'cancelled') OR (OLD.status = 'pending' AND NEW.status = 'success')
BEGIN
    SELECT RAISE(ABORT, 'terminal is final');
END;

-- What a run wrote: first and last bytes of each stream and the true count. `form` is 'streams', or 'text' where a REST
-- worker sent one text for both (it stands in stdout).
CREATE TABLE outputs (
    run_id       INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    form         TEXT    NOT NULL CHECK (form IN ('streams', 'text')),
    stdout_head  BLOB    NOT NULL,
    stdout_tail  BLOB    NOT NULL,
    stdout_total INTEGER NOT NULL,
    stderr_head  BLOB    NOT NULL,
    stderr_tail  BLOB    NOT NULL,
    stderr_total INTEGER NOT NULL
) STRICT;

CREATE TABLE workers (
    worker_id     TEXT    PRIMARY KEY,
    kind          TEXT    NOT NULL CHECK (kind IN ('zmq', 'rest')),
    status        TEXT    NOT NULL CHECK (status IN ('active', 'inactive')),
    draining      INTEGER NOT NULL DEFAULT 0,
    slots         INTEGER NOT NULL,
    host          TEXT    NOT NULL,
    incarnation   TEXT    NOT NULL,
    boot_id       TEXT    NOT NULL,
    lock_device   INTEGER NOT NULL,
    lock_inode    INTEGER NOT NULL,
    agent         TEXT    NOT NULL,
    can           TEXT    NOT NULL,
    labels        TEXT    NOT NULL,
    registered_ms INTEGER NOT NULL,
    last_seen_ms  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX workers_active ON workers (worker_id) WHERE status = 'active';

-- How many tasks are in each state, each by its last run (a fire of a recurring job is a task of its own). The turn that moves a
-- task keeps them, so nobody ever counts rows.
CREATE TABLE totals (
    status TEXT    PRIMARY KEY,
    tasks  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO totals (status, tasks) VALUES ('pending', 0), ('running', 0), ('success', 0), ('failed', 0), ('cancelled', 0);

-- Every change of state: who, what, from, to, why. A row may stand for a range of runs: all those of that job, or (a
-- creation only, with no job) all whose ids lie in it. `was` is NULL for a creation.
CREATE TABLE events (
    event_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms     INTEGER NOT NULL,
    actor     TEXT    NOT NULL,
    job_id    INTEGER,
    run_first INTEGER,
    run_last  INTEGER,
    worker_id TEXT,
    was       TEXT,
    became    TEXT    NOT NULL,
    reason    TEXT,
    detail    TEXT
) STRICT;
