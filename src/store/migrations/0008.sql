-- Broken glass: when somebody was first told of it, and the statement of whoever has heard.

ALTER TABLE emergencies ADD COLUMN alerted INTEGER;
ALTER TABLE emergencies ADD COLUMN acknowledgement BLOB REFERENCES statements (sha256);
