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

-- In plpgsql, because the server would plan a function in SQL again at each call.
CREATE OR REPLACE FUNCTION tidings.now_key() RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20;
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
--   numbers, names, privates  of each topic of each event: which event, from 1; its name; whether the
--                    event is private. The topics of an event are in its order, its canonical one first.
-- Returns the position of each event: null where an own id of its request is taken by other content, -1
-- where its request names an ended topic; and how many events and bytes the event log has then.
CREATE OR REPLACE FUNCTION tidings.append(
  requests integer[], texts text[], owns text[], canonicals text[], ends boolean[],
  numbers integer[], names text[], privates boolean[],
  OUT positions bigint[], OUT events bigint, OUT bytes bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
  base bigint;
  ids bigint[];
  known record;
  taken integer[] := '{}';  -- requests with an own id that is taken
  closed integer[] := '{}';  -- requests with an ended topic
  is_plain boolean := true;  -- all events are new
  places integer[];  -- of each event, its number among the new ones
  fresh integer := cardinality(texts);
BEGIN
  PERFORM tidings.require_durability();
  SELECT greatest(h.position, tidings.now_key() - 1), h.events, h.bytes INTO base, events, bytes
    FROM tidings.head h WHERE one FOR UPDATE;
  positions := ARRAY(SELECT base + n FROM generate_series(1, fresh) n);
  IF owns IS NOT NULL THEN
    FOR known IN
      SELECT u.n, l.position, l.event IN (u.event, tidings.remnant(u.event, l.topics, l.private)) AS same
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
      WHERE t.ended IS NOT NULL AND positions[u.n] > base);
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
    SELECT array_agg(t ORDER BY n), array_agg(o ORDER BY n), array_agg(e ORDER BY n)
      INTO texts, owns, ends
      FROM unnest(texts, owns, ends, positions) WITH ORDINALITY u (t, o, e, p, n) WHERE p > base;
  END IF;
  INSERT INTO tidings.topic (name)
    SELECT DISTINCT u FROM unnest(names) u
    WHERE (SELECT t.id FROM tidings.topic t WHERE t.name = u) IS NULL;
  ids := ARRAY(
    SELECT (SELECT t.id FROM tidings.topic t WHERE t.name = u.name)
    FROM unnest(names) WITH ORDINALITY u (name, k) ORDER BY k);
  WITH added AS (
    INSERT INTO tidings.log (position, size, own, private, topics, event)
      SELECT base + e.n, octet_length(e.text) + 100 + 70 * cardinality(t.topics), e.own, t.private,
        t.topics, e.text
      FROM unnest(texts, owns) WITH ORDINALITY e (text, own, n)
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
  IF ends IS NOT NULL THEN
    UPDATE tidings.topic t SET ended = base + u.n, ended_private = u.private
      FROM unnest(numbers, ids, privates) u (n, id, private) WHERE t.id = u.id AND ends[u.n];
  END IF;
  events := events + fresh;
  UPDATE tidings.head h
    SET position = base + fresh, events = append.events, bytes = append.bytes WHERE one;
  PERFORM pg_notify('tidings', (base + fresh)::text);
END $$;

-- Return what the event log keeps of a removed event that has an own id: its topics, a digest of its
-- text, and whether it is private.
CREATE OR REPLACE FUNCTION tidings.remnant(text text, topics bigint[], private boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT json_build_array(
    (SELECT json_agg(t.name ORDER BY k)
      FROM unnest(topics) WITH ORDINALITY u (id, k) JOIN tidings.topic t ON t.id = u.id),
    'removed', encode(sha256(convert_to(text, 'UTF8')), 'hex'), private, NULL)::text
$$;

-- Remove the events of a canonical topic between two positions: some of the oldest. Their rows are
-- emptied, and an entry that all followers read says which events these were.
-- Returns how many they were; the position of the entry, or null; the first position of what is left, or
-- null; and the last one.
CREATE OR REPLACE FUNCTION tidings.remove(
  canonical text, first bigint, last bigint,
  OUT removed integer, OUT entry bigint, OUT rest bigint, OUT upto bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off AS $$
DECLARE
  head tidings.head;
  topic_id bigint;
  places bigint[];
  edge bigint;
  line text;
BEGIN
  PERFORM tidings.require_durability();
  SELECT * INTO head FROM tidings.head WHERE one FOR UPDATE;
  SELECT t.id INTO topic_id FROM tidings.topic t WHERE t.name = canonical;
  removed := 0;
  upto := least(last, head.position);
  places := ARRAY(
    SELECT h.position FROM tidings.hit h
    WHERE h.feed IN (topic_id * 2, topic_id * 2 + 1) AND h.position BETWEEN first AND upto
    ORDER BY h.position LIMIT 500);
  IF cardinality(places) = 500 THEN rest := places[500] + 1; END IF;
  edge := coalesce(rest - 1, upto);
  places := ARRAY(
    SELECT l.position FROM tidings.log l WHERE l.position = ANY (places) AND l.topics[1] = topic_id);
  removed := cardinality(places);
  IF removed = 0 THEN RETURN; END IF;
  -- A negative feed is that of own ids that are still taken: it keeps the topic.
  INSERT INTO tidings.hit (feed, position)
    SELECT -topic_id, l.position FROM tidings.log l
    WHERE l.position = ANY (places) AND l.own IS NOT NULL;
  DELETE FROM tidings.hit h USING (
    SELECT topic * 2 + l.private::integer AS feed, l.position
    FROM tidings.log l CROSS JOIN unnest(l.topics) topic WHERE l.position = ANY (places)) e
    WHERE h.feed = e.feed AND h.position = e.position;
  UPDATE tidings.topic t SET ended = NULL, ended_private = NULL WHERE t.ended = ANY (places);
  UPDATE tidings.log l SET event = CASE
      WHEN l.own IS NULL THEN '[[],"removed",null,false,null]'
      ELSE tidings.remnant(l.event, l.topics, l.private) END
    WHERE l.position = ANY (places);
  entry := greatest(head.position, tidings.now_key() - 1) + 1;
  line := json_build_array('remove', canonical, (first >> 20) || '-' || (first & 1048575),
    (edge >> 20) || '-' || (edge & 1048575))::text;
  INSERT INTO tidings.log (position, size, private, topics, event)
    VALUES (entry, octet_length(line) + 100, false, '{}', line);
  UPDATE tidings.head h SET position = entry, events = h.events + 1,
    bytes = h.bytes + octet_length(line) + 100 WHERE one;
  PERFORM pg_notify('tidings', entry::text);
END $$;

-- Delete at most 500 of the oldest events, as far as the event log exceeds its limits. The newest event
-- stays until it is too old. Returns how many were deleted; 0 also while another process trims.
CREATE OR REPLACE FUNCTION tidings.trim(max_events bigint, max_bytes bigint, too_old bigint)
RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET jit = off SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  head tidings.head;
  last bigint;
  last_id text;
  deleted integer;
  deleted_bytes bigint;
  topic_ids bigint[];
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('tidings.trim')) THEN RETURN 0; END IF;
  SELECT * INTO head FROM tidings.head WHERE one;
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
    SELECT topic, topic * 2 + private::integer AS feed, position
    FROM gone CROSS JOIN unnest(topics) topic),
  hits AS (
    DELETE FROM tidings.hit h USING entries e
    WHERE h.feed IN (e.feed, -e.topic) AND h.position = e.position)
  SELECT count(*), sum(size), ARRAY(SELECT DISTINCT topic FROM entries)
    INTO deleted, deleted_bytes, topic_ids FROM gone;
  UPDATE tidings.head SET floor = last, floor_id = last_id,
    events = events - deleted, bytes = bytes - deleted_bytes WHERE one;
  UPDATE tidings.topic t SET ended = NULL, ended_private = NULL WHERE t.ended <= last;
  DELETE FROM tidings.topic t USING unnest(topic_ids) u (id) WHERE t.id = u.id
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = u.id * 2)
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = u.id * 2 + 1)
    AND NOT EXISTS (SELECT FROM tidings.hit WHERE feed = -u.id);
  RETURN deleted;
END $$;
