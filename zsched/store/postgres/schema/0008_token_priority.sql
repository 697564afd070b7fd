-- As sqlite/schema/0020_token_priority.sql, which describes the column.
ALTER TABLE tokens ADD COLUMN priority_max BIGINT;
