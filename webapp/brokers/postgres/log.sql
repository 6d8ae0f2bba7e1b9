-- What writes to the event log. Each call is one transaction, so that no lock is held while a hub, or
-- the network, takes its time. Positions are in the order of commits, because each call locks the row
-- of `tidings.head` until its end.

-- Whether a commit waits for the disk decides whether what was answered is in the event log.
CREATE OR REPLACE FUNCTION tidings.require_durability() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF current_setting('synchronous_commit') IN ('off', 'local') THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
END $$;

-- Return the time in Unix milliseconds. In plpgsql, because the server would plan a function in SQL again
-- at each call.
CREATE OR REPLACE FUNCTION tidings.now_ms() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
END $$;

-- Whatever is looked up in a large table is a subquery or LATERAL with a LIMIT: the server cannot make a
-- join of it that reads the whole table. It has no statistics of the tables, or old ones.

-- Append the events of several requests, all or none of each.
--   requests         of each event, the number of its request; in order
--   texts            of each event
--   owns, canonicals of each event, its own id or null, and its canonical topic; null: no event has one.
--                    No two events have both in common.
--   ends             of each event, whether it ends its topics; null: none does. Otherwise there is only
--                    one request.
--   ttls             of each event, after how many milliseconds it expires, or null; null: none does
--   numbers, names, privates  of each topic of each event: which event, from 1; its name; whether the
--                    event is private. The topics of an event are in its order, its canonical one first.
-- Returns the position of each event: null where an own id of its request is taken by other content, -1
-- where its request names an ended topic; and how many events and bytes the event log has then.
CREATE OR REPLACE FUNCTION tidings.append(
  requests integer[], texts text[], owns text[], canonicals text[], ends boolean[],
  ttls bigint[], numbers integer[], names text[], privates boolean[],
  OUT positions bigint[], OUT events bigint, OUT bytes bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  base bigint;
  place tid;  -- of the row of the head
  ids bigint[];
  known record;
  taken integer[] := '{}';  -- requests with an own id that is taken
  closed integer[] := '{}';  -- requests with an ended topic
  is_plain boolean := true;  -- all events are new
  places integer[];  -- of each event, its number among the new ones
  fresh integer := cardinality(texts);
BEGIN
  PERFORM tidings.require_durability();
  SELECT greatest(h.position, (tidings.now_ms() << 20) - 1), h.events, h.bytes, h.ctid
    INTO base, events, bytes, place
    FROM tidings.head h ORDER BY h.position DESC LIMIT 1 FOR UPDATE;
  positions := ARRAY(SELECT base + n FROM generate_series(1, fresh) n);
  IF owns IS NOT NULL THEN
    FOR known IN
      SELECT u.n, l.position, l.event = u.event
        OR l.event = tidings.remnant(u.event, l.topics, l.private) AS same
      FROM unnest(owns, canonicals, texts) WITH ORDINALITY u (own, topic, event, n)
      CROSS JOIN LATERAL (
        SELECT * FROM tidings.log l WHERE l.own = u.own
          AND l.topics[1] = (SELECT t.id FROM tidings.topic t WHERE t.name = u.topic) LIMIT 1) l
    LOOP
      is_plain := false;
      positions[known.n] := known.position;
      IF NOT known.same THEN taken := taken || requests[known.n]; END IF;
    END LOOP;
  END IF;
  IF ends IS NOT NULL OR EXISTS (SELECT FROM tidings.topic WHERE ended IS NOT NULL) THEN
    closed := ARRAY(
      SELECT requests[u.n] FROM unnest(numbers, names) u (n, name)
      JOIN tidings.topic t ON t.name = u.name
      WHERE t.ended IS NOT NULL AND positions[u.n] > base AND NOT tidings.is_hidden(t.ended));
    IF ends IS NOT NULL THEN  -- an event may name a topic that one before it ends
      closed := closed || ARRAY(
        SELECT requests[u.n] FROM unnest(numbers, names) u (n, name)
        JOIN unnest(numbers, names) e (n, name) ON e.name = u.name AND e.n < u.n
        WHERE ends[e.n] AND positions[e.n] > base AND positions[u.n] > base);
    END IF;
    is_plain := is_plain AND closed = '{}';
  END IF;
  IF NOT is_plain THEN
    fresh := 0;
    FOR n IN 1 .. cardinality(texts) LOOP
      IF requests[n] = ANY (taken) THEN
        positions[n] := NULL;
      ELSIF requests[n] = ANY (closed) THEN
        positions[n] := -1;
      ELSIF positions[n] > base THEN
        fresh := fresh + 1;
        positions[n] := base + fresh;
        places[n] := fresh;
      END IF;
    END LOOP;
    IF fresh = 0 THEN RETURN; END IF;
    SELECT array_agg(places[m] ORDER BY k), array_agg(t ORDER BY k), array_agg(p ORDER BY k)
      INTO numbers, names, privates
      FROM unnest(numbers, names, privates) WITH ORDINALITY u (m, t, p, k)
      WHERE positions[m] > base;
    SELECT array_agg(t ORDER BY n), array_agg(o ORDER BY n), array_agg(e ORDER BY n),
        array_agg(l ORDER BY n)
      INTO texts, owns, ends, ttls
      FROM unnest(texts, owns, ends, ttls, positions) WITH ORDINALITY u (t, o, e, l, p, n)
      WHERE p > base;
  END IF;
  INSERT INTO tidings.topic (name)
    SELECT DISTINCT u FROM unnest(names) u
    WHERE (SELECT t.id FROM tidings.topic t WHERE t.name = u) IS NULL;
  ids := ARRAY(
    SELECT (SELECT t.id FROM tidings.topic t WHERE t.name = u.name)
    FROM unnest(names) WITH ORDINALITY u (name, k) ORDER BY k);
  IF cardinality(names) = fresh THEN  -- each event has one topic
    WITH added AS (
      INSERT INTO tidings.log (position, size, own, private, expires, topics, event)
        SELECT base + e.n, octet_length(e.text) + 170, e.own, e.private, (base + e.n >> 20) + e.ttl,
          ARRAY[e.id], e.text
        FROM unnest(texts, owns, ttls, ids, privates) WITH ORDINALITY e (text, own, ttl, id, private, n)
        RETURNING size)
    SELECT append.bytes + sum(size) INTO bytes FROM added;
    INSERT INTO tidings.hit (feed, position)
      SELECT u.id * 2 + u.private::integer, base + u.n
      FROM unnest(ids, privates) WITH ORDINALITY u (id, private, n);
  ELSE
    WITH added AS (
      INSERT INTO tidings.log (position, size, own, private, expires, topics, event)
        SELECT base + e.n, octet_length(e.text) + 100 + 70 * cardinality(t.topics), e.own, t.private,
          (base + e.n >> 20) + e.ttl, t.topics, e.text
        FROM unnest(texts, owns, ttls) WITH ORDINALITY e (text, own, ttl, n)
        JOIN (
          SELECT u.n, array_agg(u.id ORDER BY k) AS topics, bool_or(u.private) AS private
          FROM unnest(numbers, ids, privates) WITH ORDINALITY u (n, id, private, k) GROUP BY u.n
        ) t ON t.n = e.n
        ORDER BY e.n
        RETURNING size)
    SELECT append.bytes + sum(size) INTO bytes FROM added;
    INSERT INTO tidings.hit (feed, position)
      SELECT u.id * 2 + u.private::integer, base + u.n
      FROM unnest(numbers, ids, privates) u (n, id, private)
      ON CONFLICT DO NOTHING;
  END IF;
  IF ends IS NOT NULL THEN
    PERFORM setval('tidings.topics_ended', 2);
    UPDATE tidings.topic t SET ended = base + u.n, ended_private = u.private
      FROM unnest(numbers, ids, privates) u (n, id, private) WHERE t.id = u.id AND ends[u.n];
  END IF;
  events := events + fresh;
  UPDATE tidings.head h
    SET position = base + fresh, events = append.events, bytes = append.bytes WHERE ctid = place;
  PERFORM pg_notify('tidings', (base + fresh)::text);
END $$;

-- Delete at most 500 of the oldest events, as far as the event log exceeds its limits. The newest event
-- stays until it is too old. Returns how many were deleted; 0 also while another process changes old rows.
CREATE OR REPLACE FUNCTION tidings.trim(max_events bigint, max_bytes bigint, too_old bigint)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  head tidings.head;
  place tid;  -- of its row
  last bigint;
  last_id text;
  deleted integer;
  deleted_bytes bigint;
  topic_ids bigint[];
BEGIN
  IF NOT pg_try_advisory_xact_lock(tidings.trim_lock()) THEN RETURN 0; END IF;
  IF pg_sequence_last_value('tidings.topics_ended') = 2 THEN
    PERFORM FROM tidings.head ORDER BY position DESC LIMIT 1 FOR UPDATE;  -- an append may end a topic
    IF NOT EXISTS (SELECT FROM tidings.topic WHERE ended IS NOT NULL) THEN
      PERFORM setval('tidings.topics_ended', 1);
    END IF;
  END IF;
  SELECT * INTO head FROM tidings.head ORDER BY position DESC LIMIT 1;
  SELECT max(s.position) INTO last FROM (
    SELECT l.position, row_number() OVER w AS number, sum(l.size) OVER w - l.size AS before
    FROM (
      SELECT position, size FROM tidings.log WHERE position > head.floor ORDER BY position LIMIT 500
    ) l WINDOW w AS (ORDER BY l.position)) s
  WHERE s.position < too_old OR (s.position < head.position
    AND (s.number <= head.events - max_events OR s.before < head.bytes - max_bytes));
  IF last IS NULL THEN RETURN 0; END IF;
  SELECT CASE WHEN NOT private THEN own END INTO last_id FROM tidings.log WHERE position = last;
  WITH gone AS (
    DELETE FROM tidings.log WHERE position > head.floor AND position <= last
    RETURNING position, size, private, topics),
  entries AS (
    SELECT topic, feed, position
    FROM gone CROSS JOIN unnest(topics) topic
    CROSS JOIN LATERAL (VALUES (topic * 2 + private::integer), (-topic)) f (feed)),
  hits AS (  -- each by its whole key: by its feed alone, the server would read all of a topic
    DELETE FROM tidings.hit h USING entries e WHERE h.feed = e.feed AND h.position = e.position)
  SELECT count(*), sum(size), ARRAY(SELECT DISTINCT topic FROM entries)
    INTO deleted, deleted_bytes, topic_ids FROM gone;
  SELECT h.ctid INTO place FROM tidings.head h ORDER BY h.position DESC LIMIT 1 FOR UPDATE;
  UPDATE tidings.head SET floor = last, floor_id = last_id,
    events = events - deleted, bytes = bytes - deleted_bytes WHERE ctid = place;
  UPDATE tidings.topic t SET ended = NULL, ended_private = NULL WHERE t.ended <= last;
  DELETE FROM tidings.topic t USING unnest(topic_ids) u (id) WHERE t.id = u.id
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = u.id * 2)
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = u.id * 2 + 1)
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = -u.id);
  RETURN deleted;
END $$;
