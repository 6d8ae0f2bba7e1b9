-- What reads the event log. The functions that return a page name in its first rows, without a text:
-- the floor, the head, the position up to which the page goes, the number of the newest notice, and the
-- time in Unix milliseconds. All statements of a STABLE function see the same moment.
--
-- Of an event that has expired or is being removed, they return what is left of it. Those that use the
-- index by topic expect that there is none; see `tidings.is_current`.

-- Return the floor, the head, how many events there are, and whether there is a position.
CREATE OR REPLACE FUNCTION tidings.bounds(
  place bigint, OUT floor bigint, OUT head bigint, OUT events bigint, OUT known boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT h.floor, h.position, h.events INTO floor, head, events FROM tidings.head h ORDER BY h.position DESC LIMIT 1;
  known := place = floor OR EXISTS (SELECT FROM tidings.log l WHERE l.position = place);
END $$;

-- Return the floor, the head, how many events and bytes there are, and the newest events of transactions
-- that were refused, or null.
CREATE OR REPLACE FUNCTION tidings.usage(
  most integer, OUT floor bigint, OUT head bigint, OUT events bigint, OUT bytes bigint, OUT refused json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  SELECT h.floor, h.position, h.events, h.bytes INTO floor, head, events, bytes
    FROM tidings.head h ORDER BY h.position DESC LIMIT 1;
  SELECT json_agg(json_build_array(extract(epoch FROM r.at), r.topic, r.own, r.reason)) INTO refused
    FROM (SELECT * FROM tidings.refused ORDER BY number DESC LIMIT most) r;
END $$;

-- Return the next events after a position: about some bytes or 500 of them, at least one. The row of the
-- head has a text if the event log has the position.
CREATE OR REPLACE FUNCTION tidings.read_after(start bigint, max_bytes bigint)
RETURNS TABLE (place bigint, text text, expires bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  head tidings.head;
  now bigint := tidings.now_ms();
  removing boolean := tidings.is_removing();
BEGIN
  SELECT * INTO head FROM tidings.head ORDER BY position DESC LIMIT 1;
  RETURN QUERY VALUES (head.floor, NULL::text, NULL::bigint),
    (head.position, CASE WHEN start = head.floor
      OR EXISTS (SELECT FROM tidings.log l WHERE l.position = start) THEN 'known' END, NULL),
    (head.position, NULL, NULL), ((SELECT number FROM tidings.notices WHERE one), NULL, NULL),
    (now, NULL, NULL);
  RETURN QUERY SELECT l.position, CASE
      WHEN l.expires <= now OR removing AND tidings.is_removed(l.topics[1], l.position)
      THEN tidings.left_of(l.own, l.event, l.topics, l.private) ELSE l.event END, l.expires
    FROM (
      SELECT p.*, sum(p.size) OVER (ORDER BY p.position) - p.size AS before
      FROM (SELECT * FROM tidings.log WHERE position > start ORDER BY position LIMIT 500) p) l
    WHERE l.before < max_bytes;
END $$;

-- Return the newest events before a position, in the log's order, bounded likewise.
CREATE OR REPLACE FUNCTION tidings.read_before(start bigint, most integer, max_bytes bigint)
RETURNS TABLE (place bigint, text text, expires bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY SELECT * FROM tidings.read_at(ARRAY(
    SELECT l.position FROM (
      SELECT p.position, sum(p.size) OVER (ORDER BY p.position DESC) - p.size AS before
      FROM (
        SELECT position, size FROM tidings.log WHERE position < start
        ORDER BY position DESC LIMIT least(most, 500)) p) l
    WHERE l.before < max_bytes), 9223372036854775807);
END $$;

-- Return the events at some positions, in the log's order: about some bytes, at least one.
CREATE OR REPLACE FUNCTION tidings.read_at(places bigint[], max_bytes bigint)
RETURNS TABLE (place bigint, text text, expires bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  now bigint := tidings.now_ms();
  removing boolean := tidings.is_removing();
BEGIN
  RETURN QUERY SELECT l.position, CASE
      WHEN l.expires <= now OR removing AND tidings.is_removed(l.topics[1], l.position)
      THEN tidings.left_of(l.own, l.event, l.topics, l.private) ELSE l.event END, l.expires
    FROM (
      SELECT p.*, sum(p.size) OVER (ORDER BY p.position) - p.size AS before
      FROM tidings.log p WHERE p.position = ANY (places)) l
    WHERE l.before < max_bytes ORDER BY l.position;
END $$;

-- Return the feeds of some topics: of public events, and of private ones.
CREATE OR REPLACE FUNCTION tidings.feeds(names text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN ARRAY(
    SELECT t.id * 2 + private FROM tidings.topic t CROSS JOIN generate_series(0, 1) private
    WHERE t.name = ANY (names));
END $$;

-- Return the next events after a position that have one of some topics, bounded likewise.
CREATE OR REPLACE FUNCTION tidings.read_topics(start bigint, max_bytes bigint, names text[])
RETURNS TABLE (place bigint, text text, expires bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  head tidings.head;
  feeds bigint[] := tidings.feeds(names);
  most integer := least(500, greatest(8, 4000 / greatest(1, cardinality(feeds))));  -- of each feed
  edge bigint;  -- up to which all are found
  places bigint[];
  fitting bigint[];  -- the first of them, within the bytes
  upto bigint;
BEGIN
  SELECT * INTO head FROM tidings.head ORDER BY position DESC LIMIT 1;
  WITH found AS MATERIALIZED (
    SELECT h.feed, h.position FROM unnest(feeds) f (feed)
    CROSS JOIN LATERAL (
      SELECT feed, position FROM tidings.hit i WHERE i.feed = f.feed AND i.position > start
      ORDER BY i.position LIMIT most) h),
  edges AS (
    SELECT min(last) AS edge FROM (
      SELECT max(position) AS last FROM found GROUP BY feed HAVING count(*) = most) e)
  SELECT e.edge, ARRAY(
      SELECT DISTINCT f.position FROM found f WHERE f.position <= e.edge OR e.edge IS NULL
      ORDER BY 1 LIMIT 500)
    INTO edge, places FROM edges e;
  upto := coalesce(edge, greatest(head.position, start));
  IF cardinality(places) = 500 THEN upto := places[500]; END IF;
  SELECT array_agg(l.position ORDER BY l.position) INTO fitting FROM (
    SELECT p.position, sum(p.size) OVER (ORDER BY p.position) - p.size AS before
    FROM tidings.log p WHERE p.position = ANY (places)) l
    WHERE l.before < max_bytes;
  IF cardinality(fitting) < cardinality(places) THEN
    places := fitting;
    upto := fitting[cardinality(fitting)];
  END IF;
  RETURN QUERY VALUES (head.floor, NULL::text, NULL::bigint), (head.position, NULL, NULL),
    (upto, NULL, NULL), (0::bigint, NULL, NULL), (tidings.now_ms(), NULL, NULL);
  RETURN QUERY SELECT p.position, p.event, p.expires FROM tidings.log p
    WHERE p.position = ANY (places) ORDER BY p.position;
END $$;

-- Return the newest events before a position that have one of some topics, bounded likewise; and before
-- them a row without a text.
CREATE OR REPLACE FUNCTION tidings.before_topics(
  start bigint, most integer, max_bytes bigint, names text[])
RETURNS TABLE (place bigint, text text, expires bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
  most := least(most, 500);
  RETURN QUERY VALUES (0::bigint, NULL::text, NULL::bigint);
  RETURN QUERY SELECT l.position, l.event, l.expires FROM (
    SELECT p.position, p.event, p.expires, sum(p.size) OVER (ORDER BY p.position DESC) - p.size AS before
    FROM tidings.log p WHERE p.position = ANY (ARRAY(
      SELECT DISTINCT h.position FROM unnest(tidings.feeds(names)) f (feed)
      CROSS JOIN LATERAL (
        SELECT position FROM tidings.hit i WHERE i.feed = f.feed AND i.position < start
        ORDER BY i.position DESC LIMIT most) h
      ORDER BY 1 DESC LIMIT most))) l
    WHERE l.before < max_bytes ORDER BY l.position;
END $$;

-- Return the newest position of each topic before another one, or null.
CREATE OR REPLACE FUNCTION tidings.newest(names text[], before bigint, public boolean)
RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN ARRAY(
    SELECT greatest(
      (SELECT max(h.position) FROM tidings.hit h WHERE h.feed = t.id * 2 AND h.position < before),
      CASE WHEN NOT public THEN (
        SELECT max(h.position) FROM tidings.hit h
        WHERE h.feed = t.id * 2 + 1 AND h.position < before) END)
    FROM unnest(names) WITH ORDINALITY u (name, k)
    LEFT JOIN LATERAL (SELECT id FROM tidings.topic t WHERE t.name = u.name LIMIT 1) t ON true
    ORDER BY k);
END $$;

-- Return the positions of the events that ended some topics, or null, and whether these are private.
CREATE OR REPLACE FUNCTION tidings.ends(names text[])
RETURNS TABLE (place bigint, private boolean)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN QUERY SELECT t.ended, t.ended_private
    FROM unnest(names) WITH ORDINALITY u (name, k)
    LEFT JOIN LATERAL (SELECT * FROM tidings.topic t WHERE t.name = u.name LIMIT 1) t ON true
    ORDER BY k;
END $$;

-- Return the position of the newest event that ended a topic, or null.
CREATE OR REPLACE FUNCTION tidings.newest_end() RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN (SELECT max(ended) FROM tidings.topic WHERE ended IS NOT NULL);
END $$;

-- Return the next lines of the directory of topics, and before them a line with the name up to which it
-- goes, or null.
--   patterns  of LIKE; null: all names
CREATE OR REPLACE FUNCTION tidings.topics(
  prefix text, after text, most integer, looked_at integer, patterns text[])
RETURNS TABLE (
  name text, newest bigint, events bigint, public_newest bigint, public_events bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  looked bigint[];
  found bigint[];
  upto text;
BEGIN
  SELECT array_agg(t.id ORDER BY t.name), max(t.name) INTO looked, upto FROM (
    SELECT id, name FROM tidings.topic
    WHERE name >= greatest(prefix COLLATE "C", after COLLATE "C") AND name <> after
    ORDER BY name LIMIT looked_at) t;
  found := ARRAY(
    SELECT t.id FROM tidings.topic t WHERE t.id = ANY (looked) AND starts_with(t.name, prefix)
      AND (patterns IS NULL OR t.name LIKE ANY (patterns))
    ORDER BY t.name LIMIT most);
  IF cardinality(found) = most THEN
    SELECT t.name INTO upto FROM tidings.topic t WHERE t.id = found[most];
  ELSIF coalesce(cardinality(looked), 0) < looked_at OR NOT starts_with(upto, prefix) THEN
    upto := NULL;
  END IF;
  RETURN QUERY VALUES (upto, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint);
  RETURN QUERY SELECT t.name::text, greatest(open.newest, secret.newest), open.events + secret.events,
      open.newest, open.events
    FROM tidings.topic t
    CROSS JOIN LATERAL (
      SELECT max(position) AS newest, count(*) AS events FROM tidings.hit WHERE feed = t.id * 2) open
    CROSS JOIN LATERAL (
      SELECT max(position) AS newest, count(*) AS events FROM tidings.hit
      WHERE feed = t.id * 2 + 1) secret
    WHERE t.id = ANY (found) AND open.events + secret.events > 0
    ORDER BY t.name;
END $$;

-- Return the positions of the events with an own id, the oldest first. The topics of the event at the
-- floor are not known any more.
CREATE OR REPLACE FUNCTION tidings.positions_of(id text, after bigint, most integer, names text[])
RETURNS bigint[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  wanted bigint[];
BEGIN
  IF names IS NOT NULL THEN
    wanted := ARRAY(SELECT t.id FROM tidings.topic t WHERE t.name = ANY (names));
  END IF;
  RETURN ARRAY(
    SELECT p.position FROM (
      SELECT h.floor AS position FROM (
        SELECT * FROM tidings.head ORDER BY position DESC LIMIT 1) h WHERE h.floor_id = id
      UNION ALL
      SELECT l.position FROM tidings.log l
      WHERE l.own = id AND (wanted IS NULL OR l.topics && wanted)) p
    WHERE p.position > after ORDER BY p.position LIMIT most);
END $$;
