-- Clear text: searched, counted in threads, slowed down; and what disappears.

-- Replies of each thread. A row appears with the first one; what is erased counts no more.
CREATE TABLE messaging.threads (
    conversation_id uuid NOT NULL,
    root_id uuid NOT NULL,
    reply_count bigint NOT NULL,
    CONSTRAINT threads_pkey PRIMARY KEY (conversation_id, root_id)
) WITH (fillfactor = 70);
INSERT INTO messaging.threads (conversation_id, root_id, reply_count)
SELECT l.conversation_id, l.thread_id, count(*) FROM messaging.log l
WHERE l.thread_id IS NOT NULL AND NOT l.deleted GROUP BY l.conversation_id, l.thread_id;

-- Languages (text search configurations of PostgreSQL) that texts were ever indexed in; the one chosen last is that of new
-- texts. A search asks in all of them: choosing another one makes nothing that is there unfindable.
CREATE TABLE messaging.search_languages (
    language text NOT NULL,
    chosen_at timestamptz NOT NULL,
    CONSTRAINT search_languages_pkey PRIMARY KEY (language)
);
-- Read for each text, inside messaging.append, where a scan without an index counts as so dear that PostgreSQL compiles it
-- (JIT: 20 ms and more each time).
CREATE INDEX idx_search_languages_chosen_at ON messaging.search_languages (chosen_at DESC, language);
INSERT INTO messaging.search_languages (language, chosen_at) VALUES ('simple', now());

-- The words of each message in clear text, and one word more that says where it stands (messaging.search_place).
CREATE TABLE messaging.search (
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    message_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    sent_at timestamptz NOT NULL,
    expires_at timestamptz,
    words tsvector NOT NULL,
    CONSTRAINT search_pkey PRIMARY KEY (conversation_id, seq)
);
-- A short list of what is not yet sorted in: every search reads it whole.
CREATE INDEX idx_search_words ON messaging.search USING gin (words) WITH (gin_pending_list_limit = 256);

