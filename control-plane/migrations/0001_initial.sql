-- Times are seconds since 1970, UTC.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row per accepted change of the policy set. The highest is the version in force.
CREATE TABLE versions (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    author  TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE TABLE objects (
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    text      TEXT NOT NULL,
    version   INTEGER NOT NULL REFERENCES versions (version),
    PRIMARY KEY (kind, namespace, name)
) STRICT, WITHOUT ROWID;

-- What each version changed; `text` is absent for a deletion.
CREATE TABLE history (
    version   INTEGER NOT NULL REFERENCES versions (version),
    action    TEXT NOT NULL CHECK (action IN ('created', 'updated', 'deleted')),
    kind      TEXT NOT NULL,
    namespace TEXT NOT NULL,
    name      TEXT NOT NULL,
    text      TEXT,
    PRIMARY KEY (version, kind, namespace, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE join_tokens (
    id               TEXT PRIMARY KEY,
    -- SHA-256 of the secret. The secret itself is kept nowhere.
    secret_sha256    BLOB NOT NULL CHECK (length(secret_sha256) = 32),
    namespace        TEXT NOT NULL,
    service_account  TEXT NOT NULL,
    labels           TEXT NOT NULL,
    svid_ttl_seconds INTEGER,
    uses             INTEGER NOT NULL CHECK (uses > 0),
    uses_left        INTEGER NOT NULL CHECK (uses_left >= 0),
    created_by       TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    expires_at       INTEGER NOT NULL,
    revoked          INTEGER NOT NULL DEFAULT 0 CHECK (revoked IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE instances (
    id               TEXT PRIMARY KEY,
    spiffe_id        TEXT NOT NULL,
    labels           TEXT NOT NULL,
    svid_ttl_seconds INTEGER,
    -- The token may have been removed since; the audit keeps its id.
    join_token       TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    -- End of the certificate last issued to it.
    not_after        INTEGER NOT NULL,
    -- Published endpoints, so that a restart of the control plane withdraws nobody's. Absent: none published.
    serves           TEXT,
    evicted_at       INTEGER,
    evicted_by       TEXT,
    evicted_reason   TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX instances_not_after ON instances (not_after);

-- The audit of certificates: one row for each that the CA signed.
CREATE TABLE issuances (
    serial     TEXT PRIMARY KEY,
    spiffe_id  TEXT NOT NULL,
    instance   TEXT REFERENCES instances (id),
    how        TEXT NOT NULL CHECK (how IN ('attest', 'renew', 'operator', 'server')),
    peer       TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after  INTEGER NOT NULL,
    at         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX issuances_instance ON issuances (instance);
CREATE INDEX issuances_not_after ON issuances (not_after);
