-- Jobs of test keys: made by the sandbox, never worth a cent, and told apart from the rest wherever figures are made.

ALTER TABLE jobs ADD COLUMN test INTEGER NOT NULL DEFAULT 0 CHECK (
    test = 0 OR (test = 1 AND reserved_usd_micros = 0 AND COALESCE(cost_usd_micros, 0) = 0)
);

ALTER TABLE attempts ADD COLUMN test INTEGER NOT NULL DEFAULT 0 CHECK (
    test = 0 OR (test = 1 AND price_usd_micros = 0 AND COALESCE(cost_usd_micros, 0) = 0)
);

-- Health is rebuilt from the last attempts of live keys, however many test keys have made since.
DROP INDEX attempts_ended;
CREATE INDEX attempts_ended ON attempts (test, ended_us) WHERE ended_us IS NOT NULL;

CREATE TRIGGER attempts_are_of_their_jobs_kind BEFORE INSERT ON attempts
BEGIN
    SELECT RAISE(ABORT, 'a test job has test attempts only, and a live job none')
    WHERE NEW.test <> (SELECT test FROM jobs WHERE id = NEW.job);
END;
