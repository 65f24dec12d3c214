-- Recounts what some members have not read, and compares it with messaging.read_unread. The members are those on
-- some random pages of their table. Who has more than 10,000 entries before them is left out. Returns how many were looked at, and
-- how far all their counts together are off: 0, or something here is broken.
CREATE FUNCTION messaging.check_unread(p_members_max integer) RETURNS TABLE (looked_at bigint, drift bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    -- In percent; twice as much as is wanted, since a page more or less decides. All, where PostgreSQL knows no size yet.
    share float8 := least(100, 200.0 * p_members_max / greatest(
        (SELECT c.reltuples FROM pg_class c WHERE c.oid = 'messaging.members'::regclass), 1));
BEGIN
    RETURN QUERY
    WITH sample AS MATERIALIZED (
        SELECT m.conversation_id, m.user_id
        FROM messaging.members m TABLESAMPLE SYSTEM (share)
        WHERE m.left_seq IS NULL
        LIMIT p_members_max
    ), counted AS (
        SELECT s.*, u.read_seq, u.unread_count
        FROM sample s, messaging.read_unread(s.user_id, ARRAY[s.conversation_id], ARRAY[0]::bigint[]) u
    ), recounted AS (
        SELECT c.unread_count,
               (SELECT count(*) FROM messaging.log l
                WHERE l.conversation_id = c.conversation_id AND l.seq > c.read_seq AND l.sender_id <> c.user_id
                    AND l.kind = 'message' AND l.message_type <> 'control' AND NOT l.deleted) AS again
        FROM counted c
        JOIN messaging.heads h ON h.conversation_id = c.conversation_id AND h.last_seq - c.read_seq <= 10000
    )
    SELECT count(*), coalesce(sum(abs(r.unread_count - r.again)), 0)::bigint FROM recounted r;
END $$;
