-- The last message that expired before the device had it: the device is told until it acknowledges that seq.
ALTER TABLE delivery.device_queues ADD COLUMN expired_seq bigint NOT NULL DEFAULT 0;

-- Deletes a batch of messages and of ids whose time is over; gives how many there were. Queues that somebody works on wait
-- for the next time, so that nobody waits for this.
CREATE OR REPLACE FUNCTION delivery.expire(p_now timestamptz, p_limit bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    locked uuid[];
    message_count bigint;
    id_count bigint;
BEGIN
    SELECT array_agg(l.device_id) INTO locked
    FROM (
        SELECT q.device_id FROM delivery.device_queues q
        WHERE q.device_id IN (
            SELECT o.device_id FROM (
                SELECT m.device_id FROM delivery.device_messages m WHERE m.expires_at <= p_now
                ORDER BY m.expires_at LIMIT p_limit) o)
        FOR NO KEY UPDATE SKIP LOCKED
    ) l;
    WITH old AS MATERIALIZED (
        SELECT m.device_id, m.seq FROM delivery.device_messages m
        WHERE m.expires_at <= p_now ORDER BY m.expires_at LIMIT p_limit
    ), gone AS (
        DELETE FROM delivery.device_messages m USING old o
        WHERE m.device_id = o.device_id AND m.seq = o.seq AND m.device_id = ANY (locked)
        RETURNING m.device_id, m.seq, octet_length(m.content) AS bytes
    ), sums AS MATERIALIZED (
        SELECT g.device_id, max(g.seq) AS seq, count(*) AS count, sum(g.bytes) AS bytes FROM gone g GROUP BY g.device_id
    ), shrunk AS (
        UPDATE delivery.device_queues q
        SET waiting_count = q.waiting_count - s.count, waiting_bytes = q.waiting_bytes - s.bytes,
            expired_seq = greatest(q.expired_seq, s.seq)
        FROM sums s
        WHERE q.device_id = s.device_id
    )
    SELECT coalesce(sum(s.count), 0) INTO message_count FROM sums s;
    DELETE FROM delivery.device_message_ids k
    USING (SELECT i.device_id, i.id FROM delivery.device_message_ids i
           WHERE i.expires_at <= p_now ORDER BY i.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED) o
    WHERE k.device_id = o.device_id AND k.id = o.id;
    GET DIAGNOSTICS id_count = ROW_COUNT;
    RETURN greatest(message_count, id_count);
END $$;
