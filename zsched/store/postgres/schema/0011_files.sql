-- As sqlite/schema/0023_files.sql, which describes each table and column.
ALTER TABLE jobs ADD COLUMN files_bytes BIGINT;
CREATE TABLE files (
    job_id  BIGINT PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    listing TEXT COLLATE "C" NOT NULL,
    data    BYTEA NOT NULL
);
CREATE TABLE artifacts (
    run_id  BIGINT PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    listing TEXT COLLATE "C" NOT NULL,
    data    BYTEA NOT NULL
);
ALTER TABLE jobs ADD COLUMN artifacts TEXT COLLATE "C";
