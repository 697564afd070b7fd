-- As sqlite/schema/0022_after.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN after_jobs TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN dependents BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN flow       BIGINT;
CREATE INDEX jobs_by_flow ON jobs (flow, job_id) WHERE flow IS NOT NULL;
CREATE TABLE dependencies (
    child_id  BIGINT NOT NULL,
    judged    BIGINT NOT NULL DEFAULT 0,
    parent_id BIGINT NOT NULL,
    task      BIGINT NOT NULL DEFAULT -1,
    ends      TEXT COLLATE "C" NOT NULL CHECK (ends IN ('ok', 'failed', 'any', 'same')),
    PRIMARY KEY (child_id, judged, parent_id, task)
);
CREATE INDEX dependencies_on ON dependencies (parent_id, judged);
CREATE TABLE settled (
    settled_id BIGINT NOT NULL,
    first_task BIGINT NOT NULL,
    last_task  BIGINT NOT NULL,
    PRIMARY KEY (settled_id, first_task)
);
CREATE INDEX jobs_watched ON jobs (job_id) WHERE dependents > 1;
