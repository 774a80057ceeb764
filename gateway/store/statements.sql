-- Every statement of the store, by name, one purpose each: the same text for SQLite and for PostgreSQL.
-- Law: parameters are :name; BIGINT 0/1 and microseconds; JSON is TEXT; no function, type or cast of one engine alone.

-- name: job_insert
INSERT INTO jobs (id, caller, test, shard, state, version, purse_usd_micros, reserved_usd_micros, cost_usd_micros,
                  created_us, deadline_us, ended_us, deleted_us, model, backend, seconds, doc)
VALUES (:id, :caller, :test, :shard, :state, :version, :purse_usd_micros, :reserved_usd_micros, :cost_usd_micros,
        :created_us, :deadline_us, :ended_us, :deleted_us, :model, :backend, :seconds, :doc);

-- name: job_save
UPDATE jobs
SET state = :state, version = :version, purse_usd_micros = :purse_usd_micros,
    reserved_usd_micros = :reserved_usd_micros, cost_usd_micros = :cost_usd_micros,
    deadline_us = :deadline_us, ended_us = :ended_us, deleted_us = :deleted_us,
    backend = :backend, seconds = :seconds, doc = :doc
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
INSERT INTO events (job, caller, at_us, type, attempt, data)
VALUES (:job, :caller, :at_us, :type, :attempt, :data)
RETURNING seq;

-- name: events_read
SELECT job, type, at_us, attempt, data FROM events WHERE job = :job ORDER BY seq;

-- name: events_of_caller
-- its types are those of the index of this name, so that it is used
SELECT e.seq, e.type, e.at_us, e.attempt, j.doc
FROM events e
JOIN jobs j ON j.id = e.job
WHERE e.caller = :caller AND e.seq > :after
  AND e.type IN ('job.accepted', 'job.attempt_started', 'job.completed', 'job.failed', 'job.cancelled', 'job.expired')
ORDER BY e.seq
LIMIT :limit;

-- name: events_of_job_after
SELECT e.seq, e.type, e.at_us, e.attempt, j.doc
FROM events e
JOIN jobs j ON j.id = e.job
WHERE e.job = :job AND e.seq > :after
  AND e.type IN ('job.accepted', 'job.attempt_started', 'job.completed', 'job.failed', 'job.cancelled', 'job.expired')
ORDER BY e.seq
LIMIT :limit;

-- name: event_last_of_caller
SELECT COALESCE(MAX(seq), 0)
FROM events
WHERE caller = :caller
  AND type IN ('job.accepted', 'job.attempt_started', 'job.completed', 'job.failed', 'job.cancelled', 'job.expired');

-- name: attempt_insert
INSERT INTO attempts (id, job, test, no, state, backend, provider, account, operation_id, price_usd_micros,
                      cost_usd_micros, started_us, accepted_us, ended_us, doc)
