-- Why no scheduler may use this database, in one row; no row in a database that is in use. 'moved': all its rows were
-- copied into another database, which is used instead. 'unfinished': rows of another database are being copied into it.
-- `db` is the identity of the database that moves, `place` the address of the other one.
CREATE TABLE transfer (
    state TEXT    NOT NULL CHECK (state IN ('moved', 'unfinished')),
    db    TEXT    NOT NULL,
    place TEXT    NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
