-- Channels: who joins or leaves one is no entry of its log.

-- How many have left the channel so far. It moves under the lock of the head, as the seqs do: so each entry stands after so
-- many leaves, and whoever hands it on knows whether a leave before it is missing.
ALTER TABLE messaging.heads ADD COLUMN leaves bigint NOT NULL DEFAULT 0;

-- Each leave of a channel, in its place: after the entry `seq`.
CREATE TABLE messaging.channel_leaves (
    conversation_id uuid NOT NULL,
    leave_no bigint NOT NULL,
    user_id uuid NOT NULL,
    seq bigint NOT NULL,
    left_at timestamptz NOT NULL,
    CONSTRAINT channel_leaves_pkey PRIMARY KEY (conversation_id, leave_no)
);

-- The few among many members who look after them.
CREATE INDEX idx_members_moderators ON messaging.members (conversation_id, user_id) WHERE role IN ('moderator', 'owner');

-- How many have left the channel, for a transaction that holds the lock of its head. Volatile, so that it reads on a snapshot
-- of its own: that of a statement that took the lock is older than the lock.
CREATE FUNCTION messaging.leaves_of(p_conversation_id uuid) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN (SELECT h.leaves FROM messaging.heads h WHERE h.conversation_id = p_conversation_id);
END $$;
