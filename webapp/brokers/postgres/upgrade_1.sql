-- From version 1 of the tables to version 2: events may expire, a removal is done in steps, and the outbox
-- has the numbers of commits.

ALTER TABLE tidings.log ADD COLUMN expires bigint;
CREATE INDEX log_expires ON tidings.log (expires) WHERE expires IS NOT NULL;
CREATE TABLE tidings.removal (
  entry bigint PRIMARY KEY,
  topic bigint NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  removed integer NOT NULL
);
ALTER TABLE tidings.outbox ADD COLUMN ttl bigint;
ALTER TABLE tidings.outbox DROP CONSTRAINT outbox_pkey;
ALTER TABLE tidings.outbox ADD COLUMN topic text, ADD COLUMN data text, ADD COLUMN type text,
  ALTER COLUMN topics DROP NOT NULL, ALTER COLUMN event DROP NOT NULL,
  ALTER COLUMN private SET DEFAULT false, ALTER COLUMN ended SET DEFAULT false;
UPDATE tidings.outbox SET topic = topics[1];
INSERT INTO tidings.outbox (xid) SELECT xid FROM tidings.commits ORDER BY number;
DROP TABLE tidings.commits;
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
