-- Device messages: what has been sent to a device is remembered apart from what waits, so that a repeat is known also after
-- the device has acknowledged the first one.

-- Which ids a device has had, from which sending device, and of what content: for as long as a message may wait.
CREATE TABLE delivery.device_message_ids (
    device_id uuid NOT NULL,
    id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    digest bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    CONSTRAINT device_message_ids_pkey PRIMARY KEY (device_id, id)
);
CREATE INDEX idx_device_message_ids_expires_at ON delivery.device_message_ids (expires_at);
INSERT INTO delivery.device_message_ids (device_id, id, sender_device_id, digest, expires_at)
SELECT m.device_id, m.id, m.sender_device_id, sha256(m.content), m.expires_at FROM delivery.device_messages m;
ALTER TABLE delivery.device_messages DROP CONSTRAINT device_messages_device_id_id_key;

-- The row of a queue is locked by whoever changes anything of the queue. What waits is counted here, for the quota. The row
-- of a removed device stays, so that nothing is queued for it that was on its way.
ALTER TABLE delivery.device_queues
    ADD COLUMN waiting_count bigint NOT NULL DEFAULT 0,
    ADD COLUMN waiting_bytes bigint NOT NULL DEFAULT 0,
    ADD COLUMN is_removed boolean NOT NULL DEFAULT false;
UPDATE delivery.device_queues q
SET waiting_count = m.count, waiting_bytes = m.bytes
FROM (SELECT device_id, count(*) AS count, sum(octet_length(content)) AS bytes
      FROM delivery.device_messages GROUP BY device_id) m
WHERE m.device_id = q.device_id;

-- Queues messages, all or none. Pairs of device and id must be distinct. Where something stands against it, the faults are
-- returned and nothing is stored; else the queues that were named, each with its last seq.
CREATE FUNCTION delivery.enqueue(
    p_device_ids uuid[], p_ids uuid[], p_contents bytea[], p_sender_id uuid, p_sender_device_id uuid,
    p_now timestamptz, p_expires_at timestamptz, p_count_max bigint, p_bytes_max bigint
) RETURNS TABLE (device_id uuid, message_id uuid, fault text, last_seq bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO delivery.device_queues (device_id)
    SELECT DISTINCT i.device_id FROM unnest(p_device_ids) AS i (device_id)
    WHERE NOT EXISTS (SELECT FROM delivery.device_queues q WHERE q.device_id = i.device_id)
    ORDER BY i.device_id
    ON CONFLICT DO NOTHING;

    -- Sorted, so that two calls wait for each other and never in a circle. What follows sees what they have waited for:
    -- each statement has its own snapshot.
    PERFORM FROM delivery.device_queues q
    WHERE q.device_id = ANY (p_device_ids)
    ORDER BY q.device_id
    FOR NO KEY UPDATE;

    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT i.device_id, i.id, i.content, k.sender_device_id, k.digest
        FROM unnest(p_device_ids, p_ids, p_contents) AS i (device_id, id, content)
        LEFT JOIN delivery.device_message_ids k ON k.device_id = i.device_id AND k.id = i.id
    ), added AS MATERIALIZED (
        SELECT a.device_id, count(*) AS count, sum(octet_length(a.content)) AS bytes
        FROM asked a WHERE a.digest IS NULL GROUP BY a.device_id
    )
    SELECT q.device_id, NULL::uuid, 'removed', NULL::bigint
    FROM delivery.device_queues q WHERE q.device_id = ANY (p_device_ids) AND q.is_removed
    UNION ALL
    SELECT a.device_id, a.id, 'conflict', NULL
    FROM asked a WHERE a.digest IS NOT NULL AND (a.sender_device_id <> p_sender_device_id OR a.digest <> sha256(a.content))
    UNION ALL
    SELECT q.device_id, NULL, 'full', NULL
    FROM added n
    JOIN delivery.device_queues q ON q.device_id = n.device_id
    WHERE q.waiting_count + n.count > p_count_max OR q.waiting_bytes + n.bytes > p_bytes_max;
    IF FOUND THEN
        RETURN;
    END IF;

    RETURN QUERY
    WITH added AS MATERIALIZED (
        SELECT i.device_id, i.id, i.content,
               q.last_seq + row_number() OVER (PARTITION BY i.device_id ORDER BY i.place) AS seq
        FROM unnest(p_device_ids, p_ids, p_contents) WITH ORDINALITY AS i (device_id, id, content, place)
        JOIN delivery.device_queues q ON q.device_id = i.device_id
        WHERE NOT EXISTS (
            SELECT FROM delivery.device_message_ids k WHERE k.device_id = i.device_id AND k.id = i.id)
    ), known AS (
        INSERT INTO delivery.device_message_ids (device_id, id, sender_device_id, digest, expires_at)
        SELECT a.device_id, a.id, p_sender_device_id, sha256(a.content), p_expires_at FROM added a
    ), stored AS (
        INSERT INTO delivery.device_messages
            (device_id, seq, id, sender_id, sender_device_id, content, sent_at, expires_at)
        SELECT a.device_id, a.seq, a.id, p_sender_id, p_sender_device_id, a.content, p_now, p_expires_at FROM added a
    ), grown AS MATERIALIZED (
        SELECT a.device_id, max(a.seq) AS last_seq, count(*) AS count, sum(octet_length(a.content)) AS bytes
        FROM added a GROUP BY a.device_id
    ), moved AS (
        UPDATE delivery.device_queues q
        SET last_seq = g.last_seq, waiting_count = q.waiting_count + g.count, waiting_bytes = q.waiting_bytes + g.bytes
        FROM grown g
        WHERE q.device_id = g.device_id
    )
    SELECT q.device_id, NULL::uuid, NULL::text, coalesce(g.last_seq, q.last_seq)
    FROM delivery.device_queues q
    LEFT JOIN grown g ON g.device_id = q.device_id
    WHERE q.device_id = ANY (p_device_ids);
