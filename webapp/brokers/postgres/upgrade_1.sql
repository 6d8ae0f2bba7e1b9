-- From version 1 of the tables to version 2: events may expire, and a removal is done in steps.

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
UPDATE tidings.version SET number = 2;
