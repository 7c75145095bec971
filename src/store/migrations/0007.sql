-- Uses: the connections that certificates opened, as hosts say. A host says each once, and once more when it has ended.

CREATE TABLE uses (
  host TEXT NOT NULL,
  session BLOB NOT NULL CHECK (length(session) = 32),
  -- The request, or the broken glass, that the certificate was made for. None for a certificate that the log does not
  -- know: that is an alarm.
  request TEXT,
  certificate BLOB NOT NULL,
  account TEXT NOT NULL,
  source TEXT NOT NULL,
  began INTEGER NOT NULL,
  ended INTEGER,
  PRIMARY KEY (host, session)
);
CREATE INDEX uses_request ON uses (request);
