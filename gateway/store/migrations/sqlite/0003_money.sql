-- Keys with terms, and what every key has spent: kept by triggers, so that whatever writes a job counts it.

ALTER TABLE keys ADD COLUMN test INTEGER NOT NULL DEFAULT 0 CHECK (test IN (0, 1));
ALTER TABLE keys ADD COLUMN expires_us INTEGER;
ALTER TABLE keys ADD COLUMN old_hash TEXT CHECK (length(old_hash) = 64);
ALTER TABLE keys ADD COLUMN old_hash_until_us INTEGER;
ALTER TABLE keys ADD COLUMN budget_day_usd_micros INTEGER CHECK (budget_day_usd_micros >= 0);
ALTER TABLE keys ADD COLUMN budget_month_usd_micros INTEGER CHECK (budget_month_usd_micros >= 0);
ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]';
ALTER TABLE keys ADD COLUMN providers TEXT NOT NULL DEFAULT '[]';
ALTER TABLE keys ADD COLUMN max_in_flight INTEGER CHECK (max_in_flight >= 1);
ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER CHECK (requests_per_minute >= 1);
ALTER TABLE keys ADD COLUMN keep_days INTEGER CHECK (keep_days >= 0);

-- What a job is counted under.
DROP TRIGGER jobs_version_rises;
ALTER TABLE jobs ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN backend TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN seconds INTEGER NOT NULL DEFAULT 0;
UPDATE jobs
SET model = json_extract(doc, '$.spec.model'), backend = json_extract(doc, '$.routing.backend'),
    seconds = json_extract(doc, '$.seconds');

CREATE TRIGGER jobs_version_rises BEFORE UPDATE ON jobs WHEN NEW.version <> OLD.version + 1
BEGIN
    SELECT RAISE(ABORT, 'a saved job rises by exactly one version');                                       -- I8
END;

-- How many jobs of a caller have not ended.
CREATE INDEX jobs_unfinished_of_caller ON jobs (caller) WHERE ended_us IS NULL;

-- What budgets are held against: of all jobs that a caller has made on a day, their cost, or what is reserved until it
-- is known. A job counts to the day on which it was made, whenever its cost becomes known.
CREATE TABLE spend (
    caller     TEXT    NOT NULL,
    day        INTEGER NOT NULL,                               -- UTC days since 1970
    usd_micros INTEGER NOT NULL,
    PRIMARY KEY (caller, day)
) STRICT, WITHOUT ROWID;

CREATE INDEX spend_by_day ON spend (day);

-- The same and more, for people. A job counts under the backend that it went to last, money under the one that was paid.
CREATE TABLE usage (
    caller              TEXT    NOT NULL,
    day                 INTEGER NOT NULL,
    model               TEXT    NOT NULL,                      -- as the caller named it
    backend             TEXT    NOT NULL,
    jobs                INTEGER NOT NULL,
    completed           INTEGER NOT NULL,
    failed              INTEGER NOT NULL,                      -- ended without a clip, for whatever reason
    seconds             INTEGER NOT NULL,                      -- of the clips of completed jobs
    cost_usd_micros     INTEGER NOT NULL,                      -- of attempts that have ended
    reserved_usd_micros INTEGER NOT NULL,                      -- for open attempts, and for jobs that have none yet
    PRIMARY KEY (caller, day, model, backend)
) STRICT, WITHOUT ROWID;

CREATE INDEX usage_by_day ON usage (day);

INSERT INTO spend (caller, day, usd_micros)
SELECT caller, created_us / 86400000000, SUM(COALESCE(cost_usd_micros, reserved_usd_micros))
FROM jobs
GROUP BY 1, 2;

INSERT INTO usage (caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros, reserved_usd_micros)
SELECT caller, day, model, backend, SUM(jobs), SUM(completed), SUM(failed), SUM(seconds), SUM(cost), SUM(reserved)
FROM (
    SELECT caller, created_us / 86400000000 AS day, model, backend, 1 AS jobs, state = 'completed' AS completed,
           state IN ('failed', 'cancelled', 'expired') AS failed,
           CASE state WHEN 'completed' THEN seconds ELSE 0 END AS seconds,
           0 AS cost, CASE state WHEN 'queued' THEN reserved_usd_micros ELSE 0 END AS reserved
    FROM jobs
    UNION ALL
    SELECT j.caller, j.created_us / 86400000000, j.model, a.backend, 0, 0, 0, 0,
           COALESCE(a.cost_usd_micros, CASE WHEN a.ended_us IS NULL THEN 0 ELSE a.price_usd_micros END),
           CASE WHEN a.cost_usd_micros IS NULL AND a.ended_us IS NULL THEN a.price_usd_micros ELSE 0 END
    FROM attempts a
    JOIN jobs j ON j.id = a.job
)
GROUP BY 1, 2, 3, 4;

CREATE TRIGGER jobs_are_counted AFTER INSERT ON jobs
BEGIN
    INSERT INTO spend (caller, day, usd_micros)
    VALUES (NEW.caller, NEW.created_us / 86400000000, COALESCE(NEW.cost_usd_micros, NEW.reserved_usd_micros))
    ON CONFLICT (caller, day) DO UPDATE SET usd_micros = usd_micros + excluded.usd_micros;

    INSERT INTO usage (caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros,
                       reserved_usd_micros)
    VALUES (NEW.caller, NEW.created_us / 86400000000, NEW.model, NEW.backend, 1, 0, 0, 0, 0, NEW.reserved_usd_micros)
    ON CONFLICT (caller, day, model, backend) DO UPDATE
    SET jobs = jobs + 1, reserved_usd_micros = reserved_usd_micros + excluded.reserved_usd_micros;
