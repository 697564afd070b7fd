-- As sqlite/schema/0018_life.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN retry_on TEXT COLLATE "C";
ALTER TABLE runs ADD COLUMN returns BIGINT NOT NULL DEFAULT 0;

ALTER TABLE jobs ADD COLUMN held_ms       BIGINT;
ALTER TABLE jobs ADD COLUMN hold_reason   TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN cancel_reason TEXT COLLATE "C";
CREATE INDEX jobs_held ON jobs (job_id, owner_id) WHERE held_ms IS NOT NULL;

ALTER TABLE runs ADD COLUMN avoids TEXT COLLATE "C";
CREATE INDEX runs_avoiding ON runs (run_id) WHERE status = 'pending' AND blocked = 16;

CREATE TABLE usage (
    kind      TEXT COLLATE "C" NOT NULL,
    name      TEXT COLLATE "C" NOT NULL,
    day       BIGINT NOT NULL,
    success   BIGINT NOT NULL,
    failed    BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    run_ms    BIGINT NOT NULL,
    PRIMARY KEY (kind, day, name)
);
