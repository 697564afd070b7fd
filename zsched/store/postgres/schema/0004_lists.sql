-- As sqlite/schema/0016_lists.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN tags TEXT COLLATE "C";
CREATE TABLE job_tags (
    tag       TEXT COLLATE "C" NOT NULL,
    tagged_id BIGINT NOT NULL,
    PRIMARY KEY (tag, tagged_id)
);
ALTER TABLE identity ADD COLUMN retention BIGINT NOT NULL DEFAULT 1;
UPDATE identity SET retention = 0 WHERE EXISTS (SELECT 1 FROM schedulers);
