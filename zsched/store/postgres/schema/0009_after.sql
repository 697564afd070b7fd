-- As sqlite/schema/0021_after.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN after_jobs TEXT COLLATE "C";
ALTER TABLE jobs ADD COLUMN dependents BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN flow       BIGINT;
CREATE INDEX jobs_by_flow ON jobs (flow, job_id) WHERE flow IS NOT NULL;
CREATE TABLE dependencies (
    child_id  BIGINT NOT NULL,
    judged    BIGINT NOT NULL DEFAULT 0,
    parent_id BIGINT NOT NULL,
    ends      TEXT COLLATE "C" NOT NULL CHECK (ends IN ('ok', 'failed', 'any')),
    PRIMARY KEY (child_id, judged, parent_id)
);
CREATE INDEX dependencies_on ON dependencies (parent_id, judged);
CREATE TABLE settled (
    settled_id BIGINT PRIMARY KEY
);
