DROP FUNCTION messaging.list_channels;
DROP TABLE messaging.public_channels;
DROP TABLE messaging.invites;
DROP TABLE messaging.bans;

CREATE OR REPLACE FUNCTION messaging.read_memberships(
    p_user_ids uuid[], p_device_ids uuid[], p_made_ats timestamptz[], p_have_cursors boolean[], p_rows_max bigint
) RETURNS TABLE (
    place bigint, version bigint, conversation_id uuid, kind text, left_seq bigint, readable_from bigint, first_seq bigint,
    last_seq bigint, start_seq bigint, has_mention boolean
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT a.place, a.user_id, a.has_cursors, coalesce(v.membership_version, 0) AS version,
               date_trunc('milliseconds', coalesce(d.added_at, a.made_at)) AS added_at,
               1 + (SELECT count(*) FROM messaging.members m WHERE m.user_id = a.user_id) AS size
        FROM unnest(p_user_ids, p_device_ids, p_made_ats, p_have_cursors) WITH ORDINALITY
            AS a (user_id, device_id, made_at, has_cursors, place)
        LEFT JOIN messaging.user_versions v ON v.user_id = a.user_id
        LEFT JOIN messaging.devices d ON d.device_id = a.device_id
    ), granted AS MATERIALIZED (
        SELECT s.*
        FROM (SELECT a.*, sum(a.size) OVER (ORDER BY a.place ROWS UNBOUNDED PRECEDING) AS total FROM asked a) s
        WHERE s.total <= p_rows_max OR s.place = 1
    )
    SELECT g.place, g.version, x.conversation_id, x.kind, x.left_seq, x.readable_from, x.first_seq, x.last_seq, x.start_seq,
           EXISTS (SELECT FROM messaging.mentions n
                   WHERE n.user_id = g.user_id AND n.conversation_id = x.conversation_id AND n.seq > x.start_seq)
    FROM granted g
    LEFT JOIN LATERAL (
        SELECT m.conversation_id, c.kind, m.left_seq, h.first_seq, h.last_seq,
               greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END) AS readable_from,
               CASE
                   WHEN m.left_seq IS NOT NULL THEN m.left_seq
                   WHEN g.added_at IS NULL THEN greatest(h.last_seq, m.joined_seq - 1)
                   WHEN m.joined_at >= g.added_at THEN m.joined_seq - 1
                   WHEN h.last_entry_at IS NULL OR h.last_entry_at < g.added_at
                       THEN greatest(h.last_seq, m.joined_seq - 1)
                   WHEN g.has_cursors THEN greatest(h.first_seq, m.joined_seq) - 1
                   ELSE greatest(m.joined_seq - 1, messaging.seq_at(
                       m.conversation_id, greatest(h.first_seq, m.joined_seq), h.last_seq, g.added_at))
               END AS start_seq
        FROM messaging.members m
        JOIN messaging.conversations c ON c.id = m.conversation_id AND c.is_active
        JOIN messaging.heads h ON h.conversation_id = m.conversation_id
        WHERE m.user_id = g.user_id AND (m.left_seq IS NULL OR m.left_at > now() - interval '30 days')
    ) x ON true
    ORDER BY g.place, x.conversation_id;
END $$;

CREATE OR REPLACE FUNCTION messaging.read_unread(p_user_id uuid, p_conversation_ids uuid[], p_read_seqs bigint[])
RETURNS TABLE (conversation_id uuid, read_seq bigint, unread_count bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT c.conversation_id, c.read_seq,
           c.countable_no
           - coalesce(
               (SELECT l.countable_no FROM messaging.log l WHERE l.conversation_id = c.conversation_id AND l.seq = c.read_seq),
               -- Nothing that is kept was read.
               (SELECT l.countable_no - CASE WHEN l.kind = 'message' AND l.message_type <> 'control' THEN 1 ELSE 0 END
                FROM messaging.log l WHERE l.conversation_id = c.conversation_id AND l.seq = c.first_seq),
               c.countable_no)
           - (SELECT count(*) FROM messaging.log l
              WHERE l.conversation_id = c.conversation_id AND l.seq > c.read_seq
                  AND l.deleted AND l.message_type <> 'control')
    FROM (
        SELECT m.conversation_id, h.first_seq, h.countable_no,
               greatest(least(a.read_seq, h.last_seq), m.joined_seq - 1, m.last_sent_seq, h.first_seq - 1) AS read_seq
        FROM unnest(p_conversation_ids, p_read_seqs) AS a (conversation_id, read_seq)
        JOIN messaging.members m
            ON m.conversation_id = a.conversation_id AND m.user_id = p_user_id AND m.left_seq IS NULL
        JOIN messaging.heads h ON h.conversation_id = m.conversation_id
    ) c;
END $$;

ALTER TABLE messaging.conversations DROP COLUMN deleted_at;
