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
