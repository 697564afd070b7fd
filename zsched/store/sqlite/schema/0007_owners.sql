-- Owners of jobs, each once: `user:NAME` or `token:NAME`. Jobs and the index on them hold the number, which is narrower.
CREATE TABLE owners (
    owner_id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner    TEXT    NOT NULL UNIQUE
) STRICT;

-- `owner_id` is NULL for jobs from before there were owners. `metered`: submitted by a token that bounds its pending jobs.
ALTER TABLE jobs ADD COLUMN owner_id INTEGER REFERENCES owners;
ALTER TABLE jobs ADD COLUMN metered  INTEGER NOT NULL DEFAULT 0;

-- Without the status, so that only a submit writes it. 0009 has the indexes with the status.
CREATE INDEX jobs_by_owner ON jobs (owner_id) WHERE owner_id IS NOT NULL;
CREATE INDEX jobs_recurring ON jobs (owner_id) WHERE schedule IS NOT NULL;

-- A token's name, by which its jobs are owned, is never used twice, also when the token is revoked. Older tokens are named
-- by their ids. `run_as`, `pending_max` and `schedules_max` bind its jobs, `workers` (words with a space between them) and
-- `slots_max` its workers; NULL leaves them free.
ALTER TABLE tokens ADD COLUMN name          TEXT NOT NULL DEFAULT '';
ALTER TABLE tokens ADD COLUMN run_as        TEXT;
ALTER TABLE tokens ADD COLUMN pending_max   INTEGER;
ALTER TABLE tokens ADD COLUMN schedules_max INTEGER;
ALTER TABLE tokens ADD COLUMN workers       TEXT;
ALTER TABLE tokens ADD COLUMN slots_max     INTEGER;
ALTER TABLE tokens ADD COLUMN last_used_ms  INTEGER;
UPDATE tokens SET name = token_id;
CREATE UNIQUE INDEX tokens_by_name ON tokens (name);

-- While the jobs of a revoked token are being ended: by whom, and up to which job that is done.
ALTER TABLE tokens ADD COLUMN ending_by TEXT;
ALTER TABLE tokens ADD COLUMN ended_to  INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tokens_ending ON tokens (token_id) WHERE ending_by IS NOT NULL;

-- The most slots that a worker may have which comes by this key; NULL for any number.
ALTER TABLE keys ADD COLUMN slots_max INTEGER;
