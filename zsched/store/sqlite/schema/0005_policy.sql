-- What becomes of a job's runs when something goes wrong. `backoff` is a JSON array (see rows.py), NULL for the usual one.
ALTER TABLE jobs ADD COLUMN retries       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN backoff       TEXT;
ALTER TABLE jobs ADD COLUMN on_lost       TEXT    NOT NULL DEFAULT 'requeue';
ALTER TABLE jobs ADD COLUMN on_disconnect TEXT    NOT NULL DEFAULT 'continue';

-- How many runs of the task failed before this one; and whether its worker has killed its processes and they are still
-- there.
ALTER TABLE runs ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN stuck    INTEGER NOT NULL DEFAULT 0;
