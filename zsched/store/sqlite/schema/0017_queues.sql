-- A job's queue, NULL for `default`; how many runs with each of its keys may run at once (JSON); and the key that only one
-- job may have at a time. Keys of callers without the scope operate begin with their owner.
ALTER TABLE jobs ADD COLUMN queue      TEXT;
ALTER TABLE jobs ADD COLUMN limits     TEXT;
ALTER TABLE jobs ADD COLUMN unique_key TEXT;
CREATE INDEX jobs_by_queue ON jobs (queue, job_id) WHERE queue IS NOT NULL;

-- The last job that was submitted with a unique key. Without a reference, as job_tags.
CREATE TABLE unique_jobs (
    unique_key TEXT    PRIMARY KEY,
    holder_id  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Queues that are paused, or shared in another way than by age. The others have no row.
CREATE TABLE queues (
    queue        TEXT PRIMARY KEY,
    fair         TEXT CHECK (fair IN ('owner')),
    paused_ms    INTEGER,
    paused_by    TEXT,
    pause_reason TEXT
) STRICT, WITHOUT ROWID;

-- The pending and running runs of each demand that names a queue, an owner or limits. The turn that moves a run keeps
-- them. They are 0 in other demands, so that a plain job costs nothing here.
ALTER TABLE demands ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE demands ADD COLUMN running INTEGER NOT NULL DEFAULT 0;
CREATE INDEX demands_live ON demands (demand_id) WHERE pending + running > 0;

-- Runs that may start when there is room under the limits of their demand. 4 is Blocked.LIMITED.
CREATE INDEX runs_limited ON runs (demand_id, priority DESC, run_id) WHERE status = 'pending' AND blocked = 4;

-- The queues that a worker serves, as a JSON array; NULL for `default` alone.
ALTER TABLE workers ADD COLUMN queues TEXT;
