-- Broken glass that somebody was told of, since when, and that somebody has said that they heard of.

CREATE TABLE alerted_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  at INTEGER NOT NULL
);
CREATE TABLE acknowledged_emergencies (
  id TEXT PRIMARY KEY REFERENCES emergencies (id),
  acknowledgement BLOB NOT NULL REFERENCES statements (sha256)
);
