-- The jobs that a job waits for, as words with a space between them; NULL for none. `dependents`: whether a job was ever
-- submitted that waits for this one (1), or for some of its tasks (2). `flow`: the first job of the flow to which the job belongs.
ALTER TABLE jobs ADD COLUMN after_jobs TEXT;
ALTER TABLE jobs ADD COLUMN dependents INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN flow       INTEGER;
CREATE INDEX jobs_by_flow ON jobs (flow, job_id) WHERE flow IS NOT NULL;

-- For each job that has not ended, the jobs that it waits for, or single tasks of them (-1: the whole job). `judged` is 0
-- until that one has ended and this was taken into account, then 1; and 2 where each task waits for the same task of the
-- other job. The open ones of a job come first in the key. Without references, as job_tags.
CREATE TABLE dependencies (
    child_id  INTEGER NOT NULL,
    judged    INTEGER NOT NULL DEFAULT 0,
    parent_id INTEGER NOT NULL,
    task      INTEGER NOT NULL DEFAULT -1,
    ends      TEXT    NOT NULL CHECK (ends IN ('ok', 'failed', 'any', 'same')),
    PRIMARY KEY (child_id, judged, parent_id, task)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependencies_on ON dependencies (parent_id, judged);

-- Ended jobs (-1) whose dependencies are to be looked at: those on them are judged, and their own are forgotten. And tasks
-- of jobs, some of which have ended, and for which others wait.
CREATE TABLE settled (
    settled_id INTEGER NOT NULL,
    first_task INTEGER NOT NULL,
    last_task  INTEGER NOT NULL,
    PRIMARY KEY (settled_id, first_task)
) STRICT, WITHOUT ROWID;
CREATE INDEX jobs_watched ON jobs (job_id) WHERE dependents > 1;
