-- Pictures that callers uploaded to use them by id, and what lists are filtered by.

CREATE TABLE user_files (
    id         TEXT    NOT NULL PRIMARY KEY,
    caller     TEXT    NOT NULL,
    purpose    TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    size_bytes INTEGER NOT NULL CHECK (size_bytes > 0),
    created_us INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    media      TEXT    NOT NULL                                -- the whole Media as JSON: the bytes lie beside the store
) STRICT;

CREATE INDEX user_files_of_caller ON user_files (caller, id);
CREATE INDEX user_files_expire ON user_files (expires_us);

-- A caller's jobs of one model, without those of all others.
CREATE INDEX jobs_of_model ON jobs (caller, model, id) WHERE deleted_us IS NULL;

-- And those that ended without a clip: few, so that a list of them would read nearly all others.
CREATE INDEX jobs_failed_of_caller ON jobs (caller, id)
    WHERE deleted_us IS NULL AND state IN ('failed', 'cancelled', 'expired');

-- A job's metadata, to be found by: its caller's words, and erased with them.
CREATE TABLE job_metadata (
    caller TEXT NOT NULL,
    name   TEXT NOT NULL,
    value  TEXT NOT NULL,
    job    TEXT NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (caller, name, value, job)
) STRICT, WITHOUT ROWID;

CREATE INDEX job_metadata_of_job ON job_metadata (job);

INSERT INTO job_metadata (caller, name, value, job)
SELECT j.caller, m.key, m.value, j.id
FROM jobs j, json_each(j.doc, '$.spec.metadata') m;
