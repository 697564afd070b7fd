-- As sqlite/schema/0021_arrays.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN task_array  TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN entries     BIGINT;
ALTER TABLE jobs ADD COLUMN max_fails   BIGINT;
ALTER TABLE jobs ADD COLUMN waiting     BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN forgiven    BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN removing_ms BIGINT;
CREATE INDEX jobs_of_arrays ON jobs (job_id) WHERE task_array IS NOT NULL AND pending + running + unmade > 0;
CREATE INDEX jobs_removing ON jobs (job_id) WHERE removing_ms IS NOT NULL;

ALTER TABLE runs ADD COLUMN of_array BIGINT NOT NULL DEFAULT 0;
CREATE INDEX runs_of_array ON runs (job_id, task, run_id) WHERE of_array = 1;
CREATE INDEX runs_live_of_array ON runs (job_id, task) WHERE of_array = 1 AND status IN ('pending', 'running');
CREATE INDEX runs_placeless ON runs (job_id, task) WHERE status = 'pending' AND blocked IN (1, 5, 17);
CREATE INDEX runs_failed_of_array ON runs (job_id, run_id)
    WHERE of_array = 1 AND status = 'failed' AND reason NOT IN ('dependency', 'expired', 'quarantined');

CREATE TABLE task_ranges (
    job_id     BIGINT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    first_task BIGINT NOT NULL,
    last_task  BIGINT NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('unmade', 'held', 'waits', 'cancelled', 'failed')),
    again      BIGINT NOT NULL DEFAULT 0,
    reason     TEXT COLLATE "C",
    PRIMARY KEY (job_id, first_task)
);
CREATE INDEX task_ranges_unmade ON task_ranges (job_id, first_task) WHERE state = 'unmade';

CREATE TABLE entries (
    job_id      BIGINT NOT NULL REFERENCES jobs ON DELETE CASCADE,
    first_entry BIGINT NOT NULL,
    packed      BYTEA  NOT NULL,
    PRIMARY KEY (job_id, first_entry)
);
