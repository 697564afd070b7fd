-- A job's tags, as words with a space between them; NULL for none. Each stands in `job_tags` too, for lists by tag.
-- Without a reference: to delete a job, SQLite would look for its tags without an index.
ALTER TABLE jobs ADD COLUMN tags TEXT;
CREATE TABLE job_tags (
    tag       TEXT    NOT NULL,
    tagged_id INTEGER NOT NULL,
    PRIMARY KEY (tag, tagged_id)
) STRICT, WITHOUT ROWID;

-- Whether old jobs are removed unless the settings say otherwise. Not in a database
-- of an earlier release, on which a scheduler has started.
ALTER TABLE identity ADD COLUMN retention INTEGER NOT NULL DEFAULT 1;
UPDATE identity SET retention = 0 WHERE EXISTS (SELECT 1 FROM schedulers);
