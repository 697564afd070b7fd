-- The small files that go with a job, and those that a run leaves: a listing (JSON: path, bytes, permission bits of each)
-- and their contents one after another. A row of jobs has only their size, as for inputs.
ALTER TABLE jobs ADD COLUMN files_bytes INTEGER;
CREATE TABLE files (
    job_id  INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    listing TEXT NOT NULL,
    data    BLOB NOT NULL
) STRICT;
CREATE TABLE artifacts (
    run_id  INTEGER PRIMARY KEY REFERENCES runs ON DELETE CASCADE,
    listing TEXT NOT NULL,
    data    BLOB NOT NULL
) STRICT;

-- The patterns of a job's artifacts as a JSON array.
ALTER TABLE jobs ADD COLUMN artifacts TEXT;
