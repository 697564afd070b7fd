-- Which failures of a job's tasks are tried again, as words with a space between them; NULL for all.
ALTER TABLE jobs ADD COLUMN retry_on TEXT;
-- How often a run of the task came back from a worker unstarted.
ALTER TABLE runs ADD COLUMN returns INTEGER NOT NULL DEFAULT 0;

-- Since when a job is held and why, and why it was cancelled.
ALTER TABLE jobs ADD COLUMN held_ms       INTEGER;
ALTER TABLE jobs ADD COLUMN hold_reason   TEXT;
ALTER TABLE jobs ADD COLUMN cancel_reason TEXT;
CREATE INDEX jobs_held ON jobs (job_id, owner_id) WHERE held_ms IS NOT NULL;

-- The worker on which the run's task has failed. While `blocked` is 16 (Blocked.AVOIDS), the run waits for another one.
ALTER TABLE runs ADD COLUMN avoids TEXT;
CREATE INDEX runs_avoiding ON runs (run_id) WHERE status = 'pending' AND blocked = 16;

-- What ended runs have used, by day (days since 1970 UTC). `kind` says what `name` is: an owner or a queue.
CREATE TABLE usage (
    kind      TEXT    NOT NULL,
    name      TEXT    NOT NULL,
    day       INTEGER NOT NULL,
    success   INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    run_ms    INTEGER NOT NULL,
    PRIMARY KEY (kind, day, name)
) STRICT, WITHOUT ROWID;