END $$;

-- A device has everything up to here. A repeat changes nothing.
CREATE FUNCTION delivery.acknowledge(p_device_id uuid, p_up_to bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    up_to bigint;
BEGIN
    SELECT least(p_up_to, q.last_seq) INTO up_to
    FROM delivery.device_queues q WHERE q.device_id = p_device_id AND q.acknowledged_seq < least(p_up_to, q.last_seq)
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH gone AS (
        DELETE FROM delivery.device_messages m WHERE m.device_id = p_device_id AND m.seq <= up_to
        RETURNING octet_length(m.content) AS bytes
    )
    UPDATE delivery.device_queues q
    SET acknowledged_seq = up_to, waiting_count = q.waiting_count - d.count, waiting_bytes = q.waiting_bytes - d.bytes
    FROM (SELECT count(*) AS count, coalesce(sum(g.bytes), 0) AS bytes FROM gone g) d
    WHERE q.device_id = p_device_id;
END $$;

-- A device is no more: nothing waits for it, and nothing will.
CREATE FUNCTION delivery.remove_queue(p_device_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    INSERT INTO delivery.device_queues AS q (device_id, is_removed) VALUES (p_device_id, true)
    ON CONFLICT (device_id) DO UPDATE SET is_removed = true, waiting_count = 0, waiting_bytes = 0
    WHERE NOT q.is_removed;
    DELETE FROM delivery.device_messages m WHERE m.device_id = p_device_id;
END $$;

-- Deletes a batch of messages and of ids whose time is over; gives how many there were. Queues that somebody works on wait
-- for the next time, so that nobody waits for this.
CREATE FUNCTION delivery.expire(p_now timestamptz, p_limit bigint) RETURNS bigint
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
        RETURNING m.device_id, octet_length(m.content) AS bytes
    ), sums AS MATERIALIZED (
        SELECT g.device_id, count(*) AS count, sum(g.bytes) AS bytes FROM gone g GROUP BY g.device_id
    ), shrunk AS (
        UPDATE delivery.device_queues q
        SET waiting_count = q.waiting_count - s.count, waiting_bytes = q.waiting_bytes - s.bytes
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
