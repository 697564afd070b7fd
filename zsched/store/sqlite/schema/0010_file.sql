-- A restored database gets a new identity, because its counters may have gone on after the backup was made. These are the
-- identities that it had before, oldest first. `made_ms` is when the backup was made; NULL when it does not say.
CREATE TABLE predecessors (
    generation  INTEGER PRIMARY KEY AUTOINCREMENT,
    db          TEXT    NOT NULL UNIQUE,
    made_ms     INTEGER,
    restored_ms INTEGER NOT NULL
) STRICT;
