-- Arrays: jobs with many tasks. `task_array` is as the caller wrote it, such as 0-15:4%4; NULL for a job with one task.
-- `entries` counts what stands in the table of that name. More than `max_fails` failed tasks end it; those that failed
-- before the last rerun are `forgiven`. `waiting` counts its pending runs that have no place (1 is Blocked.CAP).
-- While `removing_ms` is set, its runs are being removed in small steps.
ALTER TABLE jobs ADD COLUMN task_array  TEXT;
ALTER TABLE jobs ADD COLUMN entries     INTEGER;
ALTER TABLE jobs ADD COLUMN max_fails   INTEGER;
ALTER TABLE jobs ADD COLUMN waiting     INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN forgiven    INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN removing_ms INTEGER;
CREATE INDEX jobs_of_arrays ON jobs (job_id) WHERE task_array IS NOT NULL AND pending + running + unmade > 0;
CREATE INDEX jobs_removing ON jobs (job_id) WHERE removing_ms IS NOT NULL;

-- The runs of arrays have indexes of their own; a plain run costs nothing here. The second holds the live ones, the third
-- those that wait for a place alone (4 is Blocked.LIMITED, 16 Blocked.AVOIDS). The last one tells whether an array that
-- has failed had started.
ALTER TABLE runs ADD COLUMN of_array INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_of_array ON runs (job_id, task, run_id) WHERE of_array = 1;
CREATE INDEX runs_live_of_array ON runs (job_id, task) WHERE of_array = 1 AND status IN ('pending', 'running');
CREATE INDEX runs_placeless ON runs (job_id, task) WHERE status = 'pending' AND blocked IN (1, 5, 17);
CREATE INDEX runs_failed_of_array ON runs (job_id, run_id)
    WHERE of_array = 1 AND status = 'failed' AND reason NOT IN ('dependency', 'expired', 'quarantined');

-- The tasks of arrays that neither a live run nor their last run describes, as ranges of indexes that do not overlap:
-- `unmade` ones become runs later, `held` ones when they are released, `waits` ones when
-- tasks of another array have ended; `cancelled` and `failed` ones have ended. `again`: they may
-- have earlier runs.
CREATE TABLE task_ranges (
    job_id     INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    first_task INTEGER NOT NULL,
    last_task  INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('unmade', 'held', 'waits', 'cancelled', 'failed')),
    again      INTEGER NOT NULL DEFAULT 0,
    reason     TEXT,
    PRIMARY KEY (job_id, first_task)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_ranges_unmade ON task_ranges (job_id, first_task) WHERE state = 'unmade';

-- The entries of jobs by `each`, in packed blocks: each has the place of its first one.
CREATE TABLE entries (
    job_id      INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    first_entry INTEGER NOT NULL,
    packed      BLOB    NOT NULL,
    PRIMARY KEY (job_id, first_entry)
) STRICT;
