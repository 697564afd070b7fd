-- How a job's program is executed: its arguments as a JSON array, its folder and its umask, both as a requirement or as a
-- hint, and the signal that it gets before its timeout.
ALTER TABLE jobs ADD COLUMN argv         TEXT;
ALTER TABLE jobs ADD COLUMN cwd          TEXT;
ALTER TABLE jobs ADD COLUMN umask        TEXT;
ALTER TABLE jobs ADD COLUMN cwd_hint     TEXT;
ALTER TABLE jobs ADD COLUMN umask_hint   TEXT;
ALTER TABLE jobs ADD COLUMN early_signal TEXT;

-- The inputs of jobs. A row of jobs has only their size, so that lists do not read a megabyte of each.
ALTER TABLE jobs ADD COLUMN stdin_bytes  INTEGER;
CREATE TABLE inputs (
    job_id  INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    content TEXT NOT NULL
) STRICT;

-- When a job may start at the earliest and at the latest. The run of a task keeps the latter as `expires_ms`.
ALTER TABLE jobs ADD COLUMN run_at_ms   INTEGER;
ALTER TABLE jobs ADD COLUMN deadline_ms INTEGER;

CREATE INDEX runs_expiring ON runs (expires_ms) WHERE status = 'pending' AND expires_ms IS NOT NULL;