VALUES (:id, :job, :test, :no, :state, :backend, :provider, :account, :operation_id, :price_usd_micros,
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
SELECT doc FROM attempts WHERE test = 0 AND ended_us IS NOT NULL ORDER BY ended_us DESC LIMIT :limit;

-- name: attempts_since
SELECT doc FROM attempts WHERE test = 0 AND started_us >= :since_us ORDER BY started_us;

-- name: feedback_read
SELECT accepted FROM feedback WHERE job = :job;

-- name: feedback_give
INSERT INTO feedback (job, caller, backend, accepted, at_us, note)
VALUES (:job, :caller, :backend, :accepted, :at_us, :note)
ON CONFLICT (job) DO UPDATE
SET accepted = excluded.accepted, at_us = excluded.at_us, note = excluded.note;

-- name: feedback_counts
SELECT f.backend, SUM(f.accepted), SUM(1 - f.accepted)
FROM feedback f
JOIN jobs j ON j.id = f.job
WHERE j.test = 0
GROUP BY f.backend
ORDER BY f.backend;

-- name: key_insert
INSERT INTO keys (id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes, test, expires_us, old_hash,
                  old_hash_until_us, budget_day_usd_micros, budget_month_usd_micros, models, providers, max_in_flight,
                  requests_per_minute, keep_days)
VALUES (:id, :name, :hash, :hint, :created_us, :revoked_us, :purse_usd_micros, :scopes, :test, :expires_us, :old_hash,
        :old_hash_until_us, :budget_day_usd_micros, :budget_month_usd_micros, :models, :providers, :max_in_flight,
        :requests_per_minute, :keep_days);

-- name: keys_read
SELECT id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes, test, expires_us, old_hash, old_hash_until_us,
       budget_day_usd_micros, budget_month_usd_micros, models, providers, max_in_flight, requests_per_minute, keep_days
FROM keys
ORDER BY created_us, id;

-- name: key_read
SELECT id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes, test, expires_us, old_hash, old_hash_until_us,
       budget_day_usd_micros, budget_month_usd_micros, models, providers, max_in_flight, requests_per_minute, keep_days
FROM keys
WHERE id = :id;

-- name: key_change
UPDATE keys
SET name = :name, hash = :hash, hint = :hint, purse_usd_micros = :purse_usd_micros, scopes = :scopes,
    expires_us = :expires_us, old_hash = :old_hash, old_hash_until_us = :old_hash_until_us,
    budget_day_usd_micros = :budget_day_usd_micros, budget_month_usd_micros = :budget_month_usd_micros,
    models = :models, providers = :providers, max_in_flight = :max_in_flight,
    requests_per_minute = :requests_per_minute, keep_days = :keep_days
WHERE id = :id;

-- name: key_revoke_by_id
UPDATE keys SET revoked_us = :at_us WHERE id = :id AND revoked_us IS NULL
RETURNING id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes, test, expires_us, old_hash, old_hash_until_us,
          budget_day_usd_micros, budget_month_usd_micros, models, providers, max_in_flight, requests_per_minute, keep_days;

-- name: key_revoke_by_name
UPDATE keys SET revoked_us = :at_us WHERE name = :name AND revoked_us IS NULL
RETURNING id, name, hash, hint, created_us, revoked_us, purse_usd_micros, scopes, test, expires_us, old_hash, old_hash_until_us,
          budget_day_usd_micros, budget_month_usd_micros, models, providers, max_in_flight, requests_per_minute, keep_days;

-- name: key_room
-- nothing for a key without such limits
SELECT k.budget_day_usd_micros, k.budget_month_usd_micros, k.max_in_flight,
       COALESCE((SELECT SUM(s.usd_micros) FROM spend s WHERE s.caller = k.id AND s.day = :day), 0),
       COALESCE((SELECT SUM(s.usd_micros) FROM spend s
                 WHERE s.caller = k.id AND s.day BETWEEN :month_from AND :month_to), 0),
       CASE WHEN k.max_in_flight IS NULL THEN 0
            ELSE (SELECT COUNT(*) FROM jobs j WHERE j.caller = k.id AND j.ended_us IS NULL) END
FROM keys k
WHERE k.id = :caller
  AND (k.budget_day_usd_micros IS NOT NULL OR k.budget_month_usd_micros IS NOT NULL OR k.max_in_flight IS NOT NULL);

-- name: job_counted
SELECT COALESCE(cost_usd_micros, reserved_usd_micros) FROM jobs WHERE id = :id;

-- name: spend_read
SELECT caller, COALESCE(SUM(CASE WHEN day = :day THEN usd_micros END), 0), SUM(usd_micros)
FROM spend
WHERE day BETWEEN :month_from AND :month_to
GROUP BY caller;

-- name: spend_of_caller
SELECT COALESCE(SUM(CASE WHEN day = :day THEN usd_micros END), 0), COALESCE(SUM(usd_micros), 0)
FROM spend
WHERE caller = :caller AND day BETWEEN :month_from AND :month_to;

-- name: usage_of_caller
SELECT caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros, reserved_usd_micros
FROM usage
WHERE caller = :caller AND day BETWEEN :first AND :last;

-- name: usage_of_all
SELECT caller, day, model, backend, jobs, completed, failed, seconds, cost_usd_micros, reserved_usd_micros
FROM usage
WHERE day BETWEEN :first AND :last;

-- name: spend_differs
-- totals that are not the sum of their jobs
SELECT caller, day, SUM(total), SUM(jobs)
FROM (SELECT caller, day, usd_micros AS total, 0 AS jobs FROM spend
      UNION ALL
      SELECT caller, created_us / 86400000000, 0, COALESCE(cost_usd_micros, reserved_usd_micros) FROM jobs) AS both
GROUP BY caller, day
HAVING SUM(total) <> SUM(jobs)
ORDER BY caller, day;

-- name: usage_differs
-- likewise, of a day's jobs, and of the money of their attempts
SELECT caller, day, SUM(total), SUM(jobs)
FROM (SELECT caller, day, cost_usd_micros + reserved_usd_micros AS total, 0 AS jobs FROM usage
      UNION ALL
      SELECT caller, created_us / 86400000000, 0, reserved_usd_micros FROM jobs WHERE state = 'queued'
      UNION ALL
      SELECT j.caller, j.created_us / 86400000000, 0, COALESCE(a.cost_usd_micros, a.price_usd_micros)
      FROM attempts a
      JOIN jobs j ON j.id = a.job) AS both
GROUP BY caller, day
HAVING SUM(total) <> SUM(jobs)
ORDER BY caller, day;

-- name: counts_differ
SELECT caller, day, SUM(total), SUM(jobs)
FROM (SELECT caller, day, jobs AS total, 0 AS jobs FROM usage
      UNION ALL
      SELECT caller, created_us / 86400000000, 0, 1 FROM jobs) AS both
GROUP BY caller, day
HAVING SUM(total) <> SUM(jobs)
ORDER BY caller, day;

-- name: secret_keep
INSERT INTO secrets (purpose, value) VALUES (:purpose, :value) ON CONFLICT (purpose) DO NOTHING;

-- name: secret_read
SELECT value FROM secrets WHERE purpose = :purpose;

-- name: probe_write
INSERT INTO probes (filler) VALUES (:filler);

-- name: probe_take_back
DELETE FROM probes;

-- name: webhook_insert
INSERT INTO webhooks (id, caller, url, types, created_us) VALUES (:id, :caller, :url, :types, :created_us);

-- name: webhooks_of_caller
SELECT id, caller, url, types, created_us, disabled_us, disabled_why
FROM webhooks
WHERE caller = :caller AND deleted_us IS NULL
ORDER BY id;

-- name: webhook_read
SELECT id, caller, url, types, created_us, disabled_us, disabled_why
FROM webhooks
WHERE id = :id AND deleted_us IS NULL;

-- name: webhook_delete
UPDATE webhooks SET deleted_us = :at_us WHERE id = :id AND caller = :caller AND deleted_us IS NULL RETURNING id;

-- name: webhook_disable
UPDATE webhooks SET disabled_us = :at_us, disabled_why = :why WHERE id = :id AND disabled_us IS NULL RETURNING id;

-- name: webhook_secret_insert
INSERT INTO webhook_secrets (owner, secret, made_us) VALUES (:owner, :secret, :made_us) ON CONFLICT DO NOTHING;

-- name: webhook_secret_drop_former
DELETE FROM webhook_secrets WHERE owner = :owner AND until_us IS NOT NULL;

-- name: webhook_secret_replace
UPDATE webhook_secrets SET until_us = :until_us WHERE owner = :owner AND until_us IS NULL;

-- name: webhook_secrets_live
SELECT secret FROM webhook_secrets
WHERE owner = :owner AND (until_us IS NULL OR until_us > :now_us)
ORDER BY CASE WHEN until_us IS NULL THEN 0 ELSE 1 END;

-- name: outbox_put
INSERT INTO outbox (id, event, type, caller, job, webhook, target, url, style, state, tries, step, due_us, created_us)
VALUES (:id, :event, :type, :caller, :job, :webhook, :target, :url, :style, 'due', 0, 0, :due_us, :created_us);

-- name: outbox_lines
SELECT target, MIN(caller), MIN(due_us) FROM outbox WHERE due_us IS NOT NULL GROUP BY target;

-- name: outbox_due
SELECT id, event, type, caller, job, webhook, target, url, style, state, tries, step, due_us, created_us, ended_us
FROM outbox
WHERE target = :target AND due_us <= :now_us
ORDER BY due_us
LIMIT :limit;

-- name: outbox_read
SELECT id, event, type, caller, job, webhook, target, url, style, state, tries, step, due_us, created_us, ended_us
FROM outbox
WHERE id = :id;

-- name: outbox_of_job
SELECT id, event, type, caller, job, webhook, target, url, style, state, tries, step, due_us, created_us, ended_us
FROM outbox
WHERE job = :job AND id < :after
ORDER BY id DESC
LIMIT :limit;

-- name: outbox_of_webhook
SELECT id, event, type, caller, job, webhook, target, url, style, state, tries, step, due_us, created_us, ended_us
FROM outbox
WHERE webhook = :webhook AND id < :after
ORDER BY id DESC
LIMIT :limit;

-- name: outbox_tried
UPDATE outbox
SET state = :state, tries = :tries, step = :step, due_us = :due_us, ended_us = :ended_us
WHERE id = :id AND tries = :was
RETURNING id;

-- name: outbox_again
UPDATE outbox SET state = 'due', step = 0, due_us = :now_us, ended_us = NULL WHERE id = :id RETURNING id;

-- name: outbox_disable
UPDATE outbox SET state = 'disabled', due_us = NULL, ended_us = :at_us
WHERE webhook = :webhook AND due_us IS NOT NULL
RETURNING id;

-- name: outbox_forget
DELETE FROM outbox WHERE ended_us < :before_us RETURNING id;

-- name: try_insert
INSERT INTO outbox_tries (delivery, no, at_us, ms, status, error)
VALUES (:delivery, :no, :at_us, :ms, :status, :error);

-- name: tries_of
SELECT no, at_us, ms, status, error FROM outbox_tries WHERE delivery = :delivery ORDER BY no;

-- name: kept_read
SELECT object, size_bytes, sha256, content_type, archived_us, archive_due_us, archive_tries, words_erased_us,
       clip_erased_us, files_gone_us
FROM kept
WHERE job = :job;

-- name: kept_erase
UPDATE kept
SET words_erased_us = COALESCE(words_erased_us, CAST(:words_us AS BIGINT)),
    clip_erased_us = COALESCE(clip_erased_us, CAST(:clip_us AS BIGINT)),
    archive_due_us = CASE WHEN CAST(:clip_us AS BIGINT) IS NULL THEN archive_due_us END,
    files_gone_us = NULL, pages_clean_us = NULL
WHERE job = :job;

-- name: kept_unfinished
SELECT job FROM kept
WHERE files_gone_us IS NULL AND (words_erased_us IS NOT NULL OR clip_erased_us IS NOT NULL)
ORDER BY job
LIMIT :limit;

-- name: kept_removed
UPDATE kept
SET files_gone_us = :at_us,
    archived_us = CASE WHEN clip_erased_us IS NULL THEN archived_us END,
    object = CASE WHEN clip_erased_us IS NULL THEN object END,
    content_type = CASE WHEN clip_erased_us IS NULL THEN content_type END,
    size_bytes = CASE WHEN clip_erased_us IS NULL THEN size_bytes END,
    sha256 = CASE WHEN clip_erased_us IS NULL THEN sha256 END
WHERE job = :job;

-- name: kept_outlived
-- the words of its index, so that it is used
SELECT job,
       CASE WHEN words_erased_us IS NULL AND ended_us < :words_before_us THEN 1 ELSE 0 END,
       CASE WHEN clip_erased_us IS NULL AND ended_us < :clips_before_us THEN 1 ELSE 0 END
FROM kept
WHERE ended_us < :before_us
  AND (words_erased_us IS NULL OR clip_erased_us IS NULL)
  AND ((words_erased_us IS NULL AND ended_us < :words_before_us)
       OR (clip_erased_us IS NULL AND ended_us < :clips_before_us))
ORDER BY ended_us
LIMIT :limit;

-- name: kept_outlived_of_caller
SELECT job,
       CASE WHEN words_erased_us IS NULL AND ended_us < :words_before_us THEN 1 ELSE 0 END,
       CASE WHEN clip_erased_us IS NULL AND ended_us < :clips_before_us THEN 1 ELSE 0 END
FROM kept
WHERE caller = :caller AND ended_us < :before_us
  AND (words_erased_us IS NULL OR clip_erased_us IS NULL)
  AND ((words_erased_us IS NULL AND ended_us < :words_before_us)
       OR (clip_erased_us IS NULL AND ended_us < :clips_before_us))
ORDER BY ended_us
LIMIT :limit;

-- name: kept_unclean
SELECT COUNT(*) FROM kept WHERE files_gone_us IS NOT NULL AND pages_clean_us IS NULL;

-- name: kept_clean
UPDATE kept SET pages_clean_us = :at_us WHERE files_gone_us IS NOT NULL AND pages_clean_us IS NULL;

-- name: kept_to_archive
SELECT job, archive_tries FROM kept
WHERE archive_due_us IS NOT NULL AND archive_due_us <= :now_us
ORDER BY archive_due_us
LIMIT :limit;

-- name: kept_archive_later
UPDATE kept
SET archive_due_us = CASE WHEN clip_erased_us IS NULL THEN CAST(:due_us AS BIGINT) END, archive_tries = archive_tries + 1
WHERE job = :job;

-- name: kept_archived
UPDATE kept
SET object = :object, size_bytes = :size_bytes, sha256 = :sha256, content_type = :content_type, archived_us = :at_us,
    archive_due_us = NULL, archive_tries = archive_tries + 1
WHERE job = :job AND clip_erased_us IS NULL
RETURNING job;

-- name: events_words
SELECT seq, data FROM events WHERE job = :job ORDER BY seq;

-- name: event_reword
UPDATE events SET data = :data WHERE seq = :seq;

-- name: attempt_reword
UPDATE attempts SET doc = :doc WHERE id = :id;

-- name: feedback_reword
UPDATE feedback SET note = NULL WHERE job = :job AND note IS NOT NULL;

-- name: idempotency_retried
SELECT j.doc
FROM idempotency i
JOIN jobs j ON j.id = i.job
WHERE i.caller = :caller AND i.key > :first AND i.key < :last AND i.expires_us > :now_us
ORDER BY i.key DESC
LIMIT :limit;

-- name: job_metadata_insert
INSERT INTO job_metadata (caller, name, value, job) VALUES (:caller, :name, :value, :job);

-- name: job_metadata_forget
DELETE FROM job_metadata WHERE job = :job;

-- name: jobs_in_state_newest_first
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id DESC
LIMIT :limit;

-- name: jobs_in_state_oldest_first
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id
LIMIT :limit;

-- name: jobs_failed_newest_first
-- the words of its index, so that it is used
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND state IN ('failed', 'cancelled', 'expired')
  AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id DESC
LIMIT :limit;

-- name: jobs_failed_oldest_first
SELECT doc FROM jobs
WHERE caller = :caller AND deleted_us IS NULL AND state IN ('failed', 'cancelled', 'expired')
  AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id
LIMIT :limit;

-- name: jobs_of_model_newest_first
SELECT doc FROM jobs
WHERE caller = :caller AND model = :model AND deleted_us IS NULL AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id DESC
LIMIT :limit;

-- name: jobs_of_model_oldest_first
SELECT doc FROM jobs
WHERE caller = :caller AND model = :model AND deleted_us IS NULL AND id > :low AND id < :high
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id
LIMIT :limit;

-- name: jobs_unfinished_newest_first
-- what has not ended is not deleted, and is little enough to be sorted
SELECT doc FROM jobs
WHERE caller = :caller AND ended_us IS NULL AND id > :low AND id < :high
  AND (CAST(:model AS TEXT) IS NULL OR model = :model)
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id DESC
LIMIT :limit;

-- name: jobs_unfinished_oldest_first
SELECT doc FROM jobs
WHERE caller = :caller AND ended_us IS NULL AND id > :low AND id < :high
  AND (CAST(:model AS TEXT) IS NULL OR model = :model)
  AND state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY id
LIMIT :limit;

-- name: jobs_with_metadata_newest_first
SELECT j.doc
FROM job_metadata m
JOIN jobs j ON j.id = m.job
WHERE m.caller = :caller AND m.name = :name_1 AND m.value = :value_1 AND m.job > :low AND m.job < :high
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_2 AND o.value = :value_2 AND o.job = m.job)
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_3 AND o.value = :value_3 AND o.job = m.job)
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_4 AND o.value = :value_4 AND o.job = m.job)
  AND j.deleted_us IS NULL AND (CAST(:model AS TEXT) IS NULL OR j.model = :model)
  AND j.state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY m.job DESC
