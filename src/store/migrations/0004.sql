-- Facts: what signed messages from outside said, kept as it came and verified again from its bytes whenever something
-- hangs on it. The other two tables are for finding only.

CREATE TABLE fact_messages (
  -- In the order in which they came.
  number INTEGER PRIMARY KEY,
  sha256 BLOB NOT NULL UNIQUE CHECK (length(sha256) = 32),
  source TEXT NOT NULL,
  id TEXT NOT NULL,
  sent INTEGER NOT NULL,
  body BLOB NOT NULL,
  signature TEXT NOT NULL,
  UNIQUE (source, id)
);

-- The latest message on each name.
CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  message BLOB NOT NULL REFERENCES fact_messages (sha256)
);

-- Which facts a claimed request hangs on, and what was so.
CREATE TABLE hanging (
  fact TEXT NOT NULL,
  value TEXT NOT NULL,
  request TEXT NOT NULL REFERENCES requests (id),
  PRIMARY KEY (fact, request)
);
