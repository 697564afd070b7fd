-- The first run of each fire of a recurring job; a run of its job up to the next one belongs to the same fire. Retention
-- keeps the last fires of each job.
CREATE TABLE fires (
    fired_id  INTEGER NOT NULL,
    first_run INTEGER NOT NULL,
    PRIMARY KEY (fired_id, first_run)
) STRICT, WITHOUT ROWID;
INSERT INTO fires (fired_id, first_run)
    SELECT job_id, run_id FROM runs WHERE job_id IN (SELECT job_id FROM jobs WHERE schedule IS NOT NULL)
        AND run_id NOT IN (
            SELECT run_first FROM events WHERE was IS NULL AND reason IN ('requeued', 'retry') AND run_first IS NOT NULL);

-- Whether rows were ever removed: then events of missing runs may be left, or be missing.
ALTER TABLE identity ADD COLUMN purged INTEGER NOT NULL DEFAULT 0;
UPDATE identity SET purged = 1 WHERE EXISTS (SELECT 1 FROM events WHERE became = 'purged');
