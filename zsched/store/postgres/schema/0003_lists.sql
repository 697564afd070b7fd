-- As sqlite/schema/0015_lists.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN tags TEXT COLLATE "C";
CREATE TABLE job_tags (
    tag       TEXT COLLATE "C" NOT NULL,
    tagged_id BIGINT NOT NULL REFERENCES jobs,
    PRIMARY KEY (tag, tagged_id)
);
CREATE INDEX jobs_by_name ON jobs (name, job_id);
