-- Presence: who is subscribed to any process, notices, and revocations. A notice gets its number under
-- the lock of the row of `tidings.notices`, so that numbers are in the order of commits.

-- Add some batches of notices, and drop the oldest.
CREATE OR REPLACE FUNCTION tidings.add_notices(batches text[], most integer, most_bytes bigint)
RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  last bigint;
  last_total bigint;
BEGIN
  IF cardinality(batches) = 0 THEN RETURN; END IF;
  SELECT number, total INTO last, last_total FROM tidings.notices WHERE one FOR UPDATE;
  INSERT INTO tidings.notice (number, total, lines)
    SELECT last + n, last_total + sum(octet_length(u)) OVER (ORDER BY n), u
    FROM unnest(batches) WITH ORDINALITY b (u, n);
  SELECT number, total INTO last, last_total FROM tidings.notice ORDER BY number DESC LIMIT 1;
  UPDATE tidings.notices SET number = last, total = last_total WHERE one;
  DELETE FROM tidings.notice WHERE number <= last - most;
  WHILE (
    SELECT last_total - n.total > most_bytes FROM tidings.notice n ORDER BY n.number LIMIT 1)
  LOOP
    DELETE FROM tidings.notice n USING (SELECT min(number) AS number FROM tidings.notice) first
      WHERE n.number = first.number;
  END LOOP;
  PERFORM pg_notify('tidings_notices', last::text);
END $$;

-- Renew the lease of a process for some seconds. Store who joined, and remove who left; remove the
-- processes whose leases have ended. Returns whether the process had a lease, and the names and records
-- of all that were removed: the caller sends notices of them.
CREATE OR REPLACE FUNCTION tidings.heartbeat(
  me text, lease double precision, joined text[], records text[], gone text[],
  most integer, most_bytes bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  known boolean;
  lines text[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);  -- whatever is lost is registered again
  UPDATE tidings.process SET until = clock_timestamp() + make_interval(secs => lease)
    WHERE owner = me;
  known := FOUND;
  IF NOT known THEN
    INSERT INTO tidings.process VALUES (me, clock_timestamp() + make_interval(secs => lease));
  END IF;
  WITH removed AS (
    DELETE FROM tidings.subscriber s WHERE s.owner = me AND s.name = ANY (gone)
    RETURNING name, record)
  SELECT array_agg('-' || r.name || ' ' || r.record) INTO lines FROM removed r;
  INSERT INTO tidings.subscriber (name, owner, record)
    SELECT u.name, me, u.record FROM unnest(joined, records) u (name, record)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, record = excluded.record;
  lines := lines || ARRAY(
    SELECT '+' || u.name || ' ' || u.record FROM unnest(joined, records) u (name, record));
  PERFORM tidings.add_notices(tidings.batches(lines), most, most_bytes);
  RETURN known;
END $$;

-- Join lines to texts of about 64 KB.
CREATE OR REPLACE FUNCTION tidings.batches(lines text[]) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT coalesce(array_agg(batch ORDER BY number), '{}') FROM (
    SELECT number, string_agg(line, E'\n' ORDER BY n) AS batch FROM (
      SELECT n, line, (sum(octet_length(line)) OVER (ORDER BY n) - octet_length(line)) >> 16 AS number
      FROM unnest(lines) WITH ORDINALITY u (line, n)) l
    GROUP BY number) b
$$;

-- Remove at most 1,000 subscribers of a process, or of those whose leases have ended; and the process
-- when none is left. Returns whether there may be more.
CREATE OR REPLACE FUNCTION tidings.drop_process(me text, most integer, most_bytes bigint)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  dropped text[];
  lines text[];
BEGIN
  dropped := ARRAY(
    SELECT owner FROM tidings.process
    WHERE owner = me OR (me IS NULL AND until <= clock_timestamp())
    FOR UPDATE SKIP LOCKED);
  IF cardinality(dropped) = 0 THEN RETURN false; END IF;
  WITH removed AS (
    DELETE FROM tidings.subscriber WHERE name IN (
      SELECT name FROM tidings.subscriber WHERE owner = ANY (dropped) LIMIT 1000)
    RETURNING name, record)
  SELECT array_agg('-' || name || ' ' || record) INTO lines FROM removed;
  IF coalesce(cardinality(lines), 0) < 1000 THEN
    DELETE FROM tidings.process WHERE owner = ANY (dropped);
  END IF;
  PERFORM tidings.add_notices(tidings.batches(lines), most, most_bytes);
  RETURN coalesce(cardinality(lines), 0) = 1000;
END $$;

-- Return the next subscribers after a name whose record has a text, at most 1,000.
CREATE OR REPLACE FUNCTION tidings.subscribers(after text, part text)
RETURNS TABLE (name text, record text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN QUERY SELECT s.name::text, s.record
    FROM tidings.subscriber s JOIN tidings.process p ON p.owner = s.owner
    WHERE s.name > after AND p.until > clock_timestamp() AND strpos(s.record, part) > 0
    ORDER BY s.name LIMIT 1000;
END $$;

-- Return the notices after a number, about 64 KB of them; and before them the number of the newest
-- and, as a text, that of the oldest.
CREATE OR REPLACE FUNCTION tidings.notices_after(start bigint)
RETURNS TABLE (number bigint, lines text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT n.number, (SELECT min(number) FROM tidings.notice)::text
    FROM tidings.notices n WHERE one;
  RETURN QUERY SELECT l.number, l.lines FROM (
    SELECT n.number, n.lines,
      sum(octet_length(n.lines)) OVER (ORDER BY n.number) - octet_length(n.lines) AS before
    FROM (
      SELECT number, lines FROM tidings.notice WHERE number > start ORDER BY number LIMIT 64) n) l
    WHERE l.before < 65536;
END $$;

-- Store a revoked token. Returns false if too many are stored.
CREATE OR REPLACE FUNCTION tidings.revoke_token(
  revoked text, until_s double precision, limit_ integer, notice text, most integer, most_bytes bigint)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM tidings.require_durability();
  DELETE FROM tidings.revoked_token WHERE until <= clock_timestamp();
  IF (SELECT count(*) FROM tidings.revoked_token WHERE token <> revoked) >= limit_ THEN
    RETURN false;
  END IF;
  INSERT INTO tidings.revoked_token VALUES (revoked, to_timestamp(until_s))
    ON CONFLICT (token) DO UPDATE SET until = excluded.until;
  PERFORM tidings.add_notices(ARRAY[notice], most, most_bytes);
  RETURN true;
END $$;

-- Store when a subject was revoked; the latest time counts. Returns false if too many are stored.
CREATE OR REPLACE FUNCTION tidings.revoke_subject(
  revoked text, at_s double precision, oldest_s double precision, limit_ integer, notice text,
  most integer, most_bytes bigint)
RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM tidings.require_durability();
  DELETE FROM tidings.revoked_subject WHERE at < to_timestamp(oldest_s);
  IF (SELECT count(*) FROM tidings.revoked_subject WHERE subject <> revoked) >= limit_ THEN
    RETURN false;
  END IF;
  INSERT INTO tidings.revoked_subject AS s VALUES (revoked, to_timestamp(at_s))
    ON CONFLICT (subject) DO UPDATE SET at = greatest(s.at, excluded.at);
  PERFORM tidings.add_notices(ARRAY[notice], most, most_bytes);
  RETURN true;
END $$;
