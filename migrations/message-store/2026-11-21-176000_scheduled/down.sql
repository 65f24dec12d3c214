DROP FUNCTION messaging.expire_scheduled, messaging.change_scheduled, messaging.schedule;
DROP TABLE messaging.scheduled;

CREATE TABLE messaging.scheduled (
    conversation_id uuid NOT NULL,
    id uuid NOT NULL,
    sender_id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    -- The message in the form in which the store takes it; JSON text.
    message bytea NOT NULL,
    send_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    created_at timestamptz NOT NULL,
    CONSTRAINT scheduled_pkey PRIMARY KEY (conversation_id, id),
    CONSTRAINT scheduled_state_check CHECK (state IN ('waiting', 'stale', 'failed'))
);
ALTER TABLE messaging.scheduled ALTER COLUMN message SET STORAGE EXTERNAL;
CREATE INDEX idx_scheduled_send_at ON messaging.scheduled (send_at) WHERE state = 'waiting';
CREATE INDEX idx_scheduled_sender_id ON messaging.scheduled (sender_id);
