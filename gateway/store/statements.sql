-- Every statement of the store, by name, one purpose each: the same text for SQLite and for PostgreSQL.
-- Law: parameters are :name; BIGINT 0/1 and microseconds; JSON is TEXT; no function, type or cast of one engine alone.

-- name: job_insert
INSERT INTO jobs (id, caller, shard, state, version, purse_usd_micros, reserved_usd_micros, cost_usd_micros,
                  created_us, deadline_us, ended_us, deleted_us, doc)
VALUES (:id, :caller, :shard, :state, :version, :purse_usd_micros, :reserved_usd_micros, :cost_usd_micros,
        :created_us, :deadline_us, :ended_us, :deleted_us, :doc);

-- name: job_save
UPDATE jobs
SET state = :state, version = :version, purse_usd_micros = :purse_usd_micros,
    reserved_usd_micros = :reserved_usd_micros, cost_usd_micros = :cost_usd_micros,
    deadline_us = :deadline_us, ended_us = :ended_us, deleted_us = :deleted_us, doc = :doc
WHERE id = :id AND version = :was
RETURNING version;

-- name: job_read
SELECT doc FROM jobs WHERE id = :id;

-- name: jobs_newest_first
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND id < :after
ORDER BY id DESC
LIMIT :limit;

-- name: jobs_oldest_first
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND id > :after
ORDER BY id
LIMIT :limit;

-- name: work_open
SELECT j.doc, a.doc
FROM jobs j
LEFT JOIN attempts a ON a.job = j.id AND a.no = (SELECT MAX(l.no) FROM attempts l WHERE l.job = j.id)
WHERE j.id IN (SELECT id FROM jobs WHERE ended_us IS NULL UNION SELECT job FROM attempts WHERE ended_us IS NULL)
ORDER BY j.id;

-- name: decision_insert
INSERT INTO decisions (job, decision) VALUES (:job, :decision);

-- name: decision_read
SELECT decision FROM decisions WHERE job = :job;

-- name: idempotency_claim
INSERT INTO idempotency (caller, key, fingerprint, job, expires_us)
VALUES (:caller, :key, :fingerprint, :job, :expires_us)
ON CONFLICT (caller, key) DO UPDATE
SET fingerprint = excluded.fingerprint, job = excluded.job, expires_us = excluded.expires_us
WHERE idempotency.expires_us <= :now_us
RETURNING job;

-- name: idempotency_read
SELECT i.fingerprint, j.doc
FROM idempotency i
JOIN jobs j ON j.id = i.job
WHERE i.caller = :caller AND i.key = :key;

-- name: idempotency_live
SELECT i.fingerprint, j.doc
FROM idempotency i
JOIN jobs j ON j.id = i.job
WHERE i.caller = :caller AND i.key = :key AND i.expires_us > :now_us;

-- name: idempotency_forget
DELETE FROM idempotency WHERE expires_us <= :now_us RETURNING key;

-- name: event_append
INSERT INTO events (job, at_us, type, attempt, data) VALUES (:job, :at_us, :type, :attempt, :data);

-- name: events_read
SELECT job, type, at_us, attempt, data FROM events WHERE job = :job ORDER BY seq;

-- name: attempt_insert
INSERT INTO attempts (id, job, no, state, backend, provider, account, operation_id, price_usd_micros,
                      cost_usd_micros, started_us, accepted_us, ended_us, doc)
VALUES (:id, :job, :no, :state, :backend, :provider, :account, :operation_id, :price_usd_micros,
        :cost_usd_micros, :started_us, :accepted_us, :ended_us, :doc);

-- name: attempt_save
UPDATE attempts
SET state = :state, operation_id = :operation_id, cost_usd_micros = :cost_usd_micros,
    accepted_us = :accepted_us, ended_us = :ended_us, doc = :doc
WHERE id = :id AND job = :job AND state IN (:from_1, :from_2, :from_3)
RETURNING state;

-- name: attempt_state
SELECT state FROM attempts WHERE id = :id;

-- name: attempt_state_by_no
SELECT state FROM attempts WHERE job = :job AND no = :no;

-- name: attempt_read
SELECT doc FROM attempts WHERE id = :id;

-- name: attempts_of_job
SELECT doc FROM attempts WHERE job = :job ORDER BY no;

-- name: attempts_recent
SELECT doc FROM attempts WHERE ended_us IS NOT NULL ORDER BY ended_us DESC LIMIT :limit;

-- name: attempts_since
SELECT doc FROM attempts WHERE started_us >= :since_us ORDER BY started_us;

-- name: feedback_read
SELECT accepted FROM feedback WHERE job = :job;

-- name: feedback_give
INSERT INTO feedback (job, caller, backend, accepted, at_us, note)
VALUES (:job, :caller, :backend, :accepted, :at_us, :note)
ON CONFLICT (job) DO UPDATE
SET accepted = excluded.accepted, at_us = excluded.at_us, note = excluded.note;

-- name: feedback_counts
SELECT backend, SUM(accepted), SUM(1 - accepted) FROM feedback GROUP BY backend ORDER BY backend;

-- name: key_insert
INSERT INTO keys (id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes)
VALUES (:id, :name, :hash, :hint, :created_us, :revoked_us, :purse_usd_micros, :scopes);

-- name: keys_read
SELECT id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes FROM keys ORDER BY created_us, id;

-- name: key_revoke_by_id
UPDATE keys SET revoked_us = :at_us WHERE id = :id AND revoked_us IS NULL
RETURNING id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes;

-- name: key_revoke_by_name
UPDATE keys SET revoked_us = :at_us WHERE name = :name AND revoked_us IS NULL
RETURNING id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes;

-- name: secret_keep
INSERT INTO secrets (purpose, value) VALUES (:purpose, :value) ON CONFLICT (purpose) DO NOTHING;

-- name: secret_read
SELECT value FROM secrets WHERE purpose = :purpose;

-- name: probe_write
INSERT INTO probes (filler) VALUES (:filler);

-- name: probe_take_back
DELETE FROM probes;
