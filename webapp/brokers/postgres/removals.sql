-- How events leave the event log before they are trimmed: they are removed, or they expire. Their rows are
-- emptied, and stay until they are trimmed: so their positions and own ids are known.
--
-- Both are done some at a time. Meanwhile each read of the event log hides what expired or is being removed,
-- and no call reads the index by topic: a call that needs it does the next step, and tries again.

-- Return the number of the lock of a transaction that changes old rows. It takes this lock before that of the
-- head.
CREATE OR REPLACE FUNCTION tidings.trim_lock() RETURNS integer
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN hashtext('tidings.trim');
END $$;

-- Return whether the index by topic has nothing that expired or is being removed.
CREATE OR REPLACE FUNCTION tidings.is_current() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  now bigint := tidings.now_ms();
BEGIN
  RETURN NOT EXISTS (SELECT FROM tidings.log l WHERE l.expires <= now) AND NOT tidings.is_removing();
END $$;

-- Return whether a removal goes on.
CREATE OR REPLACE FUNCTION tidings.is_removing() RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN EXISTS (SELECT FROM tidings.removal r WHERE r.first <= r.last);
END $$;

-- Return whether an event is being removed.
CREATE OR REPLACE FUNCTION tidings.is_removed(canonical bigint, place bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM tidings.removal r WHERE r.topic = canonical AND place BETWEEN r.first AND r.last);
END $$;

-- Return whether the event at a position has expired, or is being removed.
CREATE OR REPLACE FUNCTION tidings.is_hidden(place bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM tidings.log l WHERE l.position = place
      AND (l.expires <= tidings.now_ms() OR tidings.is_removed(l.topics[1], place)));
END $$;

