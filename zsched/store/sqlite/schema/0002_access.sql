-- Who may come in.

-- Tokens of callers. Only the SHA-256 of a token's secret is kept. `scopes` are words with a space between them.
CREATE TABLE tokens (
    token_id   TEXT    PRIMARY KEY,
    digest     BLOB    NOT NULL,
    scopes     TEXT    NOT NULL,
    note       TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

-- Public keys of workers, as 40 characters of Z85. A worker has one at a time; a revoked one never comes back.
CREATE TABLE keys (
    public_key TEXT    PRIMARY KEY,
    worker_id  TEXT    NOT NULL,
    created_ms INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX keys_of_worker ON keys (worker_id) WHERE revoked_ms IS NULL;
