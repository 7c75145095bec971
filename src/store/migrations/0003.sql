-- Requests remember where they came from, certificates when access began. And a statement's digest is unique among the
-- statements already: that it was so again in each table that names one cost an index, and with it a page, for
-- every claim. A certificate is found by its request's serial.

CREATE TABLE old_decisions AS SELECT * FROM decisions;
CREATE TABLE old_certificates AS SELECT * FROM certificates;
DROP TABLE decisions;
DROP TABLE certificates;

CREATE TABLE new_requests (
  id TEXT PRIMARY KEY CHECK (length(id) = 12),
  statement BLOB NOT NULL REFERENCES statements (sha256),
  subject_key BLOB NOT NULL UNIQUE CHECK (length(subject_key) = 32),
  waiter BLOB NOT NULL CHECK (length(waiter) = 32),
  person TEXT NOT NULL,
  role TEXT NOT NULL,
  created INTEGER NOT NULL,
  peer TEXT,
  state TEXT NOT NULL CHECK (state IN ('requested', 'approved', 'active', 'denied', 'withdrawn', 'lapsed',
    'expired', 'returned', 'revoked')),
  decide_by INTEGER NOT NULL,
  claim_by INTEGER,
  serial INTEGER CHECK (serial > 0),
  ends INTEGER,
  CHECK (state = 'revoked' OR (state IN ('active', 'expired', 'returned')) = (serial IS NOT NULL)),
  CHECK ((serial IS NULL) = (ends IS NULL)),
  CHECK (state <> 'approved' OR claim_by IS NOT NULL)
);
INSERT INTO new_requests (id, statement, subject_key, waiter, person, role, created, state, decide_by, claim_by, serial, ends)
  SELECT id, statement, subject_key, waiter, person, role, created, state, decide_by, claim_by, serial, ends FROM requests;
DROP TABLE requests;
ALTER TABLE new_requests RENAME TO requests;
CREATE INDEX requests_open ON requests (state, person) WHERE state IN ('requested', 'approved', 'active');
CREATE INDEX requests_person ON requests (person, role, created);

CREATE TABLE decisions (
  request TEXT NOT NULL REFERENCES requests (id),
  person TEXT NOT NULL,
  decision TEXT NOT NULL CHECK (decision IN ('approve', 'deny')),
  statement BLOB NOT NULL REFERENCES statements (sha256),
  PRIMARY KEY (request, person)
);
INSERT INTO decisions SELECT * FROM old_decisions;
DROP TABLE old_decisions;

CREATE TABLE certificates (
  serial INTEGER PRIMARY KEY CHECK (serial > 0),
  request TEXT NOT NULL REFERENCES requests (id),
  claim BLOB NOT NULL REFERENCES statements (sha256),
  policy BLOB NOT NULL REFERENCES policies (sha256),
  tbs BLOB NOT NULL,
  valid_after INTEGER
);
INSERT INTO certificates (serial, request, claim, policy, tbs)
  SELECT serial, request, claim, policy, tbs FROM old_certificates;
DROP TABLE old_certificates;
