-- Revocations: a request may be revoked before it has a certificate. For that the table of requests is made anew with
-- another check, and with it those that name it.

CREATE TABLE old_decisions AS SELECT * FROM decisions;
CREATE TABLE old_certificates AS SELECT * FROM certificates;
CREATE TABLE old_hanging AS SELECT * FROM hanging;
CREATE TABLE old_reminders AS SELECT * FROM reminders;
DROP TABLE decisions;
DROP TABLE certificates;
DROP TABLE hanging;
DROP TABLE reminders;

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
INSERT INTO new_requests (id, statement, subject_key, waiter, person, role, created, peer, state, decide_by, claim_by,
    serial, ends)
  SELECT id, statement, subject_key, waiter, person, role, created, peer, state, decide_by, claim_by, serial, ends
  FROM requests;
DROP TABLE requests;
ALTER TABLE new_requests RENAME TO requests;
CREATE INDEX requests_open ON requests (state, person) WHERE state IN ('requested', 'approved', 'active');
CREATE INDEX requests_person ON requests (person, role, created);
-- What ended before its time: hosts are told of it until that.
CREATE INDEX requests_cut ON requests (ends) WHERE state IN ('returned', 'revoked');

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
INSERT INTO certificates SELECT * FROM old_certificates;
DROP TABLE old_certificates;

CREATE TABLE hanging (
  fact TEXT NOT NULL,
  value TEXT NOT NULL,
  request TEXT NOT NULL REFERENCES requests (id),
  PRIMARY KEY (fact, request)
);
INSERT INTO hanging SELECT * FROM old_hanging;
DROP TABLE old_hanging;

CREATE TABLE reminders (
  request TEXT NOT NULL REFERENCES requests (id),
  step TEXT NOT NULL CHECK (step IN ('remind', 'escalate')),
  due INTEGER NOT NULL,
  PRIMARY KEY (request, step)
);
INSERT INTO reminders SELECT * FROM old_reminders;
DROP TABLE old_reminders;
CREATE INDEX reminders_due ON reminders (due);

-- Broken glass that was revoked.
CREATE TABLE revoked_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  revocation BLOB NOT NULL REFERENCES statements (sha256)
);
