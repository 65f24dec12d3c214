-- messaging.append, unless the moment has passed at its end by this database's own clock: then nothing is stored (EN001).
-- A caller who has given up may by then have asked again and been told something else; a process that was stopped, or a
-- request that lay somewhere on its way, must not carry out the first one later.
CREATE FUNCTION messaging.append_before(
    p_not_after timestamptz,
    p_batch_id uuid, p_budget_ms integer, p_wait_ms integer,
    p_conversation_ids uuid[], p_ids uuid[], p_sender_ids uuid[], p_device_ids uuid[], p_message_types text[],
    p_contents bytea[], p_sealed boolean[], p_digests bytea[],
    p_reply_tos uuid[], p_thread_ids uuid[], p_attachments text[], p_mentions text[], p_metadatas text[],
    p_signatures bytea[]
) RETURNS TABLE (
    place bigint, outcome text, seq bigint, countable_no bigint, sent_at timestamptz, expires_at timestamptz,
    kind text, direct_low_id uuid, direct_high_id uuid, feed_at timestamptz
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY SELECT * FROM messaging.append(
        p_batch_id, p_budget_ms, p_wait_ms, p_conversation_ids, p_ids, p_sender_ids, p_device_ids, p_message_types,
        p_contents, p_sealed, p_digests, p_reply_tos, p_thread_ids, p_attachments, p_mentions, p_metadatas,
        p_signatures);
    IF clock_timestamp() > p_not_after THEN
        RAISE EXCEPTION 'the deadline has passed' USING ERRCODE = 'EN001';
    END IF;
END $$;