-- Return what the event log keeps of an event that has an own id: its topics, a digest of its text, and
-- whether it is private.
CREATE OR REPLACE FUNCTION tidings.remnant(text text, topics bigint[], private boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT json_build_array(
    (SELECT json_agg(t.name ORDER BY k)
      FROM unnest(topics) WITH ORDINALITY u (id, k) JOIN tidings.topic t ON t.id = u.id),
    'removed', encode(sha256(convert_to(text, 'UTF8')), 'hex'), private, NULL)::text
$$;

-- Return what the event log keeps of any event.
CREATE OR REPLACE FUNCTION tidings.left_of(own text, text text, topics bigint[], private boolean)
RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF own IS NULL THEN RETURN '[[],"removed",null,false,null]'; END IF;
  RETURN tidings.remnant(text, topics, private);
END $$;

-- Empty the rows of some events, and take these out of the index and the ended topics.
CREATE OR REPLACE FUNCTION tidings.take_out(places bigint[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  -- A negative feed is that of own ids that are still taken: it keeps the topic.
  INSERT INTO tidings.hit (feed, position)
    SELECT -l.topics[1], l.position FROM tidings.log l
    WHERE l.position = ANY (places) AND l.own IS NOT NULL;
  DELETE FROM tidings.hit h USING (
    SELECT topic * 2 + l.private::integer AS feed, l.position
    FROM tidings.log l CROSS JOIN unnest(l.topics) topic WHERE l.position = ANY (places)) e
    WHERE h.feed = e.feed AND h.position = e.position;
  UPDATE tidings.log l
    SET event = tidings.left_of(l.own, l.event, l.topics, l.private), expires = NULL
    WHERE l.position = ANY (places);
  IF EXISTS (SELECT FROM tidings.topic t WHERE t.ended = ANY (places)) THEN
    -- A transaction that appends may end these topics.
    PERFORM FROM tidings.head h ORDER BY h.position DESC LIMIT 1 FOR UPDATE;
    UPDATE tidings.topic t SET ended = NULL, ended_private = NULL WHERE t.ended = ANY (places);
  END IF;
END $$;

-- Remove some of the oldest events of a canonical topic between two positions: what at most 500 of the
-- topic, or about 512 KB, have: each topic of an event counts for 70 bytes. Returns how many they were, and
-- the first position of what is left, or null.
CREATE OR REPLACE FUNCTION tidings.remove_some(
  topic bigint, first bigint, last bigint, OUT removed integer, OUT rest bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  places bigint[] := ARRAY(
    SELECT h.position FROM unnest(ARRAY[topic * 2, topic * 2 + 1]) f (feed)
    CROSS JOIN LATERAL (
      SELECT i.position FROM tidings.hit i
      WHERE i.feed = f.feed AND i.position BETWEEN first AND last ORDER BY i.position LIMIT 500) h
    ORDER BY 1 LIMIT 500);
  looked integer;
  upto bigint;
BEGIN
  SELECT count(*), max(s.position), array_agg(s.position) FILTER (WHERE s.canonical = topic)
    INTO looked, upto, places
    FROM (
      SELECT l.position, l.topics[1] AS canonical, sum(l.size) OVER (ORDER BY l.position) - l.size AS before
      FROM tidings.log l WHERE l.position = ANY (places)) s
    WHERE s.before < 524288;
  IF EXISTS (
    SELECT FROM tidings.hit h
    WHERE h.feed IN (topic * 2, topic * 2 + 1) AND h.position > upto AND h.position <= last)
  THEN rest := upto + 1; END IF;
  removed := coalesce(cardinality(places), 0);
  IF removed > 0 THEN PERFORM tidings.take_out(places); END IF;
END $$;

-- Remove the events of a canonical topic between two positions: some at once, and the rest by further steps.
-- An entry that all followers read says which events these are.
-- Returns the position of that entry, or null if there is nothing to remove; and how many were removed, or
-- null if there is more to do, or -1 if too many removals go on.
CREATE OR REPLACE FUNCTION tidings.remove(
  canonical text, first bigint, last bigint, OUT entry bigint, OUT removed integer)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  head tidings.head;
  place tid;  -- of its row
  topic_id bigint;
  rest bigint;
  line text;
BEGIN
  PERFORM tidings.require_durability(), pg_advisory_xact_lock(tidings.trim_lock());
  SELECT h.ctid INTO place FROM tidings.head h ORDER BY h.position DESC LIMIT 1 FOR UPDATE;
  SELECT * INTO head FROM tidings.head WHERE ctid = place;
  DELETE FROM tidings.removal r WHERE r.first > r.last AND r.entry <= head.floor;
  removed := -1;
  IF (SELECT count(*) FROM tidings.removal r WHERE r.first <= r.last) >= 64 THEN RETURN; END IF;
  SELECT t.id INTO topic_id FROM tidings.topic t WHERE t.name = canonical;
  last := least(last, head.position);
  SELECT s.removed, s.rest INTO removed, rest FROM tidings.remove_some(topic_id, first, last) s;
  IF removed = 0 AND rest IS NULL THEN RETURN; END IF;
  entry := greatest(head.position, (tidings.now_ms() << 20) - 1) + 1;
  line := json_build_array('remove', canonical, (first >> 20) || '-' || (first & 1048575),
    (last >> 20) || '-' || (last & 1048575))::text;
  INSERT INTO tidings.log (position, size, private, topics, event)
    VALUES (entry, octet_length(line) + 100, false, '{}', line);
  UPDATE tidings.head h SET position = entry, events = h.events + 1,
    bytes = h.bytes + octet_length(line) + 100 WHERE ctid = place;
  IF rest IS NOT NULL THEN
    INSERT INTO tidings.removal VALUES (entry, topic_id, rest, last, removed);
    removed := NULL;
  END IF;
  PERFORM pg_notify('tidings', entry::text);
END $$;

-- Do a step: of the oldest removal that goes on, or of what expired. Returns whether there may be more.
CREATE OR REPLACE FUNCTION tidings.settle() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  removal tidings.removal;
  now bigint := tidings.now_ms();
BEGIN
  IF tidings.is_current() THEN RETURN false; END IF;
  PERFORM tidings.require_durability(), pg_advisory_xact_lock(tidings.trim_lock());
  SELECT * INTO removal FROM tidings.removal r WHERE r.first <= r.last ORDER BY r.entry LIMIT 1;
  IF FOUND THEN
    UPDATE tidings.removal r SET first = coalesce(s.rest, r.last + 1), removed = r.removed + s.removed
      FROM tidings.remove_some(removal.topic, removal.first, removal.last) s
      WHERE r.entry = removal.entry;
  ELSE
    PERFORM tidings.take_out(ARRAY(
      SELECT s.position FROM (
        SELECT l.position, sum(l.size) OVER (ORDER BY l.expires, l.position) - l.size AS before
        FROM (
          SELECT e.position, e.expires, e.size FROM tidings.log e
          WHERE e.expires <= now ORDER BY e.expires LIMIT 500) l) s
      WHERE s.before < 524288));
  END IF;
  RETURN NOT tidings.is_current();
END $$;

-- Return how many events a removal has removed, once; null: it goes on.
CREATE OR REPLACE FUNCTION tidings.removed_by(place bigint) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  number integer;
BEGIN
  DELETE FROM tidings.removal r WHERE r.entry = place AND r.first > r.last RETURNING r.removed INTO number;
  RETURN number;
END $$;