LIMIT :limit;

-- name: jobs_with_metadata_oldest_first
SELECT j.doc
FROM job_metadata m
JOIN jobs j ON j.id = m.job
WHERE m.caller = :caller AND m.name = :name_1 AND m.value = :value_1 AND m.job > :low AND m.job < :high
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_2 AND o.value = :value_2 AND o.job = m.job)
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_3 AND o.value = :value_3 AND o.job = m.job)
  AND EXISTS (SELECT 1 FROM job_metadata o WHERE o.caller = m.caller AND o.name = :name_4 AND o.value = :value_4 AND o.job = m.job)
  AND j.deleted_us IS NULL AND (CAST(:model AS TEXT) IS NULL OR j.model = :model)
  AND j.state IN (:state_1, :state_2, :state_3, :state_4, :state_5, :state_6)
ORDER BY m.job
LIMIT :limit;

-- name: user_file_insert
INSERT INTO user_files (id, caller, purpose, name, size_bytes, created_us, expires_us, media)
VALUES (:id, :caller, :purpose, :name, :size_bytes, :created_us, :expires_us, :media);

-- name: user_files_count
SELECT COUNT(*), COALESCE(SUM(size_bytes), 0) FROM user_files WHERE caller = :caller AND expires_us > :now_us;

-- name: user_file_read
SELECT id, caller, purpose, name, created_us, expires_us, media
FROM user_files
WHERE id = :id AND caller = :caller AND expires_us > :now_us;

-- name: user_files_newest_first
SELECT id, caller, purpose, name, created_us, expires_us, media
FROM user_files
WHERE caller = :caller AND id < :after AND expires_us > :now_us
  AND (CAST(:purpose AS TEXT) IS NULL OR purpose = :purpose)
ORDER BY id DESC
LIMIT :limit;

-- name: user_files_oldest_first
SELECT id, caller, purpose, name, created_us, expires_us, media
FROM user_files
WHERE caller = :caller AND id > :after AND expires_us > :now_us
  AND (CAST(:purpose AS TEXT) IS NULL OR purpose = :purpose)
ORDER BY id
LIMIT :limit;

-- name: user_files_all
SELECT id, caller, purpose, name, created_us, expires_us, media FROM user_files ORDER BY id;

-- name: user_file_delete
DELETE FROM user_files WHERE id = :id AND caller = :caller
RETURNING id, caller, purpose, name, created_us, expires_us, media;

-- name: user_files_forget
DELETE FROM user_files WHERE expires_us <= :now_us
RETURNING id, caller, purpose, name, created_us, expires_us, media;
