-- As sqlite/schema/0017_queues.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN queue      TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN limits     TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN unique_key TEXT COLLATE "C";
CREATE INDEX jobs_by_queue ON jobs (queue, job_id) WHERE queue IS NOT NULL;

CREATE TABLE unique_jobs (
    unique_key TEXT COLLATE "C" PRIMARY KEY,
    holder_id  BIGINT NOT NULL
);

CREATE TABLE queues (
    queue        TEXT COLLATE "C" PRIMARY KEY,
    fair         TEXT COLLATE "C" CHECK (fair IN ('owner')),
    paused_ms    BIGINT,
    paused_by    TEXT COLLATE "C",
    pause_reason TEXT COLLATE "C"
);

ALTER TABLE demands ADD COLUMN pending BIGINT NOT NULL DEFAULT 0;
ALTER TABLE demands ADD COLUMN running BIGINT NOT NULL DEFAULT 0;
CREATE INDEX demands_live ON demands (demand_id) WHERE pending + running > 0;

CREATE INDEX runs_limited ON runs (demand_id, priority DESC, run_id) WHERE status = 'pending' AND blocked = 4;

ALTER TABLE workers ADD COLUMN queues TEXT COLLATE "C";
