-- What submits with an Idempotency-Key stored, so that the same request again is answered and not done again.
--
-- `idem_key` is the SHA-256 of the key, `digest` that of key and request: the request may have secrets, and who has the
-- database alone can't guess them from a digest with a key that it does not know. `jobs` counts those from the first to
-- the last.
CREATE TABLE idempotency (
    caller    TEXT    NOT NULL,
    idem_key  BLOB    NOT NULL,
    digest    BLOB    NOT NULL,
    first_job INTEGER NOT NULL,
    last_job  INTEGER NOT NULL,
    jobs      INTEGER NOT NULL,
    made_ms   INTEGER NOT NULL,
    PRIMARY KEY (caller, idem_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_by_age ON idempotency (made_ms);