-- A word that no text has: the block of 4,096 seqs of a conversation that a message stands in, and the language of its
-- words. With it in a query, the index leads to one block, however long the conversation and however common the words.
CREATE FUNCTION messaging.search_place(p_conversation_id uuid, p_block bigint, p_language text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT '@' || p_conversation_id || '/' || p_block || '/' || p_language
$$;

-- What is indexed of a content in clear text: its first 65,536 characters, since a tsvector holds 1 MiB.
CREATE FUNCTION messaging.search_words(p_conversation_id uuid, p_seq bigint, p_content bytea) RETURNS tsvector
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    language text := (SELECT s.language FROM messaging.search_languages s ORDER BY s.chosen_at DESC, s.language LIMIT 1);
    words text := left(convert_from(p_content, 'UTF8')::json ->> 'text', 65536);
BEGIN
    RETURN to_tsvector(language::regconfig, coalesce(words, ''))
        || array_to_tsvector(ARRAY[messaging.search_place(p_conversation_id, p_seq / 4096, language)]);
END $$;

-- What to look for: the words in every language that texts are in, each with a place of that language; null where there
-- is no word to look for.
CREATE FUNCTION messaging.search_query(p_query text, p_conversation_id uuid, p_block bigint) RETURNS tsquery
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    spoken record;
    asked tsquery;
    whole tsquery;
BEGIN
    FOR spoken IN SELECT s.language FROM messaging.search_languages s LOOP
        asked := websearch_to_tsquery(spoken.language::regconfig, p_query);
        IF numnode(asked) > 0 THEN
            asked := asked && quote_literal(messaging.search_place(p_conversation_id, p_block, spoken.language))::tsquery;
            whole := CASE WHEN whole IS NULL THEN asked ELSE whole || asked END;
        END IF;
    END LOOP;
    RETURN whole;
END $$;

-- Looks into the highest block of ranges of seqs. Of each range one row at least, with the time of the entry right below that
-- block. The place in the query is what names conversation and block: with the columns the planner would read the whole
-- block by its key.
CREATE FUNCTION messaging.search_blocks(
    p_caller uuid, p_query text, p_sender_id uuid, p_conversation_ids uuid[], p_lows bigint[], p_highs bigint[],
    p_before_at timestamptz, p_before_conversation_id uuid, p_before_seq bigint, p_row_limit bigint
) RETURNS TABLE (place bigint, seq bigint, sent_at timestamptz, below_at timestamptz)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.place, f.seq, f.sent_at,
           (SELECT l.sent_at FROM messaging.log l
            WHERE l.conversation_id = r.conversation_id AND l.seq = r.high / 4096 * 4096 - 1 AND l.seq >= r.low)
    FROM unnest(p_conversation_ids, p_lows, p_highs) WITH ORDINALITY AS r (conversation_id, low, high, place)
    LEFT JOIN LATERAL (
        SELECT s.seq, s.sent_at
        FROM messaging.search s
        WHERE s.words @@ messaging.search_query(p_query, r.conversation_id, r.high / 4096)
            AND s.seq + 0 BETWEEN r.low AND r.high
            AND (p_sender_id IS NULL OR s.sender_id = p_sender_id)
            AND (p_before_at IS NULL
                 OR (s.sent_at, s.conversation_id, s.seq) < (p_before_at, p_before_conversation_id, p_before_seq))
            AND (s.expires_at IS NULL OR s.expires_at > now())
            AND NOT EXISTS (SELECT FROM messaging.hidden x
                            WHERE x.user_id = p_caller AND x.conversation_id = s.conversation_id
                                AND x.message_id = s.message_id)
        ORDER BY s.sent_at DESC, s.seq DESC
        LIMIT p_row_limit
    ) f ON true
    ORDER BY r.place, f.seq DESC;
END $$;

-- Texts from now on are in this language. Fails where PostgreSQL does not know it.
CREATE FUNCTION messaging.choose_language(p_language text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM p_language::regconfig;
    INSERT INTO messaging.search_languages AS s (language, chosen_at) VALUES (p_language, clock_timestamp())
    ON CONFLICT (language) DO UPDATE SET chosen_at = EXCLUDED.chosen_at;
END $$;

INSERT INTO messaging.search (conversation_id, seq, message_id, sender_id, sent_at, expires_at, words)
SELECT l.conversation_id, l.seq, l.id, l.sender_id, l.sent_at, l.expires_at,
       messaging.search_words(l.conversation_id, l.seq, l.content)
FROM messaging.log l
JOIN messaging.conversations c ON c.id = l.conversation_id AND c.encryption = 'none'
WHERE l.kind = 'message' AND l.message_type <> 'control' AND NOT l.deleted AND l.content IS NOT NULL;

-- What can expire and has not been erased.
CREATE INDEX idx_log_expires_at ON messaging.log (expires_at) WHERE expires_at IS NOT NULL AND NOT deleted AND kind = 'message';

-- Erases up to so many messages whose time has come, the longest due first. Conversations whose head somebody else holds are
-- left for the next time. Returns how many were due, and how many of them were erased.
CREATE FUNCTION messaging.erase_expired(p_rows_max integer) RETURNS TABLE (due bigint, erased bigint)
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    expired record;
BEGIN
    due := 0;
    erased := 0;
    FOR expired IN
        SELECT d.conversation_id, array_agg(d.id) AS ids
        FROM (SELECT l.conversation_id, l.id FROM messaging.log l
              WHERE l.expires_at <= clock_timestamp() AND NOT l.deleted AND l.kind = 'message'
              ORDER BY l.expires_at LIMIT p_rows_max) d
        GROUP BY d.conversation_id ORDER BY d.conversation_id
    LOOP
        due := due + cardinality(expired.ids);
        PERFORM FROM messaging.heads h WHERE h.conversation_id = expired.conversation_id FOR NO KEY UPDATE SKIP LOCKED;
        IF FOUND THEN
            PERFORM messaging.erase(expired.conversation_id, expired.ids);
            erased := erased + cardinality(expired.ids);
        END IF;
    END LOOP;
    RETURN NEXT;
END $$;

-- As before; and a reply that is erased is counted no more, and what is erased is not found.
CREATE OR REPLACE FUNCTION messaging.erase(p_conversation_id uuid, p_message_ids uuid[]) RETURNS void LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    UPDATE messaging.threads t
    SET reply_count = t.reply_count - r.replies
    FROM (SELECT l.thread_id, count(*) AS replies FROM messaging.log l
          WHERE l.conversation_id = p_conversation_id AND l.id = ANY (p_message_ids) AND NOT l.deleted
              AND l.thread_id IS NOT NULL
          GROUP BY l.thread_id) r
    WHERE t.conversation_id = p_conversation_id AND t.root_id = r.thread_id;
    DELETE FROM messaging.search s
    USING messaging.log l
    WHERE l.conversation_id = p_conversation_id AND l.id = ANY (p_message_ids)
        AND s.conversation_id = p_conversation_id AND s.seq = l.seq;
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

-- As before; and a message in clear text is found by its newest words.
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
    IF NOT p_is_sealed THEN
        UPDATE messaging.search s
        SET words = messaging.search_words(p_conversation_id, s.seq, e.content)
        FROM messaging.log m, messaging.log e
        WHERE m.conversation_id = p_conversation_id AND m.id = p_message_id
            AND e.conversation_id = p_conversation_id AND e.seq = p_seq
            AND s.conversation_id = p_conversation_id AND s.seq = m.seq;
    END IF;
END $$;

-- As before; and who mentions somebody that is no member is refused (`unknown_mentions`), as is who writes too soon in slow
-- mode (`rate_limited`: expires_at then says when they may, sent_at what the clock showed). Replies are counted, clear text
-- is indexed.
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
    -- Places of messages that mention somebody who is no member.
    strangers bigint[];
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

    IF cardinality(p_mentions) > 0 THEN
        SELECT array_agg(i.place) INTO strangers
        FROM unnest(p_conversation_ids, p_mentions) WITH ORDINALITY AS i (conversation_id, mentions, place)
        CROSS JOIN unnest(i.mentions::uuid[]) AS u (user_id)
        LEFT JOIN messaging.members m
            ON m.conversation_id = i.conversation_id AND m.user_id = u.user_id AND m.left_seq IS NULL
        WHERE m.user_id IS NULL;
    END IF;

    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT i.*, c.kind, c.direct_low_id, c.direct_high_id, c.retention_seconds, c.slow_mode_seconds,
               h.last_seq, h.countable_no AS last_countable_no, greatest(moment, h.last_entry_at) AS sent_at,
               o.seq AS old_seq, o.countable_no AS old_countable_no, o.sent_at AS old_sent_at,
               o.expires_at AS old_expires_at,
               -- Slow mode, for whom it is meant. One look-up by key.
               CASE WHEN c.slow_mode_seconds IS NOT NULL AND m.role = 'member' AND i.message_type <> 'control' THEN
                   coalesce((SELECT l.sent_at FROM messaging.log l
                             WHERE l.conversation_id = i.conversation_id AND l.seq = m.last_sent_seq)
                            + make_interval(secs => c.slow_mode_seconds), '-infinity')
               END AS may_post_at,
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
                   WHEN i.place = ANY (strangers) THEN 'unknown_mentions'
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
            AND (j.may_post_at IS NULL
                 OR (j.may_post_at <= moment AND NOT EXISTS (
                     SELECT FROM judged e
                     WHERE e.place < j.place AND e.conversation_id = j.conversation_id AND e.sender_id = j.sender_id
                         AND e.outcome = 'stored' AND e.may_post_at <= moment)))
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
    SELECT j.place, 'rate_limited', NULL, NULL, moment,
           CASE WHEN j.may_post_at > moment THEN j.may_post_at
                ELSE moment + make_interval(secs => j.slow_mode_seconds) END, j.kind,
           j.direct_low_id, j.direct_high_id, NULL::timestamptz
    FROM judged j
    WHERE j.outcome = 'stored' AND j.may_post_at IS NOT NULL AND NOT EXISTS (SELECT FROM numbered n WHERE n.place = j.place)
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

    IF cardinality(p_thread_ids) > 0 THEN
        INSERT INTO messaging.threads AS t (conversation_id, root_id, reply_count)
        SELECT l.conversation_id, l.thread_id, count(*)
        FROM unnest(p_conversation_ids, p_ids, p_thread_ids) AS i (conversation_id, id, thread_id)
        JOIN messaging.log l ON l.conversation_id = i.conversation_id AND l.id = i.id
        WHERE i.thread_id IS NOT NULL AND l.xmin = pg_current_xact_id()::xid
        GROUP BY l.conversation_id, l.thread_id
        ON CONFLICT (conversation_id, root_id) DO UPDATE SET reply_count = t.reply_count + EXCLUDED.reply_count;
    END IF;

    IF false = ANY (p_sealed) THEN
        INSERT INTO messaging.search (conversation_id, seq, message_id, sender_id, sent_at, expires_at, words)
        SELECT l.conversation_id, l.seq, l.id, l.sender_id, l.sent_at, l.expires_at,
               messaging.search_words(l.conversation_id, l.seq, l.content)
        FROM unnest(p_conversation_ids, p_ids, p_sealed) AS i (conversation_id, id, sealed)
        JOIN messaging.log l ON l.conversation_id = i.conversation_id AND l.id = i.id
        WHERE NOT i.sealed AND l.message_type <> 'control' AND l.xmin = pg_current_xact_id()::xid;
    END IF;

    IF clock_timestamp() - statement_timestamp() > make_interval(secs => p_budget_ms / 1000.0) THEN
        RAISE EXCEPTION 'the deadline has passed' USING ERRCODE = 'EN001';
    END IF;
END $$;
