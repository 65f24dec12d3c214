-- What people do with messages: edit, delete, react, pin, hide.

-- Entries about an entry: edits, deletions, reactions and pins of a message.
CREATE INDEX idx_log_target_id ON messaging.log (conversation_id, target_id, sender_id) WHERE target_id IS NOT NULL;

-- How often a message has each reaction: what history shows must not be counted anew for each reader of a large channel.
CREATE TABLE messaging.reaction_counts (
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    reaction text NOT NULL,
    reacted bigint NOT NULL,
    first_at timestamptz NOT NULL,
    CONSTRAINT reaction_counts_pkey PRIMARY KEY (conversation_id, message_id, reaction)
) WITH (fillfactor = 70);

-- Messages that somebody has deleted for themselves.
CREATE TABLE messaging.hidden (
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    CONSTRAINT hidden_pkey PRIMARY KEY (user_id, conversation_id, message_id)
);

CREATE INDEX idx_pins_pinned_at ON messaging.pins (conversation_id, pinned_at);

-- As before; and with what an edit has beside its content.
DROP FUNCTION messaging.append_entry(uuid, uuid, uuid, text, uuid, uuid, bytea);
CREATE FUNCTION messaging.append_entry(
    p_batch_id uuid, p_conversation_id uuid, p_id uuid, p_kind text, p_sender_id uuid, p_target_id uuid, p_content bytea,
    p_sender_device_id uuid DEFAULT NULL, p_request_digest bytea DEFAULT NULL, p_metadata text DEFAULT NULL,
    p_signature bytea DEFAULT NULL, p_expires_at timestamptz DEFAULT NULL
) RETURNS TABLE (seq bigint, countable_no bigint, sent_at timestamptz, feed_at timestamptz)
LANGUAGE sql VOLATILE AS $$
    WITH moved AS (
        UPDATE messaging.heads h
        SET last_seq = h.last_seq + 1,
            last_entry_at = greatest(date_trunc('milliseconds', clock_timestamp()), h.last_entry_at)
        WHERE h.conversation_id = p_conversation_id
        RETURNING h.last_seq, h.countable_no, h.last_entry_at
    ), logged AS (
        INSERT INTO messaging.log (
            conversation_id, seq, id, kind, sender_id, sender_device_id, target_id, content, request_digest, metadata,
            signature, countable_no, sent_at, expires_at)
        SELECT p_conversation_id, m.last_seq, p_id, p_kind, p_sender_id, p_sender_device_id, p_target_id, p_content,
               p_request_digest, p_metadata, p_signature, m.countable_no, m.last_entry_at, p_expires_at
        FROM moved m
    ), fed AS (
        INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs)
        SELECT date_trunc('milliseconds', clock_timestamp()), p_batch_id, ARRAY[p_conversation_id], ARRAY[m.last_seq],
               ARRAY[m.last_seq]
        FROM moved m
        RETURNING created_at
    )
    SELECT m.last_seq, m.countable_no, m.last_entry_at, f.created_at FROM moved m, fed f
$$;

-- Whether somebody may not write to the other of a direct conversation, as messaging.append judges it.
CREATE FUNCTION messaging.is_unwanted(p_conversation_id uuid, p_low_id uuid, p_high_id uuid, p_sender_id uuid)
RETURNS boolean LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM messaging.privacy p
        WHERE p.user_id IN (p_low_id, p_high_id)
            AND (EXISTS (SELECT FROM messaging.blocks b
                         WHERE b.user_id = p.user_id
                             AND b.blocked_id = CASE p.user_id WHEN p_low_id THEN p_high_id ELSE p_low_id END)
                OR (p.user_id <> p_sender_id
                    AND (p.messages_from = 'nobody'
                        OR (p.messages_from = 'contacts'
                            AND (SELECT m.last_sent_seq = 0 FROM messaging.members m
                                 WHERE m.conversation_id = p_conversation_id AND m.user_id = p.user_id))))));
END $$;

-- Puts a new version in the place of a message's content. A ciphertext stands in one place only: in the newest edit.
CREATE FUNCTION messaging.supersede(
    p_conversation_id uuid, p_message_id uuid, p_seq bigint, p_at timestamptz, p_is_sealed boolean
) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    UPDATE messaging.log l
    SET superseded_by = p_seq, content = CASE WHEN p_is_sealed THEN NULL ELSE l.content END
    WHERE l.conversation_id = p_conversation_id AND l.target_id = p_message_id AND l.kind = 'edit' AND l.seq < p_seq
        AND (l.superseded_by IS NULL OR NOT p_is_sealed);
    UPDATE messaging.log l
    SET superseded_by = p_seq, edited_at = p_at, edit_count = l.edit_count + 1,
        content = CASE WHEN p_is_sealed THEN NULL ELSE l.content END
    WHERE l.conversation_id = p_conversation_id AND l.id = p_message_id;
END $$;

-- Erases messages for good, with everything that was said about them; their places in the log remain.
CREATE FUNCTION messaging.erase(p_conversation_id uuid, p_message_ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    DELETE FROM messaging.mentions m
    USING messaging.log l, unnest(l.mentions) AS u (user_id)
    WHERE l.conversation_id = p_conversation_id AND l.id = ANY (p_message_ids)
        AND m.user_id = u.user_id AND m.conversation_id = p_conversation_id AND m.seq = l.seq;
    UPDATE messaging.log l
    SET deleted = true, content = NULL, request_digest = NULL, attachments = NULL, mentions = NULL, metadata = NULL,
        signature = NULL
    WHERE l.conversation_id = p_conversation_id AND l.id = ANY (p_message_ids);
    UPDATE messaging.log l
    SET deleted = true, content = NULL, request_digest = NULL, metadata = NULL, signature = NULL
    WHERE l.conversation_id = p_conversation_id AND l.target_id = ANY (p_message_ids)
        AND l.kind IN ('edit', 'reaction', 'unreaction');
    DELETE FROM messaging.reactions r WHERE r.conversation_id = p_conversation_id AND r.message_id = ANY (p_message_ids);
    DELETE FROM messaging.reaction_counts r
    WHERE r.conversation_id = p_conversation_id AND r.message_id = ANY (p_message_ids);
    DELETE FROM messaging.pins p WHERE p.conversation_id = p_conversation_id AND p.message_id = ANY (p_message_ids);
END $$;

-- Adds a reaction (1) or takes one back (-1); tells whether that changed anything. Callers hold the row of the message.
CREATE FUNCTION messaging.react(
    p_conversation_id uuid, p_message_id uuid, p_user_id uuid, p_reaction text, p_change integer
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    moment timestamptz := date_trunc('milliseconds', clock_timestamp());
BEGIN
    IF p_change > 0 THEN
        INSERT INTO messaging.reactions (conversation_id, message_id, user_id, reaction, created_at)
        VALUES (p_conversation_id, p_message_id, p_user_id, p_reaction, moment)
        ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM messaging.reactions r
        WHERE r.conversation_id = p_conversation_id AND r.message_id = p_message_id AND r.user_id = p_user_id
            AND r.reaction = p_reaction;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO messaging.reaction_counts AS c (conversation_id, message_id, reaction, reacted, first_at)
    VALUES (p_conversation_id, p_message_id, p_reaction, p_change, moment)
    ON CONFLICT (conversation_id, message_id, reaction) DO UPDATE SET reacted = c.reacted + p_change;
    DELETE FROM messaging.reaction_counts c
    WHERE c.conversation_id = p_conversation_id AND c.message_id = p_message_id AND c.reaction = p_reaction
        AND c.reacted <= 0;
    RETURN true;
END $$;
