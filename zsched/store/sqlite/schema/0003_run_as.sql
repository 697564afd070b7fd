-- Whom a job runs as, by name on the worker's host; NULL leaves that to the worker.
ALTER TABLE jobs ADD COLUMN run_as TEXT;
