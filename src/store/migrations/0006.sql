-- Revocations.

-- What ended before its time: hosts are told of it until that.
CREATE INDEX requests_cut ON requests (ends) WHERE state IN ('returned', 'revoked');

-- Broken glass that was revoked.
CREATE TABLE revoked_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  revocation BLOB NOT NULL REFERENCES statements (sha256)
);
