-- Which failures of a job's tasks are tried again, as words with a space between them; NULL for all.
ALTER TABLE jobs ADD COLUMN retry_on TEXT;
-- How often a run of the task came back from a worker unstarted.
ALTER TABLE runs ADD COLUMN returns INTEGER NOT NULL DEFAULT 0;
