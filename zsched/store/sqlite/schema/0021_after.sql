-- The jobs that a job waits for, as words with a space between them; NULL for none. `dependents`: whether a job was ever
-- submitted that waits for this one. `flow`: the first job of the flow to which the job belongs.
ALTER TABLE jobs ADD COLUMN after_jobs TEXT;
ALTER TABLE jobs ADD COLUMN dependents INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN flow       INTEGER;
CREATE INDEX jobs_by_flow ON jobs (flow, job_id) WHERE flow IS NOT NULL;

-- For each job that has not ended, the jobs that it waits for. `judged`: that one has ended, and this was taken into
-- account. The open ones of a job come first in the key. Without references, as job_tags.
CREATE TABLE dependencies (
    child_id  INTEGER NOT NULL,
    judged    INTEGER NOT NULL DEFAULT 0,
    parent_id INTEGER NOT NULL,
    ends      TEXT    NOT NULL CHECK (ends IN ('ok', 'failed', 'any')),
    PRIMARY KEY (child_id, judged, parent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_on ON dependencies (parent_id, judged);

-- Ended jobs whose dependencies are to be looked at: those on them are judged, and their own are forgotten.
CREATE TABLE settled (
    settled_id INTEGER PRIMARY KEY
) STRICT;
