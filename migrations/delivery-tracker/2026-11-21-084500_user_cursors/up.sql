-- Receipts of people: one row for each person and conversation, and the ranges that each receipt covered.

DROP TABLE delivery.read_cursors;

-- How far a person is: what has reached any of their devices, and what they have read, on whichever. Grows only. Its row
-- lock gives the ranges of one person in one conversation an order, so that they do not overlap. Updated all the time:
-- narrow, no checks, and no index on what changes, so that updates stay in place (HOT).
CREATE TABLE delivery.user_cursors (
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    delivered_seq bigint NOT NULL DEFAULT 0,
    read_seq bigint NOT NULL DEFAULT 0,
    CONSTRAINT user_cursors_pkey PRIMARY KEY (user_id, conversation_id)
) WITH (fillfactor = 50);
ALTER TABLE delivery.receipts DROP CONSTRAINT receipts_kind_check, DROP CONSTRAINT receipts_range_check;

-- Moves cursors forward; pairs of device and conversation must be distinct and sorted, so that two calls wait for each
-- other and never in a circle. Returns what has moved for people: the entries after `after` up to `up_to` are newly
-- delivered or read, and on which device that was. Where p_keeps says so, the ranges and their time are kept.
CREATE FUNCTION delivery.advance(
    p_device_ids uuid[], p_conversation_ids uuid[], p_user_ids uuid[], p_delivered_seqs bigint[], p_read_seqs bigint[],
    p_keeps boolean[], p_now timestamptz
) RETURNS TABLE (user_id uuid, conversation_id uuid, device_id uuid, kind text, after bigint, up_to bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO delivery.device_cursors AS d (device_id, conversation_id, user_id, delivered_seq, delivered_at)
    SELECT i.device_id, i.conversation_id, i.user_id, i.delivered_seq, p_now
    FROM unnest(p_device_ids, p_conversation_ids, p_user_ids, p_delivered_seqs)
        AS i (device_id, conversation_id, user_id, delivered_seq)
    WHERE i.delivered_seq > 0
    ON CONFLICT (device_id, conversation_id) DO UPDATE
    SET delivered_seq = EXCLUDED.delivered_seq, delivered_at = EXCLUDED.delivered_at
    WHERE d.delivered_seq < EXCLUDED.delivered_seq;

    INSERT INTO delivery.user_cursors (user_id, conversation_id)
    SELECT DISTINCT i.user_id, i.conversation_id
    FROM unnest(p_user_ids, p_conversation_ids) AS i (user_id, conversation_id)
    WHERE NOT EXISTS (
        SELECT FROM delivery.user_cursors u WHERE u.user_id = i.user_id AND u.conversation_id = i.conversation_id)
    ORDER BY i.user_id, i.conversation_id
    ON CONFLICT DO NOTHING;

    RETURN QUERY
    WITH asked AS MATERIALIZED (
        -- What a person has read has reached them.
        SELECT i.user_id, i.conversation_id, max(greatest(i.delivered_seq, i.read_seq)) AS delivered_seq,
               max(i.read_seq) AS read_seq,
               bool_and(i.keeps) AS keeps,
               (array_agg(i.device_id ORDER BY i.delivered_seq DESC, i.device_id))[1] AS delivered_on,
               (array_agg(i.device_id ORDER BY i.read_seq DESC, i.device_id))[1] AS read_on
        FROM unnest(p_user_ids, p_conversation_ids, p_device_ids, p_delivered_seqs, p_read_seqs, p_keeps)
            AS i (user_id, conversation_id, device_id, delivered_seq, read_seq, keeps)
        GROUP BY i.user_id, i.conversation_id
    ), known AS MATERIALIZED (
        SELECT a.*, u.delivered_seq AS old_delivered_seq, u.read_seq AS old_read_seq
        FROM asked a
        JOIN delivery.user_cursors u ON u.user_id = a.user_id AND u.conversation_id = a.conversation_id
        ORDER BY a.user_id, a.conversation_id
        FOR NO KEY UPDATE OF u
    ), moved AS (
        UPDATE delivery.user_cursors u
        SET delivered_seq = greatest(u.delivered_seq, k.delivered_seq), read_seq = greatest(u.read_seq, k.read_seq)
        FROM known k
        WHERE u.user_id = k.user_id AND u.conversation_id = k.conversation_id
            AND (k.delivered_seq > k.old_delivered_seq OR k.read_seq > k.old_read_seq)
    ), ranges AS MATERIALIZED (
        SELECT k.user_id, k.conversation_id, r.device_id, r.kind, r.after, r.up_to, k.keeps
        FROM known k, LATERAL (VALUES
            ('delivered', k.delivered_on, k.old_delivered_seq, k.delivered_seq),
            ('read', k.read_on, k.old_read_seq, k.read_seq)) AS r (kind, device_id, after, up_to)
        WHERE r.up_to > r.after
    ), kept AS (
        INSERT INTO delivery.receipts (conversation_id, user_id, kind, from_seq, to_seq, received_at)
        SELECT r.conversation_id, r.user_id, r.kind, r.after + 1, r.up_to, p_now
        FROM ranges r
        WHERE r.keeps
    )
    SELECT r.user_id, r.conversation_id, r.device_id, r.kind, r.after, r.up_to FROM ranges r;
END $$;
