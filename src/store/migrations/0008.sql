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
-- Broken glass that somebody was told of, since when, and that somebody has said that they heard of.

CREATE TABLE alerted_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  at INTEGER NOT NULL
);
CREATE TABLE acknowledged_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  acknowledgement BLOB NOT NULL REFERENCES statements (sha256)
);
