-- The epoch of the scheduler that may write, in one row. A scheduler that takes over raises it.
CREATE TABLE epoch (epoch INTEGER NOT NULL) STRICT;
INSERT INTO epoch SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'schedulers';
-- The schedulers of this database that run: the active one and its standbys, as each publishes itself.
CREATE TABLE instances (
    instance   TEXT    PRIMARY KEY,
    role       TEXT    NOT NULL CHECK (role IN ('active', 'standby')),
    host       TEXT    NOT NULL,
    pid        INTEGER NOT NULL,
    version    TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    endpoint   TEXT    NOT NULL,
    public_key TEXT    NOT NULL,
    started_ms INTEGER NOT NULL,
    seen_ms    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A value that secret.key has sealed: a scheduler that can't open it has another key, and must not take over.
ALTER TABLE identity ADD COLUMN key_check TEXT;
