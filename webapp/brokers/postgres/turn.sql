-- The turn of large appends, and whether single events come, which must not wait for many of them. One row,
-- which is missing at first, and after a crash of the server or a failover.

-- Give a process the turn for some milliseconds, unless another one has it. Returns whether it has it now, and
-- whether single events come to another process.
CREATE OR REPLACE FUNCTION tidings.take_turn(
  process text, ms integer, OUT taken boolean, OUT beside_singles boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  now bigint := tidings.now_ms();
BEGIN
  INSERT INTO tidings.turn AS t (process, until) VALUES (take_turn.process, now + ms)
    ON CONFLICT (one) DO UPDATE SET process = excluded.process, until = excluded.until
    WHERE t.process = excluded.process OR t.until NOT BETWEEN now AND now + 5000;
  taken := FOUND;
  beside_singles := EXISTS (
    SELECT FROM tidings.turn t WHERE t.singles_at BETWEEN now - 1000 AND now + 1000
      AND t.singles_process <> take_turn.process);
END $$;

-- Let no process have the turn for some milliseconds, if this one has it.
CREATE OR REPLACE FUNCTION tidings.end_turn(process text, ms integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  UPDATE tidings.turn t SET process = '', until = tidings.now_ms() + ms
    WHERE t.process = end_turn.process;
END $$;

-- Note that single events come to a process.
CREATE OR REPLACE FUNCTION tidings.announce_singles(process text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO tidings.turn (singles_process, singles_at)
    VALUES (announce_singles.process, tidings.now_ms())
    ON CONFLICT (one) DO UPDATE
    SET singles_process = excluded.singles_process, singles_at = excluded.singles_at;
END $$;
