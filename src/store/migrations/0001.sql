-- The first schema. Written once for both databases: INTEGER is 64 bits, BLOB is bytes.
-- Times are seconds since 1970. Statements are kept verbatim; every other column is for finding and
-- for comparing-and-swapping, and nothing is ever signed on the word of a column alone.

CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
);

CREATE TABLE policies (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  text TEXT NOT NULL
);

-- A statement is spent once: its digest is the key.
CREATE TABLE statements (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  kind TEXT NOT NULL,
  bytes BLOB NOT NULL,
  signature BLOB NOT NULL
);

CREATE TABLE requests (
  id TEXT PRIMARY KEY CHECK (length(id) = 12),
  statement BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  subject_key BLOB NOT NULL UNIQUE CHECK (length(subject_key) = 32),
  waiter BLOB NOT NULL CHECK (length(waiter) = 32),
  person TEXT NOT NULL,
  role TEXT NOT NULL,
  created INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('requested', 'approved', 'active', 'denied', 'withdrawn', 'lapsed',
    'expired', 'returned', 'revoked')),
  decide_by INTEGER NOT NULL,
  claim_by INTEGER,
  serial INTEGER UNIQUE CHECK (serial > 0),
  ends INTEGER,
  CHECK ((state IN ('active', 'expired', 'returned', 'revoked')) = (serial IS NOT NULL)),
  CHECK ((serial IS NULL) = (ends IS NULL)),
  CHECK (state <> 'approved' OR claim_by IS NOT NULL)
);
CREATE INDEX requests_open ON requests (state, person) WHERE state IN ('requested', 'approved', 'active');

CREATE INDEX requests_person ON requests (person, role, created);

CREATE TABLE decisions (
  request TEXT NOT NULL REFERENCES requests (id),
  person TEXT NOT NULL,
  decision TEXT NOT NULL CHECK (decision IN ('approve', 'deny')),
  statement BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  PRIMARY KEY (request, person)
);

-- What is about to be signed: the bytes, to be compared with what the statements lead to.
CREATE TABLE certificates (
  serial INTEGER PRIMARY KEY CHECK (serial > 0),
  request TEXT NOT NULL UNIQUE REFERENCES requests (id),
  claim BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  policy BLOB NOT NULL REFERENCES policies (sha256),
  tbs BLOB NOT NULL
);

CREATE TABLE emergencies (
  id TEXT PRIMARY KEY CHECK (length(id) = 12),
  serial INTEGER NOT NULL UNIQUE CHECK (serial > 0),
  statement BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  at INTEGER NOT NULL,
  review BLOB REFERENCES statements (sha256)
);

CREATE TABLE events (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  leaf BLOB NOT NULL,
  request TEXT
);
CREATE INDEX events_request ON events (request) WHERE request IS NOT NULL;

-- The right edge of the Merkle tree over the events: one row.
CREATE TABLE log (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  size INTEGER NOT NULL,
  roots BLOB
);
INSERT INTO log (one, size) VALUES (1, 0);

-- The last counter of each FIDO key.
CREATE TABLE counters (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  counter INTEGER NOT NULL CHECK (counter >= 0)
);

-- Passkeys: the enrolment is signed twice, by an SSH key (in statements) and by the passkey itself.
CREATE TABLE passkeys (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  person TEXT NOT NULL,
  credential BLOB NOT NULL UNIQUE,
  enrolment BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  signature BLOB NOT NULL,
  removal BLOB REFERENCES statements (sha256)
);
CREATE INDEX passkeys_person ON passkeys (person);

-- Bearers for reading, by their SHA-256.
CREATE TABLE sessions (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  person TEXT NOT NULL,
  signer BLOB NOT NULL CHECK (length(signer) = 32),
  until INTEGER NOT NULL
);
