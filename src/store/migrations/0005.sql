-- What people are to be told. An entry is written in the transaction of what it tells of, and goes away when it
-- was delivered. Nothing is ever decided by it.

CREATE TABLE outbox (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  -- The same over all attempts, so that a receiver can drop a repeat.
  id TEXT NOT NULL UNIQUE,
  channel TEXT NOT NULL,
  -- A mail address; empty for a room.
  recipient TEXT NOT NULL,
  notice TEXT NOT NULL,
  created INTEGER NOT NULL,
  due INTEGER NOT NULL,
  attempts INTEGER NOT NULL CHECK (attempts >= 0),
  -- When it was given up.
  failed INTEGER
);
CREATE INDEX outbox_waiting ON outbox (channel, due, seq) WHERE failed IS NULL;

-- How each channel does.
CREATE TABLE channels (
  name TEXT PRIMARY KEY,
  succeeded INTEGER,
  failures INTEGER NOT NULL CHECK (failures >= 0),
  -- Of the failures in a row: since when, and what the last was.
  since INTEGER,
  error TEXT,
  -- Not before this is the channel tried again.
  rests_until INTEGER NOT NULL,
  CHECK ((failures > 0) = (since IS NOT NULL)),
  CHECK ((since IS NULL) = (error IS NULL))
);

-- When those who can decide are told again, and when those who stand behind them are. A row goes away when it
-- was acted on, so each happens once.
CREATE TABLE reminders (
  request TEXT NOT NULL REFERENCES requests (id),
  step TEXT NOT NULL CHECK (step IN ('remind', 'escalate')),
  due INTEGER NOT NULL,
  PRIMARY KEY (request, step)
);
CREATE INDEX reminders_due ON reminders (due);
