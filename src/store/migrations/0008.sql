-- Rotation: which trust documents the service took, and how far each host is.

CREATE TABLE trust_documents (
  number INTEGER PRIMARY KEY CHECK (number > 0),
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
  taken INTEGER NOT NULL
);

-- What each host said last, verbatim: it is verified again whenever something hangs on it. `at` is for comparing.
CREATE TABLE host_statuses (
  host TEXT PRIMARY KEY,
  bytes BLOB NOT NULL,
  signature BLOB NOT NULL,
  at INTEGER NOT NULL
);
