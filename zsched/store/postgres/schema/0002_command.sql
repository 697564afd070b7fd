-- When a job may start at the earliest and at the latest. The run of a task keeps the latter as `expires_ms`.
ALTER TABLE jobs ADD COLUMN run_at_ms   BIGINT;
ALTER TABLE jobs ADD COLUMN deadline_ms BIGINT;

CREATE INDEX runs_expiring ON runs (expires_ms) WHERE status = 'pending' AND expires_ms IS NOT NULL;
