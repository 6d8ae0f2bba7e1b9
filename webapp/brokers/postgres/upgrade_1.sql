-- From version 1 of the tables to version 2: events may expire, a removal is done in steps, and the outbox
-- has fewer columns.

ALTER TABLE tidings.log ADD COLUMN expires bigint;
CREATE INDEX log_expires ON tidings.log (expires) WHERE expires IS NOT NULL;
CREATE TABLE tidings.removal (
  entry bigint PRIMARY KEY,
  topic bigint NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  removed integer NOT NULL
);
ALTER TABLE tidings.outbox RENAME TO outbox_1;
ALTER TABLE tidings.commits RENAME TO commits_1;
DROP INDEX tidings.outbox_xid;
CREATE SEQUENCE tidings.outbox_number;
CREATE TYPE tidings.outbox_rest AS (
  topics text[],
  own text,
  ended boolean,
  event text,
  ttl bigint
);
CREATE TABLE tidings.outbox (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  number bigint NOT NULL DEFAULT nextval('tidings.outbox_number'),
  topic text NOT NULL,
  data text,
  type text,
  private boolean NOT NULL,
  rest tidings.outbox_rest
);
CREATE INDEX outbox_xid ON tidings.outbox (xid);
CREATE TABLE tidings.commits (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  number bigint NOT NULL DEFAULT nextval('tidings.outbox_number')
);
CREATE INDEX commits_xid ON tidings.commits (xid);
INSERT INTO tidings.outbox (xid, number, topic, private, rest)
  SELECT xid, number, topics[1], private, ROW(topics, own, ended, event, NULL)::tidings.outbox_rest
  FROM tidings.outbox_1;
INSERT INTO tidings.commits SELECT xid, number FROM tidings.commits_1;
SELECT setval('tidings.outbox_number', coalesce(max(number), 1)) FROM (
  SELECT number FROM tidings.outbox UNION ALL SELECT number FROM tidings.commits) n;
DROP TABLE tidings.outbox_1, tidings.commits_1 CASCADE;  -- and the functions with their types
ALTER TABLE tidings.relay DROP COLUMN polled_until;
CREATE SEQUENCE tidings.relay_waits_until;
CREATE SEQUENCE tidings.topics_ended;
SELECT setval('tidings.topics_ended', 2);
ALTER TABLE tidings.head DROP CONSTRAINT head_pkey;
CREATE INDEX head_position ON tidings.head (position);
UPDATE tidings.version SET number = 2;
CREATE UNLOGGED TABLE tidings.turn (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  process text COLLATE "C" NOT NULL DEFAULT '',
  until bigint NOT NULL DEFAULT 0,
  singles_process text COLLATE "C" NOT NULL DEFAULT '',
  singles_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
