-- The tables of the event log and of presence, version 2. Run once, in the transaction that makes the
-- schema. A position is one number: milliseconds << 20 | sequence.

CREATE TABLE tidings.version (number integer NOT NULL);
INSERT INTO tidings.version VALUES (2);

-- One row: where the event log begins and ends. Whoever appends, moves or trims locks it, so that the
-- order of positions is the order of commits. While somebody's snapshot stays open, its dead versions stay
-- too: so it is found at the end of an index, which has the newest version, and is updated by its ctid.
CREATE TABLE tidings.head (
  one boolean NOT NULL DEFAULT true CHECK (one),
  position bigint NOT NULL,  -- of the newest event
  floor bigint NOT NULL,  -- of the newest event that was trimmed
  floor_id text,  -- its own id, if it had one and was public
  events bigint NOT NULL DEFAULT 0,
  bytes bigint NOT NULL DEFAULT 0
);
CREATE INDEX head_position ON tidings.head (position);
INSERT INTO tidings.head (position, floor)
  SELECT now, now FROM (SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint << 20) AS t (now);

CREATE TABLE tidings.topic (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  ended bigint,  -- the position of the event that ended it
  ended_private boolean  -- whether that event is private
);
CREATE INDEX topic_ended ON tidings.topic (ended) WHERE ended IS NOT NULL;

CREATE TABLE tidings.log (
  position bigint PRIMARY KEY,
  size integer NOT NULL,  -- bytes on disk, about
  own text COLLATE "C",  -- the publisher's own id
  private boolean NOT NULL,
  topics bigint[] NOT NULL,  -- the first is the canonical one
  event text NOT NULL,  -- its content, without its `ttl`
  expires bigint  -- in Unix milliseconds; null: never, or it is emptied
);
CREATE UNIQUE INDEX log_own ON tidings.log (own, (topics[1])) WHERE own IS NOT NULL;
CREATE INDEX log_expires ON tidings.log (expires) WHERE expires IS NOT NULL;

-- The index by topic. Entries of private events are apart: a read of public events does not walk over them.
-- `feed` is twice the id of the topic, and one more for private events.
CREATE TABLE tidings.hit (
  feed bigint,
  position bigint,
  PRIMARY KEY (feed, position)
);

-- The removals that go on, or whose process has not asked for the result.
CREATE TABLE tidings.removal (
  entry bigint PRIMARY KEY,  -- the position of its entry in the event log
  topic bigint NOT NULL,
  first bigint NOT NULL,  -- what is left to be removed lies between these; nothing if it is over `last`
  last bigint NOT NULL,
  removed integer NOT NULL  -- how many events were
);

-- Which process has the turn of large appends, and to which one single events came last. A server that has
-- crashed may forget it.
CREATE UNLOGGED TABLE tidings.turn (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  process text COLLATE "C" NOT NULL DEFAULT '',
  until bigint NOT NULL DEFAULT 0,  -- in Unix milliseconds
  singles_process text COLLATE "C" NOT NULL DEFAULT '',
  singles_at bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE tidings.process (
  owner text COLLATE "C" PRIMARY KEY,
  until timestamptz NOT NULL
);
CREATE TABLE tidings.subscriber (
  name text COLLATE "C" PRIMARY KEY,
  owner text COLLATE "C" NOT NULL,
  record text NOT NULL
);
CREATE INDEX subscriber_owner ON tidings.subscriber (owner);

-- One row: a transaction that adds a notice locks it. `total` counts the bytes of all notices so far.
CREATE TABLE tidings.notices (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number bigint NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO tidings.notices DEFAULT VALUES;
CREATE TABLE tidings.notice (
  number bigint PRIMARY KEY,
  total bigint NOT NULL,
  lines text NOT NULL
);

CREATE TABLE tidings.revoked_token (
  token text COLLATE "C" PRIMARY KEY,
  until timestamptz NOT NULL
);
CREATE TABLE tidings.revoked_subject (
  subject text COLLATE "C" PRIMARY KEY,
  at timestamptz NOT NULL
);

-- What transactions of apps have published and no hub has moved to the event log yet. Each column, index
-- and condition of a trigger costs each transaction some microseconds.
CREATE SEQUENCE tidings.outbox_number;
CREATE TYPE tidings.outbox_rest AS (
  topics text[],  -- all of them, the canonical one first
  own text,
  ended boolean,
  event text,
  ttl bigint  -- milliseconds
);
CREATE TABLE tidings.outbox (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  number bigint NOT NULL DEFAULT nextval('tidings.outbox_number'),  -- in the order of the transaction
  topic text NOT NULL,  -- the canonical one
  data text,
  type text,
  private boolean NOT NULL,
  rest tidings.outbox_rest  -- null: the event is made of the columns before
);
CREATE INDEX outbox_xid ON tidings.outbox (xid);
-- Numbers that transactions draw at their commit, one for each event; the highest one counts. Of two
-- transactions that conflict, the second one's is higher.
CREATE TABLE tidings.commits (
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  number bigint NOT NULL DEFAULT nextval('tidings.outbox_number')
);
CREATE INDEX commits_xid ON tidings.commits (xid);
-- The value of a sequence is cheap to look at, and leaves no dead rows.
-- Until when a relay waits for notifications, in Unix milliseconds; otherwise 1.
CREATE SEQUENCE tidings.relay_waits_until;
-- 2: a topic may have ended.
CREATE SEQUENCE tidings.topics_ended;
-- One row each: which process moves events, and what was moved.
CREATE TABLE tidings.relay (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  owner text NOT NULL DEFAULT '',
  until timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO tidings.relay DEFAULT VALUES;
CREATE TABLE tidings.moves (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  moved_before xid8  -- no event of a transaction before this one is left
) WITH (fillfactor = 50);
INSERT INTO tidings.moves DEFAULT VALUES;
-- The newest events that the event log did not take after their transaction had committed.
CREATE TABLE tidings.refused (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  topic text NOT NULL,
  own text,
  reason text NOT NULL  -- conflict: its own id is taken; ended: one of its topics is
);
