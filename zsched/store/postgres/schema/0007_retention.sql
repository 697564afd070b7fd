-- As sqlite/schema/0019_retention.sql, which describes each table and column.
CREATE TABLE fires (
    fired_id  BIGINT NOT NULL,
    first_run BIGINT NOT NULL,
    PRIMARY KEY (fired_id, first_run)
);
INSERT INTO fires (fired_id, first_run)
    SELECT job_id, run_id FROM runs WHERE job_id IN (SELECT job_id FROM jobs WHERE schedule IS NOT NULL)
        AND run_id NOT IN (
            SELECT run_first FROM events WHERE was IS NULL AND reason IN ('requeued', 'retry') AND run_first IS NOT NULL);
ALTER TABLE identity ADD COLUMN purged BIGINT NOT NULL DEFAULT 0;
UPDATE identity SET purged = 1 WHERE EXISTS (SELECT 1 FROM events WHERE became = 'purged');
