-- As sqlite/schema/0014_transfer.sql, which describes it.
CREATE TABLE transfer (
    state TEXT COLLATE "C" NOT NULL CHECK (state IN ('moved', 'unfinished')),
    db    TEXT COLLATE "C" NOT NULL,
    place TEXT COLLATE "C" NOT NULL,
    at_ms BIGINT NOT NULL
);
