-- A recurring job can be paused, and its schedule can be ended for good. A paused or ended job has no `next_fire_ms`, so the
-- index of what is due never meets it.
ALTER TABLE jobs ADD COLUMN paused_ms INTEGER;
ALTER TABLE jobs ADD COLUMN ended_ms  INTEGER;

-- A schedule that ended before its first fire leaves no task to count: such a job is cancelled. SQLite adds a generated
-- column only as a VIRTUAL one. The index holds its values, and reading one computes it from counters of the same row.
DROP INDEX jobs_by_status;
ALTER TABLE jobs DROP COLUMN status;
ALTER TABLE jobs ADD COLUMN status TEXT NOT NULL GENERATED ALWAYS AS (
    CASE WHEN running > 0          THEN 'running'
         WHEN pending + unmade > 0 THEN 'pending'
         WHEN failed > 0           THEN 'failed'
         WHEN cancelled > 0        THEN 'cancelled'
         WHEN success > 0          THEN 'success'
         WHEN ended_ms IS NOT NULL THEN 'cancelled'
         ELSE 'pending' END) VIRTUAL;
-- The owner stands in it so that a list by owner and status passes others' jobs without looking at their rows.
CREATE INDEX jobs_by_status ON jobs (status, job_id, owner_id);
-- Counts the pending jobs of a token. Jobs without a bound cost nothing here.
CREATE INDEX jobs_metered ON jobs (owner_id, status) WHERE metered = 1;

-- Counts the schedules of an owner: those that fire, or may be resumed.
DROP INDEX jobs_recurring;
CREATE INDEX jobs_recurring ON jobs (owner_id) WHERE schedule IS NOT NULL AND ended_ms IS NULL;
