-- Publishing in a transaction of an app's own. `tidings.publish` only inserts into a table, and holds no
-- lock that others wait for. After the commit, a hub moves what is there to the event log.

-- Raise an error unless a topic or a type has what the hub accepts from its other publishers.
CREATE OR REPLACE FUNCTION tidings.check_name(field text, value text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF value IS NULL OR length(value) NOT BETWEEN 1 AND 1024 THEN
    RAISE EXCEPTION 'A % has 1 to 1,024 characters.', field USING ERRCODE = '22023';
  END IF;
  IF value ~ ('[\u0001-\u001f\u007f-\u009f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e'
    '\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd'
    '\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001'
    '\U000e0020-\U000e007f]' COLLATE "C") THEN
    RAISE EXCEPTION 'A % must not contain control characters or invisible ones.', field
      USING ERRCODE = '22023';
  END IF;
END $$;

-- Raise an error unless the hub would accept an event. Returns whether the event log has it already.
CREATE OR REPLACE FUNCTION tidings.check_event(
  names text[], data text, type text, id text, ttl interval, line text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
  name text;
  known text;
  held text;  -- what would be left of the event if it had been removed
BEGIN
  IF ttl NOT BETWEEN interval '1 second' AND interval '1000000000 seconds' THEN
    RAISE EXCEPTION 'A ttl is a second or more, and at most 1,000,000,000 seconds.'
      USING ERRCODE = '22023';
  END IF;
  IF cardinality(names) > 1000 THEN
    RAISE EXCEPTION 'An event has at most 1,000 topics.' USING ERRCODE = '22023';
  END IF;
  FOREACH name IN ARRAY names LOOP PERFORM tidings.check_name('topic', name); END LOOP;
  IF octet_length(data) > 8388608 THEN
    RAISE EXCEPTION 'The data of an event has at most 8 MB.' USING ERRCODE = '22023';
  END IF;
  IF type IS NOT NULL THEN
    PERFORM tidings.check_name('type', type);
    IF starts_with(type, 'hub.') THEN
      RAISE EXCEPTION 'Types that begin with hub. are reserved for the hub.' USING ERRCODE = '22023';
    END IF;
  END IF;
  IF length(id) > 128 OR id !~ '^[!-~]([ -~]*[!-~])?$' COLLATE "C"
    OR id ~ '^(earliest|null|undefined|#.*|[0-9]+-[0-9]+)$' COLLATE "C" THEN
    RAISE EXCEPTION 'An id has 1 to 128 printable ASCII characters, and none of the reserved forms.'
      USING ERRCODE = '22023';
  END IF;
  IF id IS NOT NULL THEN
    SELECT l.event, tidings.remnant(line, l.topics, l.private) INTO known, held FROM tidings.topic t
      JOIN tidings.log l ON l.own = id AND l.topics[1] = t.id WHERE t.name = names[1];
    IF known <> line AND known <> held THEN
      RAISE EXCEPTION 'The id is taken by an event with other content.' USING ERRCODE = '23505';
    END IF;
  END IF;
  RETURN known IS NOT NULL;
END $$;

-- Return the topics that an event ends, as the hub stores them: equal events have equal texts.
CREATE OR REPLACE FUNCTION tidings.ended_text(names text[]) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
  SELECT '{' || string_agg(
      to_json(n)::text || CASE WHEN n = names[1] THEN ':{"end":1}' ELSE ':0' END, ',' ORDER BY k)
    || '}'
  FROM (SELECT n, min(k) AS k FROM unnest(names) WITH ORDINALITY u (n, k) GROUP BY n) d
$$;

-- Publish any event when the transaction commits; see `tidings.publish`.
CREATE OR REPLACE FUNCTION tidings.publish_checked(
  topic text, data text, type text, id text, private boolean, ttl interval, ended boolean,
  alternates text[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_variable
DECLARE
  names text[] := topic || coalesce(alternates, '{}');
  line text := concat('[', CASE WHEN ended THEN tidings.ended_text(names) ELSE array_to_json(names)::text END,
    ',', to_json(coalesce(data, '')), ',', coalesce(to_json(type)::text, 'null'),
    ',', coalesce(to_json(id)::text, 'null'), CASE WHEN private THEN ',true,null]' ELSE ',false,null]' END);
BEGIN
  IF tidings.check_event(names, data, type, id, ttl, line) THEN RETURN; END IF;
  IF tidings.has_ended(names) THEN
    RAISE EXCEPTION 'The event names a topic that has ended.' USING ERRCODE = '23514';
  END IF;
  INSERT INTO tidings.outbox (topic, private, rest) VALUES (topic, coalesce(private, false),
    ROW(names, id, coalesce(ended, false), line, extract(epoch FROM ttl) * 1000)::tidings.outbox_rest);
END $$;

-- Return whether one of some topics has ended.
CREATE OR REPLACE FUNCTION tidings.has_ended(names text[]) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN EXISTS (
    SELECT FROM tidings.topic t WHERE t.ended IS NOT NULL AND t.name = ANY (names)
      AND NOT tidings.is_hidden(t.ended));
END $$;

-- Publish an event when the transaction commits.
--   topic       its canonical topic
--   data        any text; a JSON value as its text
--   type        null: message
--   id          an own id, unique per canonical topic as long as the event log has the event
--   private     only for subscribers whose token grants one of its topics
--   ttl         after which it expires; null: it is trimmed as all others are
--   ended       it is the last event of its topics
--   alternates  further topics
--
-- Each expression costs some microseconds in each transaction, and so would a setting of the search path:
-- so all names here have their schema. Most events have only a short topic of plain characters, and data:
-- these take one look and one INSERT, and the relay makes their text.
CREATE OR REPLACE FUNCTION tidings.publish(
  topic text, data text DEFAULT '', type text DEFAULT NULL, id text DEFAULT NULL,
  private boolean DEFAULT false, ttl interval DEFAULT NULL, ended boolean DEFAULT false,
  alternates text[] DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
#variable_conflict use_variable
DECLARE
  is_plain boolean := id IS NULL AND ttl IS NULL AND alternates IS NULL AND NOT ended AND private IS NOT NULL
    AND pg_catalog.octet_length(data) OPERATOR(pg_catalog.<) 1000000
    AND pg_catalog.octet_length(topic) OPERATOR(pg_catalog.<) 1000
    AND topic OPERATOR(pg_catalog.~) '^[ -~]+$' COLLATE pg_catalog."C";
BEGIN
  IF type IS NOT NULL THEN
    is_plain := is_plain AND pg_catalog.octet_length(type) OPERATOR(pg_catalog.<) 1000
      AND type OPERATOR(pg_catalog.~) '^(?!hub\.)[ -~]+$' COLLATE pg_catalog."C";
  END IF;
  IF pg_catalog.pg_sequence_last_value('tidings.topics_ended') OPERATOR(pg_catalog.=) 2 THEN
    is_plain := is_plain AND NOT tidings.has_ended(ARRAY[topic]);
  END IF;
  IF is_plain THEN
    INSERT INTO tidings.outbox (topic, data, type, private) VALUES (topic, data, type, private);
  ELSE
    PERFORM tidings.publish_checked(topic, data, type, id, private, ttl, ended, alternates);
  END IF;
END $$;

-- Number a transaction at its commit, and wake the relay if there is one and it waits. It does not always
-- notify: every commit that notifies waits for all others that do.
CREATE OR REPLACE FUNCTION tidings.number_commit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
  INSERT INTO tidings.commits DEFAULT VALUES;
  IF pg_catalog.pg_sequence_last_value('tidings.relay_waits_until') OPERATOR(pg_catalog.>) 1 THEN
    IF pg_catalog.pg_sequence_last_value('tidings.relay_waits_until') OPERATOR(pg_catalog.>) tidings.now_ms()
    THEN NOTIFY tidings_outbox; END IF;
  END IF;
  RETURN NULL;
END $$;

-- Return whether a process is the one that moves events, for some seconds from now.
--   waits  whether it waits for notifications; otherwise it looks by itself
CREATE OR REPLACE FUNCTION tidings.lead(
  me text, lease_s double precision, waits boolean) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM tidings.relay WHERE one AND owner <> me AND until > clock_timestamp()) THEN
    RETURN false;
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
  UPDATE tidings.relay SET owner = me, until = clock_timestamp() + make_interval(secs => lease_s)
    WHERE one AND (owner = me OR until <= clock_timestamp());
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM setval('tidings.relay_waits_until',
    CASE WHEN waits THEN tidings.now_ms() + (lease_s * 1000)::bigint ELSE 1 END);
  RETURN true;
END $$;

-- Move the events of committed transactions to the event log, in the order of their commits; those of one
-- transaction stay together. It takes what no earlier move could see, and the lock of the head orders
-- moves, so it does not matter who calls it, or how many do.
--   everything  also look at the transactions that an earlier move must have seen: after a restore, old
--               numbers of transactions mean nothing
-- Returns how many were moved, how many were refused, and whether there may be more.
CREATE OR REPLACE FUNCTION tidings.move(
  everything boolean, OUT moved integer, OUT refused integer, OUT more boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  seen xid8;
  now_seen xid8;
  is_plain boolean;  -- all events have only what most have
  are_apart boolean;  -- no two events have the same own id, and none ends a topic
  names text[];
  texts text[];
  privates boolean[];
  places tid[];  -- of the events' rows
  number_places tid[];  -- of the rows that number their transactions
  ordinals integer[];
  answers bigint[] := '{}';
BEGIN
  moved := 0; refused := 0; more := false;
  IF NOT EXISTS (
    SELECT FROM tidings.outbox o, tidings.moves m
    WHERE o.xid >= CASE WHEN everything OR m.moved_before IS NULL THEN '0'::xid8 ELSE m.moved_before END)
  THEN RETURN; END IF;
  PERFORM tidings.require_durability();
  PERFORM FROM tidings.head h ORDER BY h.position DESC LIMIT 1 FOR UPDATE;
  SELECT CASE WHEN NOT everything THEN moved_before END INTO seen FROM tidings.moves m WHERE m.one;
  -- One statement, and so one moment: the events, and which transactions had ended. `visible` is in the order
  -- of commits. No aggregate has DISTINCT or ORDER BY: for it, PostgreSQL 16 would sort the rows of all.
  WITH numbers AS MATERIALIZED (
    SELECT c.xid, c.number, c.ctid AS place FROM tidings.commits c WHERE c.xid >= coalesce(seen, '0'::xid8)),
  visible AS MATERIALIZED (
    SELECT e.*, count(*) OVER (ORDER BY e.commit NULLS FIRST, e.xid) AS upto
    FROM (
      SELECT c.commit, o.*, o.ctid AS place
      FROM tidings.outbox o
      LEFT JOIN (SELECT xid, max(number) AS commit FROM numbers GROUP BY xid) c ON c.xid = o.xid
      WHERE o.xid >= coalesce(seen, '0'::xid8)
      ORDER BY c.commit NULLS FIRST, o.xid, o.number) e),
  first AS MATERIALIZED (
    SELECT * FROM visible v WHERE v.upto <= greatest(2000, (SELECT min(w.upto) FROM visible w)))
  SELECT bool_and(f.rest IS NULL), array_agg(f.topic), array_agg(f.private), array_agg(f.place),
      array_agg(coalesce((f.rest).event, concat('[[', to_json(f.topic), '],', to_json(f.data), ',',
        coalesce(to_json(f.type)::text, 'null'), ',null,', to_json(f.private), ',null]'))),
      NOT bool_or(coalesce((f.rest).ended, false)) AND NOT EXISTS (
        SELECT FROM first s WHERE (s.rest).own IS NOT NULL GROUP BY (s.rest).own, s.topic HAVING count(*) > 1),
      count(*) < (SELECT count(*) FROM visible),
      ARRAY(SELECT n.place FROM numbers n WHERE n.xid IN (SELECT xid FROM first)),
      pg_snapshot_xmin(pg_current_snapshot())
    INTO is_plain, names, privates, places, texts, are_apart, more, number_places, now_seen FROM first f;
  IF places IS NULL THEN RETURN; END IF;
  moved := cardinality(places);
  IF is_plain THEN
    ordinals := ARRAY(SELECT generate_series(1, moved));
    SELECT a.positions INTO answers FROM tidings.append(
      ordinals, texts, NULL, NULL, NULL, NULL, ordinals, names, privates) a;
  ELSIF are_apart THEN
    answers := tidings.append_taken(places, texts);
  ELSE  -- what one event may depends on those before it
    FOR k IN 1 .. moved LOOP
      answers := answers || tidings.append_taken(places[k : k], texts[k : k]);
    END LOOP;
  END IF;
  IF -1 = ANY (answers) OR array_position(answers, NULL) > 0 THEN
    INSERT INTO tidings.refused (topic, own, reason)
      SELECT o.topic, (o.rest).own, CASE WHEN t.a = -1 THEN 'ended' ELSE 'conflict' END
      FROM unnest(places, answers) WITH ORDINALITY AS t (place, a, k)
      JOIN tidings.outbox o ON o.ctid = t.place WHERE t.a IS NULL OR t.a = -1 ORDER BY t.k;
    GET DIAGNOSTICS refused = ROW_COUNT;
    DELETE FROM tidings.refused r WHERE r.number <= (SELECT max(s.number) - 1000 FROM tidings.refused s);
  END IF;
  DELETE FROM tidings.outbox o WHERE o.ctid = ANY (places);
  DELETE FROM tidings.commits c WHERE c.ctid = ANY (number_places);
  IF NOT more THEN UPDATE tidings.moves m SET moved_before = now_seen WHERE m.one; END IF;
END $$;

-- Append some events of the outbox, each by itself, and return their positions as `tidings.append` does.
CREATE OR REPLACE FUNCTION tidings.append_taken(places tid[], texts text[]) RETURNS bigint[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
SET jit = off SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  answer bigint[];
BEGIN
  SELECT (tidings.append(requests, texts, owns, canonicals, ends, ttls, numbers, names, privates)).positions
    INTO answer
    FROM (
      SELECT array_agg(k::integer ORDER BY k) AS requests, array_agg(o.topic ORDER BY k) AS canonicals,
        CASE WHEN count((o.rest).own) > 0 THEN array_agg((o.rest).own ORDER BY k) END AS owns,
        CASE WHEN bool_or((o.rest).ended) THEN array_agg(coalesce((o.rest).ended, false) ORDER BY k) END
          AS ends,
        CASE WHEN count((o.rest).ttl) > 0 THEN array_agg((o.rest).ttl ORDER BY k) END AS ttls
      FROM unnest(places) WITH ORDINALITY AS u (place, k) JOIN tidings.outbox o ON o.ctid = u.place) e
    CROSS JOIN (
      SELECT array_agg(k::integer ORDER BY k, n) AS numbers, array_agg(t.name ORDER BY k, n) AS names,
        array_agg(o.private ORDER BY k, n) AS privates
      FROM unnest(places) WITH ORDINALITY AS u (place, k) JOIN tidings.outbox o ON o.ctid = u.place
      CROSS JOIN unnest(coalesce((o.rest).topics, ARRAY[o.topic])) WITH ORDINALITY AS t (name, n)) t;
  RETURN answer;
END $$;
