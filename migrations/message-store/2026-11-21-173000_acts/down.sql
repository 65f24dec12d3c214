DROP FUNCTION messaging.react(uuid, uuid, uuid, text, integer);
DROP FUNCTION messaging.erase(uuid, uuid[]);
DROP FUNCTION messaging.supersede(uuid, uuid, bigint, timestamptz, boolean);
DROP FUNCTION messaging.is_unwanted(uuid, uuid, uuid, uuid);
DROP FUNCTION messaging.append_entry(uuid, uuid, uuid, text, uuid, uuid, bytea, uuid, bytea, text, bytea, timestamptz);
-- Appends one entry that is no message to a log whose head the caller has locked, and notes it in the feed.
CREATE FUNCTION messaging.append_entry(
    p_batch_id uuid, p_conversation_id uuid, p_id uuid, p_kind text, p_sender_id uuid, p_target_id uuid, p_content bytea
) RETURNS TABLE (seq bigint, countable_no bigint, sent_at timestamptz, feed_at timestamptz)
LANGUAGE sql VOLATILE AS $$
    WITH moved AS (
        UPDATE messaging.heads h
        SET last_seq = h.last_seq + 1,
            last_entry_at = greatest(date_trunc('milliseconds', clock_timestamp()), h.last_entry_at)
        WHERE h.conversation_id = p_conversation_id
        RETURNING h.last_seq, h.countable_no, h.last_entry_at
    ), logged AS (
        INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, target_id, content, countable_no, sent_at)
        SELECT p_conversation_id, m.last_seq, p_id, p_kind, p_sender_id, p_target_id, p_content, m.countable_no,
               m.last_entry_at
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
DROP INDEX messaging.idx_pins_pinned_at;
DROP TABLE messaging.hidden;
DROP TABLE messaging.reaction_counts;
DROP INDEX messaging.idx_log_target_id;
