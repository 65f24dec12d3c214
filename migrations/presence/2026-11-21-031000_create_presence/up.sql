-- Schema of presence: only what must outlive its processes. Who is connected now is in memory.
-- See services/presence/README.md.

CREATE SCHEMA presence;

-- When a person was last there. Grows only. No index on what changes, so that updates stay in place (HOT).
CREATE TABLE presence.last_seen (
    user_id uuid NOT NULL,
    last_seen_at timestamptz NOT NULL,
    CONSTRAINT last_seen_pkey PRIMARY KEY (user_id)
) WITH (fillfactor = 50);
