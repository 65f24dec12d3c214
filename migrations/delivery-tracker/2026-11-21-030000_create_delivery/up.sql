-- Schema of the delivery tracker: how far devices and people are, receipts, and the queues of device messages.
-- See services/delivery-tracker/README.md.
--
-- Every hot query names the device, the user or the conversation, and every unique key holds it, so that each table can
-- be spread by hash. No foreign keys: conversations, users and devices belong to other services.

CREATE SCHEMA delivery;

-- What a device has acknowledged. Grows only. Updated all the time: narrow, and no index on what changes, so that
-- updates stay in place (HOT).
CREATE TABLE delivery.device_cursors (
    device_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    delivered_seq bigint NOT NULL,
    delivered_at timestamptz NOT NULL,
    CONSTRAINT device_cursors_pkey PRIMARY KEY (device_id, conversation_id),
    CONSTRAINT device_cursors_delivered_seq_check CHECK (delivered_seq > 0)
) WITH (fillfactor = 50);

-- What a person has read, on whichever device. Grows only.
CREATE TABLE delivery.read_cursors (
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    read_seq bigint NOT NULL,
    read_at timestamptz NOT NULL,
    CONSTRAINT read_cursors_pkey PRIMARY KEY (user_id, conversation_id),
    CONSTRAINT read_cursors_read_seq_check CHECK (read_seq > 0)
) WITH (fillfactor = 50);

-- Which entries each receipt covered, so that "when did she read message 42" is exact. The ranges of one person and kind
-- in one conversation do not overlap. Kept for conversations of up to 256 members.
CREATE TABLE delivery.receipts (
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    kind text NOT NULL,
    from_seq bigint NOT NULL,
    to_seq bigint NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT receipts_pkey PRIMARY KEY (conversation_id, user_id, kind, to_seq),
    CONSTRAINT receipts_kind_check CHECK (kind IN ('delivered', 'read')),
    CONSTRAINT receipts_range_check CHECK (from_seq > 0 AND from_seq <= to_seq)
);

-- Where the queue of a device stands. Outlives its messages, so that a number is never given twice.
CREATE TABLE delivery.device_queues (
    device_id uuid NOT NULL,
    last_seq bigint NOT NULL DEFAULT 0,
    acknowledged_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT device_queues_pkey PRIMARY KEY (device_id),
    CONSTRAINT device_queues_seq_check CHECK (acknowledged_seq >= 0 AND acknowledged_seq <= last_seq)
) WITH (fillfactor = 50);

-- Ciphertexts for one device each, until it acknowledges them or they expire. Inserted and deleted, never updated.
CREATE TABLE delivery.device_messages (
    device_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    sender_id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    content bytea NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT device_messages_pkey PRIMARY KEY (device_id, seq),
    CONSTRAINT device_messages_device_id_id_key UNIQUE (device_id, id),
    CONSTRAINT device_messages_seq_check CHECK (seq > 0),
    CONSTRAINT device_messages_expires_at_check CHECK (expires_at > sent_at)
);
ALTER TABLE delivery.device_messages ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX idx_device_messages_expires_at ON delivery.device_messages (expires_at);
