-- Sweeping the feed, dropping what is done with, and reading it and the memberships in batches.

-- Before this moment no sweeper takes the row; null for rows that none has taken yet. One nullable column: the row's header
-- has room for eight, so that inserting costs what it did.
ALTER TABLE messaging.feed ADD COLUMN next_try_at timestamptz;

-- What a sweeper looks at: at most p_rows_max rows of the feed after one of them (null: from the oldest), in their order,
-- and at least p_age old. Returns those that lack the mark of the plane, and the last row looked at (`is_last`), with its
-- number. `wait_ms` is for how long the row is still somebody else's, 0 where it may be claimed.
CREATE FUNCTION messaging.scan_feed(
    p_is_event boolean, p_after_at timestamptz, p_after_id uuid, p_age interval, p_rows_max bigint
) RETURNS TABLE (created_at timestamptz, batch_id uuid, is_marked boolean, wait_ms bigint, number bigint, is_last boolean)
LANGUAGE plpgsql STABLE
-- By the primary key, whatever the statistics of a partition of ten minutes say.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    after_at timestamptz := coalesce(p_after_at, '-infinity');
    after_id uuid := coalesce(p_after_id, '00000000-0000-0000-0000-000000000000');
    until timestamptz := clock_timestamp() - p_age;
BEGIN
    RETURN QUERY
    SELECT s.*
    FROM (
        SELECT r.created_at, r.batch_id, r.is_marked, messaging.feed_wait_ms(r.next_try_at),
               row_number() OVER read AS number, lead(r.batch_id) OVER read IS NULL AS is_last
        FROM (
            SELECT f.created_at, f.batch_id, f.next_try_at,
                   CASE WHEN p_is_event THEN f.event_done ELSE f.live_done END AS is_marked
            FROM messaging.feed f
            WHERE f.created_at >= after_at AND (f.created_at, f.batch_id) > (after_at, after_id) AND f.created_at <= until
            ORDER BY f.created_at, f.batch_id
            LIMIT p_rows_max
        ) r
        WINDOW read AS (ORDER BY r.created_at, r.batch_id)
    ) s
    WHERE NOT s.is_marked OR s.is_last;
END $$;

-- For how long a row is not to be taken; 0 where it may be.
CREATE FUNCTION messaging.feed_wait_ms(p_next_try_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(greatest(0, ceil(extract(epoch FROM p_next_try_at - clock_timestamp()) * 1000)), 0)::bigint
$$;

-- Claims rows that lack the mark of a plane: nobody else gets them before next_try_at, which is a lease and the back-off in
-- one, p_lease from now or half the row's age, whichever is longer, and p_wait_max at most. One answer for each row that is
-- there: with its ranges where it was claimed. Rows that others are just claiming are left out of the claim, not waited for.
CREATE FUNCTION messaging.claim_feed(
    p_is_event boolean, p_created_ats timestamptz[], p_batch_ids uuid[], p_lease interval, p_wait_max interval
) RETURNS TABLE (
    created_at timestamptz, batch_id uuid, is_marked boolean, wait_ms bigint,
    conversation_ids uuid[], first_seqs bigint[], last_seqs bigint[]
)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_created_ats, p_batch_ids) AS i (created_at, batch_id)
    ), locked AS MATERIALIZED (
        -- The conditions are looked at again once a row is locked: another's claim that has just been committed counts.
        SELECT f.created_at, f.batch_id
        FROM asked a
        JOIN messaging.feed f ON f.created_at = a.created_at AND f.batch_id = a.batch_id
        WHERE NOT CASE WHEN p_is_event THEN f.event_done ELSE f.live_done END
            AND (f.next_try_at IS NULL OR f.next_try_at <= clock_timestamp())
        ORDER BY f.created_at, f.batch_id
        FOR NO KEY UPDATE OF f SKIP LOCKED
    ), claimed AS (
        UPDATE messaging.feed f
        SET next_try_at = clock_timestamp()
            + least(p_wait_max, greatest(p_lease, (clock_timestamp() - f.created_at) / 2))
        FROM locked l
        WHERE f.created_at = l.created_at AND f.batch_id = l.batch_id
        RETURNING f.created_at, f.batch_id, f.conversation_ids, f.first_seqs, f.last_seqs
    )
    SELECT f.created_at, f.batch_id, CASE WHEN p_is_event THEN f.event_done ELSE f.live_done END,
           messaging.feed_wait_ms(f.next_try_at), c.conversation_ids, c.first_seqs, c.last_seqs
    FROM asked a
    JOIN messaging.feed f ON f.created_at = a.created_at AND f.batch_id = a.batch_id
    LEFT JOIN claimed c ON c.created_at = a.created_at AND c.batch_id = a.batch_id;
END $$;

-- Drops the oldest partition of the feed that ended p_keep ago or earlier and has both marks on every row. Returns its name;
-- null where there is none, or where another session is at it. SQLSTATE 55P03 ends the call when the lock is not to be had
-- at once: appends queue behind it for no longer than the lock_timeout. (DETACH … CONCURRENTLY is not possible beside a
-- default partition.) Marks are never taken back, so what was looked at before the lock still holds under it.
CREATE FUNCTION messaging.drop_feed_partition(p_keep interval) RETURNS text LANGUAGE plpgsql
SET lock_timeout = '20ms' SET timezone = 'UTC' SET datestyle = 'ISO' SET jit = off
AS $$
DECLARE
    partition text;
    is_needed boolean;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7305808869231650926) THEN
        RETURN NULL;
    END IF;
    FOR partition IN
        SELECT c.relname
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'messaging.feed'::regclass
            AND substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz
                <= clock_timestamp() - p_keep
        ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM messaging.%I WHERE NOT (live_done AND event_done))', partition)
            INTO is_needed;
        IF NOT is_needed THEN
            EXECUTE format('DROP TABLE messaging.%I', partition);
            RETURN partition;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- The conversations that feed rows of the last p_age name, each with its highest seq, from one range of the key; at most
-- p_pairs_max pairs of row and conversation are read. `pairs` counts them: above p_pairs_max the answer is not complete.
CREATE FUNCTION messaging.changed_since(p_age interval, p_pairs_max bigint)
RETURNS TABLE (conversation_id uuid, last_seq bigint, pairs bigint)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    since timestamptz := statement_timestamp() - p_age;
BEGIN
    RETURN QUERY
    SELECT r.conversation_id, max(r.last_seq), (sum(count(*)) OVER ())::bigint
    FROM (
        SELECT u.conversation_id, u.last_seq
        FROM messaging.feed f, unnest(f.conversation_ids, f.last_seqs) AS u (conversation_id, last_seq)
        WHERE f.created_at >= since
        LIMIT p_pairs_max + 1
    ) r
    GROUP BY r.conversation_id;
END $$;

-- All that a `sync` needs to know of users, by their place (1, 2, …) in the arrays: those first ones whose memberships make
-- at most p_rows_max rows together, one at least. One row at least for each, for the version. Left memberships are told
-- for 30 days.
--
-- `start_seq` is the head when the device was added: found in the log by time, since times grow with seqs. Entries of the
-- same millisecond count as later: better one twice than one never. Where that would take a search, and the device has
-- cursors of its own, it is the least that it can be.
CREATE FUNCTION messaging.read_memberships(
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
