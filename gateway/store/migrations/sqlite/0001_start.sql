-- The first tables. Law: an invariant that a constraint can hold stands here, whatever the code above does.
-- Files in this folder only ever go forward: a change is a new number, a released file is never edited.

CREATE TABLE filmgate_migrations (
    number     INTEGER PRIMARY KEY,
    name       TEXT    NOT NULL,
    applied_us INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id               TEXT    NOT NULL PRIMARY KEY,
    name             TEXT    NOT NULL CHECK (name <> ''),
    hash             TEXT    NOT NULL UNIQUE CHECK (length(hash) = 64),
    hint             TEXT    NOT NULL,
    created_us       INTEGER NOT NULL,
    revoked_us       INTEGER,
    purse_usd_micros INTEGER CHECK (purse_usd_micros >= 0),
    scopes           TEXT    NOT NULL
) STRICT;

-- A name can be given again once its key is revoked.
CREATE UNIQUE INDEX keys_name ON keys (name) WHERE revoked_us IS NULL;

CREATE TABLE jobs (
    id                  TEXT    NOT NULL PRIMARY KEY,
    caller              TEXT    NOT NULL,
    shard               INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 255),
    state               TEXT    NOT NULL
                        CHECK (state IN ('queued', 'active', 'completed', 'failed', 'cancelled', 'expired')),
    version             INTEGER NOT NULL CHECK (version >= 0),
    purse_usd_micros    INTEGER NOT NULL CHECK (purse_usd_micros >= 0),
    reserved_usd_micros INTEGER NOT NULL,
    cost_usd_micros     INTEGER CHECK (cost_usd_micros >= 0), -- may exceed the purse: a vendor's bill is recorded as it is
    created_us          INTEGER NOT NULL,
    deadline_us         INTEGER NOT NULL,
    ended_us            INTEGER,
    deleted_us          INTEGER,
    doc                 TEXT    NOT NULL,                     -- the whole Job as JSON
    CONSTRAINT reserved_within_purse CHECK (reserved_usd_micros BETWEEN 0 AND purse_usd_micros),          -- I7
    CONSTRAINT ended_means_terminal CHECK ((ended_us IS NULL) = (state IN ('queued', 'active'))),
    CONSTRAINT deleted_after_the_end CHECK (deleted_us IS NULL OR ended_us IS NOT NULL)
) STRICT;

CREATE INDEX jobs_of_caller ON jobs (caller, id) WHERE deleted_us IS NULL;
CREATE INDEX jobs_unfinished ON jobs (id) WHERE ended_us IS NULL;

-- Apart from `jobs`, because a decision is the larger part of a job and never changes: a row that is saved five times
-- would write it five times.
CREATE TABLE decisions (
    job      TEXT NOT NULL PRIMARY KEY REFERENCES jobs (id),
    decision TEXT NOT NULL
) STRICT;

CREATE TABLE attempts (
    id               TEXT    NOT NULL PRIMARY KEY,
    job              TEXT    NOT NULL REFERENCES jobs (id),
    no               INTEGER NOT NULL CHECK (no >= 1),
    state            TEXT    NOT NULL
                     CHECK (state IN ('submitting', 'running', 'unknown', 'succeeded', 'failed', 'cancelled',
                                      'not_sent', 'rejected', 'disproved', 'written_off')),
    backend          TEXT    NOT NULL,
    provider         TEXT    NOT NULL,
    account          TEXT    NOT NULL,
    operation_id     TEXT,
    price_usd_micros INTEGER NOT NULL CHECK (price_usd_micros >= 0),
    cost_usd_micros  INTEGER CHECK (cost_usd_micros >= 0),
    started_us       INTEGER NOT NULL,
    accepted_us      INTEGER,
    ended_us         INTEGER,
    doc              TEXT    NOT NULL,                        -- the whole Attempt as JSON
    CONSTRAINT attempts_no UNIQUE (job, no),
    CONSTRAINT ended_means_not_open CHECK ((ended_us IS NULL) = (state IN ('submitting', 'running', 'unknown'))),
    CONSTRAINT followed_means_handle
        CHECK (state NOT IN ('running', 'succeeded', 'failed', 'cancelled') OR operation_id IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX attempts_operation_id ON attempts (provider, account, operation_id)
    WHERE operation_id IS NOT NULL;                                                                        -- I6
CREATE UNIQUE INDEX attempts_one_open ON attempts (job) WHERE ended_us IS NULL;                            -- I5
CREATE INDEX attempts_ended ON attempts (ended_us) WHERE ended_us IS NOT NULL;
CREATE INDEX attempts_started ON attempts (started_us);

-- `seq` is the row's number, given by SQLite; nothing is ever deleted, so it only rises without AUTOINCREMENT.
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY,
    job     TEXT    NOT NULL REFERENCES jobs (id),
    at_us   INTEGER NOT NULL,
    type    TEXT    NOT NULL,
    attempt TEXT,
    data    TEXT    NOT NULL
) STRICT;

CREATE INDEX events_of_job ON events (job, seq);
CREATE UNIQUE INDEX events_one_end ON events (job)
    WHERE type IN ('job.completed', 'job.failed', 'job.cancelled', 'job.expired');                         -- I2

CREATE TABLE idempotency (
    caller      TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    job         TEXT    NOT NULL,
    expires_us  INTEGER NOT NULL,
    PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_expires ON idempotency (expires_us);

CREATE TABLE secrets (
    purpose TEXT NOT NULL PRIMARY KEY,
    value   BLOB NOT NULL
) STRICT;

-- Written and taken back to learn whether there is room again.
CREATE TABLE probes (
    filler BLOB NOT NULL
) STRICT;

CREATE TRIGGER jobs_version_rises BEFORE UPDATE ON jobs WHEN NEW.version <> OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'a saved job rises by exactly one version');                                       -- I8
END;

CREATE TRIGGER jobs_end_is_kept BEFORE UPDATE ON jobs WHEN OLD.ended_us IS NOT NULL AND NEW.state <> OLD.state
BEGIN
    SELECT RAISE(ABORT, 'an ended job keeps its end');                                                     -- I2
END;

CREATE TRIGGER jobs_end_has_event BEFORE UPDATE ON jobs WHEN OLD.ended_us IS NULL AND NEW.ended_us IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a job ends together with its one terminal event')                                 -- I2
    WHERE NOT EXISTS (SELECT 1 FROM events WHERE job = NEW.id AND type = 'job.' || NEW.state);
END;

CREATE TRIGGER events_are_kept BEFORE UPDATE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are only ever appended');
END;

CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN
    SELECT RAISE(ABORT, 'events are only ever appended');
END;
