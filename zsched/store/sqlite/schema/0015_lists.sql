-- A job's tags, as words with a space between them; NULL for none. Each stands in `job_tags` too, for lists by tag.
ALTER TABLE jobs ADD COLUMN tags TEXT;
CREATE TABLE job_tags (
    tag       TEXT    NOT NULL,
    tagged_id INTEGER NOT NULL REFERENCES jobs (job_id),
    PRIMARY KEY (tag, tagged_id)
) STRICT, WITHOUT ROWID;
-- For lists of the jobs with a name. A name hardly ever changes, so that only a submit writes this.
CREATE INDEX jobs_by_name ON jobs (name);
