-- What workers hold for databases that this one never knew, as they last said it, and what the operator decided.
-- `running` counts processes that exist, `runs` names the first of them (JSON), `results` counts results on the worker's
-- disk. `decision` is NULL until somebody decides.
CREATE TABLE foreign_runs (
    worker_id  TEXT    NOT NULL,
    db         TEXT    NOT NULL,
    running    INTEGER NOT NULL,
    results    INTEGER NOT NULL,
    runs       TEXT    NOT NULL,
    since_ms   INTEGER NOT NULL,
    decision   TEXT    CHECK (decision IN ('keep', 'discard')),
    decided_by TEXT,
    decided_ms INTEGER,
    PRIMARY KEY (worker_id, db)
) STRICT;
