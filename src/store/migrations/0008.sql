-- Hosts with certificates of their own. What counts are the invitation and the two signatures over the claim that
-- redeemed it, which are verified again whenever a host asks for a certificate.

CREATE TABLE hosts (
  name TEXT PRIMARY KEY,
  -- SHA-256 of the SSH host key.
  key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
  invitation BLOB NOT NULL UNIQUE REFERENCES statements (sha256),
  claim BLOB NOT NULL,
  by_host BLOB NOT NULL,
  by_token BLOB NOT NULL
);

-- What is about to be signed by the host CA.
CREATE TABLE host_certificates (
  serial INTEGER PRIMARY KEY CHECK (serial > 0),
  host TEXT NOT NULL,
  -- When it was claimed: a later one is claimed later.
  claimed INTEGER NOT NULL,
  ends INTEGER NOT NULL,
  tbs BLOB NOT NULL
);
CREATE INDEX host_certificates_host ON host_certificates (host, serial);
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

-- What comes after broken glass: the reports of drills, and which alarms were raised when.

CREATE TABLE drills (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  statement BLOB NOT NULL REFERENCES statements (sha256),
  -- The emergency key that it was made with, and the CA that certified it: what it proved.
  key BLOB NOT NULL CHECK (length(key) = 32),
  ca BLOB NOT NULL CHECK (length(ca) = 32),
  at INTEGER NOT NULL,
  -- What the policy allowed from the command to a shell, in seconds.
  within INTEGER NOT NULL CHECK (within > 0),
  passed INTEGER NOT NULL CHECK (passed IN (0, 1))
);
CREATE INDEX drills_key ON drills (key, at);

-- When people were last told of something that stays as it is: a review that is overdue, a key that nobody practises.
CREATE TABLE raised (
  subject TEXT PRIMARY KEY,
  at INTEGER NOT NULL
);

-- Broken glass that somebody was told of, since when, and that somebody has said that they heard of.

CREATE TABLE alerted_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  at INTEGER NOT NULL
);
CREATE TABLE acknowledged_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  acknowledgement BLOB NOT NULL REFERENCES statements (sha256)
);
