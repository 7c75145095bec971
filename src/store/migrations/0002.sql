-- Sessions of browsers end when they are not used, and an identity provider may have opened one. What the
-- old table held were bearers for 15 minutes: who had one signs in again.

DROP TABLE sessions;

CREATE TABLE sessions (
  sha256 BLOB PRIMARY KEY CHECK (length(sha256) = 32),
  person TEXT NOT NULL,
  signer BLOB CHECK (length(signer) = 32),
  provider TEXT,
  groups TEXT NOT NULL,
  until INTEGER NOT NULL,
  ends INTEGER NOT NULL,
  -- Somebody's key opened it, or somebody's provider did; only a provider claims groups.
  CHECK ((signer IS NULL) <> (provider IS NULL)),
  CHECK (signer IS NULL OR groups = ''),
  CHECK (until <= ends)
);
