-- As sqlite/schema/0018_life.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN retry_on TEXT COLLATE "C";
ALTER TABLE runs ADD COLUMN returns BIGINT NOT NULL DEFAULT 0;
