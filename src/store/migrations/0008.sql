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
