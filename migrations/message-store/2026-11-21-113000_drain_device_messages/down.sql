CREATE INDEX idx_pending_device_messages_created_at ON messaging.pending_device_messages (created_at);
DROP INDEX messaging.idx_pending_device_messages_due_at;
ALTER TABLE messaging.pending_device_messages DROP COLUMN due_at;
