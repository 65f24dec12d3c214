DROP FUNCTION delivery.advance;
ALTER TABLE delivery.receipts
    ADD CONSTRAINT receipts_kind_check CHECK (kind IN ('delivered', 'read')),
    ADD CONSTRAINT receipts_range_check CHECK (from_seq > 0 AND from_seq <= to_seq);
DROP TABLE delivery.user_cursors;
CREATE TABLE delivery.read_cursors (
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    read_seq bigint NOT NULL,
    read_at timestamptz NOT NULL,
    CONSTRAINT read_cursors_pkey PRIMARY KEY (user_id, conversation_id),
    CONSTRAINT read_cursors_read_seq_check CHECK (read_seq > 0)
) WITH (fillfactor = 50);
