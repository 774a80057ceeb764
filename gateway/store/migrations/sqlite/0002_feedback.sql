-- What callers said of the clips they got: kept, or not. One row a job, the last word counts.

CREATE TABLE feedback (
    job      TEXT    NOT NULL PRIMARY KEY REFERENCES jobs (id),
    caller   TEXT    NOT NULL,
    backend  TEXT    NOT NULL,                                 -- the one that made the clip
    accepted INTEGER NOT NULL CHECK (accepted IN (0, 1)),
    at_us    INTEGER NOT NULL,
    note     TEXT    CHECK (length(note) <= 500)
) STRICT;

CREATE INDEX feedback_of_backend ON feedback (backend, accepted);

CREATE TRIGGER feedback_is_on_a_clip_of_ones_own BEFORE INSERT ON feedback
BEGIN
    SELECT RAISE(ABORT, 'feedback is given on a completed job, by its own caller')
    WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE id = NEW.job AND caller = NEW.caller AND state = 'completed');
END;
