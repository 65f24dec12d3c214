-- Sweeping the feed, dropping what is done with, and reading what changed lately.

-- Before this moment no sweeper takes the row; null for rows that none has taken yet. A nullable column without a default:
-- inserting costs what it did.
ALTER TABLE messaging.feed ADD COLUMN next_try_at timestamptz;

-- Claims the oldest rows that lack a mark: nobody else gets them before next_try_at, which is a lease and the back-off in
-- one: p_lease from now or half the row's age, whichever is longer, and ten minutes at most. Rows that somebody else is
-- just claiming are passed over, not waited for. p_from spares looking at what is known to be marked.
CREATE FUNCTION messaging.claim_feed(p_from timestamptz, p_age interval, p_lease interval, p_rows_max bigint)
RETURNS TABLE (
    created_at timestamptz, batch_id uuid, live_done boolean, event_done boolean,
    conversation_ids uuid[], first_seqs bigint[], last_seqs bigint[]
)
LANGUAGE plpgsql VOLATILE
-- By the primary key, whatever the statistics of a partition of ten minutes say.
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off
SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    until timestamptz := clock_timestamp() - p_age;
BEGIN
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT f.created_at, f.batch_id
        FROM messaging.feed f
        WHERE f.created_at >= p_from AND f.created_at <= until AND NOT (f.live_done AND f.event_done)
            AND (f.next_try_at IS NULL OR f.next_try_at <= clock_timestamp())
        ORDER BY f.created_at, f.batch_id
        LIMIT p_rows_max
        FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE messaging.feed f
    SET next_try_at = clock_timestamp()
        + least(interval '10 minutes', greatest(p_lease, (clock_timestamp() - f.created_at) / 2))
    FROM due d
    WHERE f.created_at = d.created_at AND f.batch_id = d.batch_id
    RETURNING f.created_at, f.batch_id, f.live_done, f.event_done, f.conversation_ids, f.first_seqs, f.last_seqs;
END $$;

-- The oldest row at least p_age old that lacks a mark; null where there is none.
CREATE FUNCTION messaging.oldest_unmarked(p_from timestamptz, p_age interval) RETURNS timestamptz LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    until timestamptz := clock_timestamp() - p_age;
BEGIN
    RETURN (
        SELECT f.created_at FROM messaging.feed f
        WHERE f.created_at >= p_from AND f.created_at <= until AND NOT (f.live_done AND f.event_done)
        ORDER BY f.created_at LIMIT 1);
END $$;

-- Drops the oldest partition of the feed that ended p_keep ago or earlier and has both marks on every row, and removes such
-- rows from the default partition. Returns the name of what was dropped; null where there is none, or where it was not to
-- be had at once: appends never queue behind this for longer than the lock_timeout. (DETACH … CONCURRENTLY is not possible
-- beside a default partition.) Marks are never taken back, so what was looked at before the lock still holds under it.
CREATE FUNCTION messaging.drop_feed_partition(p_keep interval) RETURNS text LANGUAGE plpgsql VOLATILE
SET lock_timeout = '20ms' SET timezone = 'UTC' SET datestyle = 'ISO' SET jit = off
AS $$
DECLARE
    partition text;
    is_needed boolean;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7305808869231650926) THEN
        RETURN NULL;
    END IF;
    DELETE FROM messaging.feed_default f
    WHERE f.ctid = ANY (ARRAY(
        SELECT d.ctid FROM messaging.feed_default d
        WHERE d.created_at <= clock_timestamp() - p_keep AND d.live_done AND d.event_done LIMIT 10000));
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
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $$;

-- The conversations that feed rows of the last p_age name, each with its highest seq, from one range of the key. `pairs`
-- counts what was read: above p_pairs_max the answer is not complete.
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
