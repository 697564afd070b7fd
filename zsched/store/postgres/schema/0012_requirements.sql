-- As sqlite/schema/0024_requirements.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN labels TEXT COLLATE "C";