END;

CREATE TRIGGER jobs_spend_is_kept AFTER UPDATE ON jobs
WHEN COALESCE(NEW.cost_usd_micros, NEW.reserved_usd_micros) <> COALESCE(OLD.cost_usd_micros, OLD.reserved_usd_micros)
BEGIN
    INSERT INTO spend (caller, day, usd_micros)
    VALUES (NEW.caller, NEW.created_us / 86400000000,
            COALESCE(NEW.cost_usd_micros, NEW.reserved_usd_micros)
            - COALESCE(OLD.cost_usd_micros, OLD.reserved_usd_micros))
    ON CONFLICT (caller, day) DO UPDATE SET usd_micros = usd_micros + excluded.usd_micros;
END;

CREATE TRIGGER jobs_usage_is_kept AFTER UPDATE ON jobs
WHEN NEW.state <> OLD.state OR NEW.backend <> OLD.backend
     OR (NEW.state = 'queued' AND NEW.reserved_usd_micros <> OLD.reserved_usd_micros)
BEGIN
    UPDATE usage
    SET jobs = jobs - 1,
        completed = completed - (OLD.state = 'completed'),
        failed = failed - (OLD.state IN ('failed', 'cancelled', 'expired')),
        seconds = seconds - CASE OLD.state WHEN 'completed' THEN OLD.seconds ELSE 0 END,
        reserved_usd_micros = reserved_usd_micros - CASE OLD.state WHEN 'queued' THEN OLD.reserved_usd_micros ELSE 0 END
    WHERE caller = OLD.caller AND day = OLD.created_us / 86400000000 AND model = OLD.model AND backend = OLD.backend;

    INSERT INTO usage (caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros,
                       reserved_usd_micros)
    VALUES (NEW.caller, NEW.created_us / 86400000000, NEW.model, NEW.backend, 1, NEW.state = 'completed',
            NEW.state IN ('failed', 'cancelled', 'expired'),
            CASE NEW.state WHEN 'completed' THEN NEW.seconds ELSE 0 END, 0,
            CASE NEW.state WHEN 'queued' THEN NEW.reserved_usd_micros ELSE 0 END)
    ON CONFLICT (caller, day, model, backend) DO UPDATE
    SET jobs = jobs + 1, completed = completed + excluded.completed, failed = failed + excluded.failed,
        seconds = seconds + excluded.seconds, reserved_usd_micros = reserved_usd_micros + excluded.reserved_usd_micros;
END;

CREATE TRIGGER attempts_are_counted AFTER INSERT ON attempts
WHEN COALESCE(NEW.cost_usd_micros, NEW.price_usd_micros) <> 0
BEGIN
    INSERT INTO usage (caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros,
                       reserved_usd_micros)
    SELECT caller, created_us / 86400000000, model, NEW.backend, 0, 0, 0, 0,
           COALESCE(NEW.cost_usd_micros, CASE WHEN NEW.ended_us IS NULL THEN 0 ELSE NEW.price_usd_micros END),
           CASE WHEN NEW.cost_usd_micros IS NULL AND NEW.ended_us IS NULL THEN NEW.price_usd_micros ELSE 0 END
    FROM jobs
    WHERE id = NEW.job
    ON CONFLICT (caller, day, model, backend) DO UPDATE
    SET cost_usd_micros = cost_usd_micros + excluded.cost_usd_micros,
        reserved_usd_micros = reserved_usd_micros + excluded.reserved_usd_micros;
END;

CREATE TRIGGER attempts_money_is_kept AFTER UPDATE ON attempts
WHEN NEW.cost_usd_micros IS NOT OLD.cost_usd_micros OR (NEW.ended_us IS NULL) <> (OLD.ended_us IS NULL)
BEGIN
    INSERT INTO usage (caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros,
                       reserved_usd_micros)
    SELECT caller, created_us / 86400000000, model, NEW.backend, 0, 0, 0, 0,
           COALESCE(NEW.cost_usd_micros, CASE WHEN NEW.ended_us IS NULL THEN 0 ELSE NEW.price_usd_micros END)
           - COALESCE(OLD.cost_usd_micros, CASE WHEN OLD.ended_us IS NULL THEN 0 ELSE OLD.price_usd_micros END),
           CASE WHEN NEW.cost_usd_micros IS NULL AND NEW.ended_us IS NULL THEN NEW.price_usd_micros ELSE 0 END
           - CASE WHEN OLD.cost_usd_micros IS NULL AND OLD.ended_us IS NULL THEN OLD.price_usd_micros ELSE 0 END
    FROM jobs
    WHERE id = NEW.job
    ON CONFLICT (caller, day, model, backend) DO UPDATE
    SET cost_usd_micros = cost_usd_micros + excluded.cost_usd_micros,
        reserved_usd_micros = reserved_usd_micros + excluded.reserved_usd_micros;
END;
