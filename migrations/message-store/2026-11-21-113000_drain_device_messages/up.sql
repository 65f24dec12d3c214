-- From when on a row may be handed to the delivery tracker: who claims it moves this on, so that no other does, and what the
-- tracker does not take waits.
ALTER TABLE messaging.pending_device_messages ADD COLUMN due_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX idx_pending_device_messages_due_at ON messaging.pending_device_messages (due_at);
DROP INDEX messaging.idx_pending_device_messages_created_at;
