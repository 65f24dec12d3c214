CREATE OR REPLACE FUNCTION messaging.append(
    p_batch_id uuid, p_budget_ms integer, p_wait_ms integer,
    p_conversation_ids uuid[], p_ids uuid[], p_sender_ids uuid[], p_device_ids uuid[], p_message_types text[],
    p_contents bytea[], p_sealed boolean[], p_digests bytea[],
    p_reply_tos uuid[], p_thread_ids uuid[], p_attachments text[], p_mentions text[], p_metadatas text[],
    p_signatures bytea[]
) RETURNS TABLE (
    place bigint, outcome text, seq bigint, countable_no bigint, sent_at timestamptz, expires_at timestamptz,
    kind text, direct_low_id uuid, direct_high_id uuid, feed_at timestamptz
)
LANGUAGE plpgsql VOLATILE
-- Every table is reached by its key, whatever the statistics of a young database say.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    IF p_wait_ms > 0 THEN
        PERFORM set_config('lock_timeout', p_wait_ms::text, true);
        PERFORM FROM messaging.heads h WHERE h.conversation_id = ANY (p_conversation_ids)
        ORDER BY h.conversation_id FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM messaging.heads h WHERE h.conversation_id = ANY (p_conversation_ids)
        ORDER BY h.conversation_id FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    moment := date_trunc('milliseconds', clock_timestamp());

    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT i.*, c.kind, c.direct_low_id, c.direct_high_id, c.retention_seconds,
               h.last_seq, h.countable_no AS last_countable_no, greatest(moment, h.last_entry_at) AS sent_at,
               o.seq AS old_seq, o.countable_no AS old_countable_no, o.sent_at AS old_sent_at,
               o.expires_at AS old_expires_at,
               CASE
                   WHEN h.conversation_id IS NULL THEN 'not_found'
                   -- Not locked by this transaction. (Locked together with others would look so too; nobody may.)
                   WHEN h.xmax <> pg_current_xact_id()::xid THEN 'busy'
                   WHEN o.kind = 'message' AND o.sender_id = i.sender_id AND o.sender_device_id = i.device_id
                       AND (o.request_digest IS NULL OR o.request_digest = i.digest) THEN 'repeat'
                   WHEN m.user_id IS NULL OR m.left_seq IS NOT NULL OR NOT c.is_active THEN 'not_found'
                   -- One of the two has blocked the other, or the other has asked for quiet. A subquery of one value: two
                   -- look-ups by key, for direct conversations alone; those who never set anything have no row.
                   WHEN c.kind = 'direct' AND (
                       SELECT true FROM messaging.privacy p
                       WHERE p.user_id IN (c.direct_low_id, c.direct_high_id)
                           AND (CASE WHEN p.has_blocks THEN
                                    (SELECT true FROM messaging.blocks b
                                     WHERE b.user_id = p.user_id
                                         AND b.blocked_id = CASE p.user_id WHEN c.direct_low_id THEN c.direct_high_id
                                                                           ELSE c.direct_low_id END)
                                END
                                OR CASE WHEN p.user_id <> i.sender_id THEN
                                    CASE p.messages_from
                                        WHEN 'nobody' THEN true
                                        WHEN 'contacts' THEN
                                            (SELECT t.last_sent_seq = 0 FROM messaging.members t
                                             WHERE t.conversation_id = i.conversation_id AND t.user_id = p.user_id)
                                    END
                                END)
                       LIMIT 1
                   ) THEN 'forbidden'
                   WHEN m.role = 'reader'
                       OR (m.role = 'member' AND c.kind = 'channel' AND c.posting = 'moderators') THEN 'forbidden'
                   WHEN o.seq IS NOT NULL THEN 'id_conflict'
                   WHEN (c.encryption = 'e2ee') <> i.sealed THEN 'encryption_mismatch'
                   ELSE 'stored'
               END AS outcome
        FROM unnest(p_conversation_ids, p_ids, p_sender_ids, p_device_ids, p_message_types, p_contents, p_sealed,
                    p_digests, p_reply_tos, p_thread_ids, p_attachments, p_mentions, p_metadatas, p_signatures)
            WITH ORDINALITY AS i (conversation_id, id, sender_id, device_id, message_type, content, sealed, digest,
                    reply_to, thread_id, attachments, mentions, metadata, signature, place)
        LEFT JOIN messaging.heads h ON h.conversation_id = i.conversation_id
        LEFT JOIN messaging.conversations c ON c.id = i.conversation_id
        LEFT JOIN messaging.members m ON m.conversation_id = i.conversation_id AND m.user_id = i.sender_id
        LEFT JOIN messaging.log o ON o.conversation_id = i.conversation_id AND o.id = i.id
    ), numbered AS MATERIALIZED (
        SELECT j.*,
               j.last_seq + count(*) OVER before AS new_seq,
               j.last_countable_no + count(*) FILTER (WHERE j.message_type <> 'control') OVER before
                   AS new_countable_no,
               j.sent_at + make_interval(secs => j.retention_seconds) AS new_expires_at
        FROM judged j
        WHERE j.outcome = 'stored'
        WINDOW before AS (PARTITION BY j.conversation_id ORDER BY j.place ROWS UNBOUNDED PRECEDING)
    ), logged AS (
        INSERT INTO messaging.log (
            conversation_id, seq, id, kind, sender_id, sender_device_id, message_type, content, request_digest,
            reply_to, thread_id, attachments, mentions, metadata, signature, countable_no, sent_at, expires_at)
        SELECT n.conversation_id, n.new_seq, n.id, 'message', n.sender_id, n.device_id, n.message_type, n.content,
               n.digest, n.reply_to, n.thread_id, n.attachments::uuid[], n.mentions::uuid[], n.metadata, n.signature,
               n.new_countable_no, n.sent_at, n.new_expires_at
        FROM numbered n
    ), sent AS (
        -- Who sends has read what was there before: the sender's own cursor moves with the message.
        UPDATE messaging.members m
        SET last_sent_seq = s.last_seq
        FROM (
            SELECT n.conversation_id, n.sender_id, max(n.new_seq) AS last_seq FROM numbered n
            WHERE n.message_type <> 'control' GROUP BY n.conversation_id, n.sender_id
        ) s
        WHERE m.conversation_id = s.conversation_id AND m.user_id = s.sender_id
    ), ranges AS MATERIALIZED (
        SELECT n.conversation_id, min(n.new_seq) AS first_seq, max(n.new_seq) AS last_seq,
               max(n.new_countable_no) AS countable_no, max(n.sent_at) AS sent_at
        FROM numbered n
        GROUP BY n.conversation_id
    ), moved AS (
        UPDATE messaging.heads h
        SET last_seq = r.last_seq, countable_no = r.countable_no, last_entry_at = r.sent_at
        FROM ranges r
        WHERE h.conversation_id = r.conversation_id
    ), fed AS (
        INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs)
        SELECT moment, p_batch_id, array_agg(r.conversation_id), array_agg(r.first_seq), array_agg(r.last_seq)
        FROM ranges r
        HAVING count(*) > 0
    )
    SELECT j.place, j.outcome, CASE j.outcome WHEN 'repeat' THEN j.old_seq END, j.old_countable_no, j.old_sent_at, j.old_expires_at, j.kind,
           j.direct_low_id, j.direct_high_id, NULL::timestamptz
    FROM judged j
    WHERE j.outcome <> 'stored'
    UNION ALL
    SELECT n.place, n.outcome, n.new_seq, n.new_countable_no, n.sent_at, n.new_expires_at, n.kind,
           n.direct_low_id, n.direct_high_id, moment
    FROM numbered n;

    IF cardinality(p_mentions) > 0 THEN
        INSERT INTO messaging.mentions (user_id, conversation_id, seq)
        SELECT DISTINCT u.user_id, l.conversation_id, l.seq
        FROM unnest(p_conversation_ids, p_ids, p_mentions) AS i (conversation_id, id, mentions)
        JOIN messaging.log l ON l.conversation_id = i.conversation_id AND l.id = i.id,
             unnest(l.mentions) AS u (user_id)
        -- Appended by this call, not by the one that this one repeats.
        WHERE i.mentions IS NOT NULL AND l.xmin = pg_current_xact_id()::xid;
    END IF;

    IF clock_timestamp() - statement_timestamp() > make_interval(secs => p_budget_ms / 1000.0) THEN
        RAISE EXCEPTION 'the deadline has passed' USING ERRCODE = 'EN001';
    END IF;
END $$;

CREATE OR REPLACE FUNCTION messaging.erase(p_conversation_id uuid, p_message_ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE
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

CREATE OR REPLACE FUNCTION messaging.supersede(
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

DROP FUNCTION messaging.erase_expired(integer);
DROP INDEX messaging.idx_log_expires_at;
DROP FUNCTION messaging.choose_language(text);
DROP FUNCTION messaging.search_blocks(uuid, text, uuid, uuid[], bigint[], bigint[], timestamptz, uuid, bigint, bigint);
DROP FUNCTION messaging.search_query(text, uuid, bigint);
DROP FUNCTION messaging.search_words(uuid, bigint, bytea);
DROP FUNCTION messaging.search_place(uuid, bigint, text);
DROP TABLE messaging.search, messaging.search_languages, messaging.threads;
