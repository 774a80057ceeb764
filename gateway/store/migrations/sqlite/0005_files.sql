-- Files and words: what is still kept of every job that has ended, and where the archive has its clip.

-- A row is made as its job ends, in the same transaction, whoever ends it.
CREATE TABLE kept (
    job             TEXT    NOT NULL PRIMARY KEY REFERENCES jobs (id),
    caller          TEXT    NOT NULL,
    ended_us        INTEGER NOT NULL,
    archive_due_us  INTEGER,                                   -- when the archive tries (again); NULL: no more
    archive_tries   INTEGER NOT NULL DEFAULT 0,
    archived_us     INTEGER,                                   -- the archive has the clip, whole, under this name:
    object          TEXT,
    content_type    TEXT,
    size_bytes      INTEGER,
    sha256          TEXT    CHECK (length(sha256) = 64),
    words_erased_us INTEGER,
    clip_erased_us  INTEGER,
    files_gone_us   INTEGER,                                   -- what was erased last is off the disk and the archive too
    pages_clean_us  INTEGER,                                   -- and this file was written anew since: see `compact`
    CONSTRAINT archived_means_described
        CHECK ((archived_us IS NULL) = (object IS NULL) AND (archived_us IS NULL) = (size_bytes IS NULL)
               AND (archived_us IS NULL) = (sha256 IS NULL) AND (archived_us IS NULL) = (content_type IS NULL)),
    CONSTRAINT erased_is_not_archived CHECK (clip_erased_us IS NULL OR archive_due_us IS NULL)
) STRICT;

CREATE INDEX kept_to_archive ON kept (archive_due_us) WHERE archive_due_us IS NOT NULL;
CREATE INDEX kept_by_age ON kept (ended_us) WHERE words_erased_us IS NULL OR clip_erased_us IS NULL;
CREATE INDEX kept_by_caller ON kept (caller, ended_us) WHERE words_erased_us IS NULL OR clip_erased_us IS NULL;
CREATE INDEX kept_unfinished ON kept (job)
    WHERE files_gone_us IS NULL AND (words_erased_us IS NOT NULL OR clip_erased_us IS NOT NULL);
CREATE INDEX kept_unclean ON kept (job) WHERE files_gone_us IS NOT NULL AND pages_clean_us IS NULL;

INSERT INTO kept (job, caller, ended_us, archive_due_us)
SELECT id, caller, ended_us, CASE WHEN state = 'completed' AND deleted_us IS NULL THEN ended_us END
FROM jobs
WHERE ended_us IS NOT NULL;

CREATE TRIGGER jobs_end_is_kept_track_of AFTER UPDATE ON jobs WHEN OLD.ended_us IS NULL AND NEW.ended_us IS NOT NULL
BEGIN
    INSERT INTO kept (job, caller, ended_us, archive_due_us)
    VALUES (NEW.id, NEW.caller, NEW.ended_us, CASE WHEN NEW.state = 'completed' THEN NEW.ended_us END);
END;

-- An event's words go with its job's; nothing else of it ever changes.
DROP TRIGGER events_are_kept;

CREATE TRIGGER events_are_kept BEFORE UPDATE ON events
WHEN NEW.seq <> OLD.seq OR NEW.job <> OLD.job OR NEW.caller <> OLD.caller OR NEW.at_us <> OLD.at_us
     OR NEW.type <> OLD.type OR NEW.attempt IS NOT OLD.attempt
     OR NOT EXISTS (SELECT 1 FROM kept WHERE job = OLD.job AND words_erased_us IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'events are only ever appended');
END;
