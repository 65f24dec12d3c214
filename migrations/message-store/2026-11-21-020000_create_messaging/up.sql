-- Schema of the message store: conversations, who is in them, and their logs. See services/message-store/README.md.

CREATE SCHEMA messaging;

-- What a conversation is. Nothing here changes when a message is sent.
CREATE TABLE messaging.conversations (
    id uuid NOT NULL,
    kind text NOT NULL,
    encryption text NOT NULL DEFAULT 'e2ee',
    title text,
    description text,
    metadata jsonb NOT NULL DEFAULT '{}',
    posting text NOT NULL DEFAULT 'everyone',
    history_visible boolean NOT NULL DEFAULT false,
    is_public boolean NOT NULL DEFAULT false,
    retention_seconds bigint,
    slow_mode_seconds bigint,
    max_members integer NOT NULL,
    member_count integer NOT NULL,
    created_by uuid NOT NULL,
    -- The two people of a direct conversation, the smaller id first.
    direct_low_id uuid,
    direct_high_id uuid,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT conversations_pkey PRIMARY KEY (id),
    CONSTRAINT conversations_kind_check CHECK (kind IN ('direct', 'group', 'channel')),
    CONSTRAINT conversations_encryption_check CHECK (encryption IN ('e2ee', 'none')),
    CONSTRAINT conversations_posting_check CHECK (posting IN ('everyone', 'moderators')),
    CONSTRAINT conversations_retention_seconds_check CHECK (retention_seconds > 0),
    CONSTRAINT conversations_slow_mode_seconds_check CHECK (slow_mode_seconds > 0),
    CONSTRAINT conversations_member_count_check CHECK (member_count >= 0),
    CONSTRAINT conversations_direct_check CHECK (
        CASE WHEN kind = 'direct' THEN direct_low_id < direct_high_id
             ELSE direct_low_id IS NULL AND direct_high_id IS NULL END)
) WITH (fillfactor = 90);

-- Where each log stands. Updated by every batch: narrow, and no index on what changes, so that updates stay in place (HOT).
-- No CHECK here and on the log: PostgreSQL parses and plans each of them anew for every statement, which is a quarter of
-- the cost of a small batch. Only the functions below write these tables.
-- No foreign key may refer to it: its row lock is what gives each conversation one order (see messaging.append).
CREATE TABLE messaging.heads (
    conversation_id uuid NOT NULL,
    first_seq bigint NOT NULL DEFAULT 1,
    last_seq bigint NOT NULL DEFAULT 0,
    countable_no bigint NOT NULL DEFAULT 0,
    epoch bigint NOT NULL DEFAULT 0,
    last_entry_at timestamptz,
    group_info bytea,
    CONSTRAINT heads_pkey PRIMARY KEY (conversation_id)
) WITH (fillfactor = 50);
ALTER TABLE messaging.heads ALTER COLUMN group_info SET STORAGE EXTERNAL;

CREATE TABLE messaging.members (
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}',
    joined_seq bigint NOT NULL,
    joined_at timestamptz NOT NULL,
    -- The seq of the removal. Set: no member any more.
    left_seq bigint,
    left_at timestamptz,
    CONSTRAINT members_pkey PRIMARY KEY (conversation_id, user_id),
    CONSTRAINT members_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES messaging.conversations (id),
    CONSTRAINT members_role_check CHECK (role IN ('reader', 'member', 'moderator', 'owner')),
    CONSTRAINT members_left_check CHECK ((left_seq IS NULL) = (left_at IS NULL))
) WITH (fillfactor = 90);
CREATE INDEX idx_members_user_id ON messaging.members (user_id);

-- Grows with each change of a user's memberships.
CREATE TABLE messaging.user_versions (
    user_id uuid NOT NULL,
    membership_version bigint NOT NULL,
    CONSTRAINT user_versions_pkey PRIMARY KEY (user_id)
) WITH (fillfactor = 70);

-- Everything durable that happened. No foreign keys: the locked head is the proof that the conversation exists. History
-- walks the primary key too: an index on messages alone would cost every append a tenth, and saves little where most
-- entries are messages.
CREATE TABLE messaging.log (
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    sender_id uuid NOT NULL,
    -- Null for what the server appends.
    sender_device_id uuid,
    message_type text,
    -- The JSON text of the content in its one stored form; null once erased.
    content bytea,
    -- HMAC-SHA256 over the values that an id stands for; goes with the content.
    request_digest bytea,
    reply_to uuid,
    thread_id uuid,
    target_id uuid,
    superseded_by bigint,
    attachments uuid[],
    -- In the order of the message, since signatures cover it; messaging.mentions finds them by user.
    mentions uuid[],
    -- JSON text with sorted keys; null for {}.
    metadata text,
    signature bytea,
    -- How many entries up to this one count as unread for those who have not read them.
    countable_no bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    edited_at timestamptz,
    edit_count integer NOT NULL DEFAULT 0,
    deleted boolean NOT NULL DEFAULT false,
    expires_at timestamptz,
    CONSTRAINT log_pkey PRIMARY KEY (conversation_id, seq),
    CONSTRAINT log_conversation_id_id_key UNIQUE (conversation_id, id)
);
ALTER TABLE messaging.log ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX idx_log_thread_id ON messaging.log (conversation_id, thread_id, seq) WHERE thread_id IS NOT NULL;

CREATE TABLE messaging.mentions (
    user_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT mentions_pkey PRIMARY KEY (user_id, conversation_id, seq)
);

CREATE TABLE messaging.reactions (
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    user_id uuid NOT NULL,
    reaction text NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT reactions_pkey PRIMARY KEY (conversation_id, message_id, user_id, reaction)
);

CREATE TABLE messaging.pins (
    conversation_id uuid NOT NULL,
    message_id uuid NOT NULL,
    message_seq bigint NOT NULL,
    pinned_by uuid NOT NULL,
    pinned_at timestamptz NOT NULL,
    CONSTRAINT pins_pkey PRIMARY KEY (conversation_id, message_id)
);

CREATE TABLE messaging.scheduled (
    conversation_id uuid NOT NULL,
    id uuid NOT NULL,
    sender_id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    -- The message in the form in which the store takes it; JSON text.
    message bytea NOT NULL,
    send_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    created_at timestamptz NOT NULL,
    CONSTRAINT scheduled_pkey PRIMARY KEY (conversation_id, id),
    CONSTRAINT scheduled_state_check CHECK (state IN ('waiting', 'stale', 'failed'))
);
ALTER TABLE messaging.scheduled ALTER COLUMN message SET STORAGE EXTERNAL;
CREATE INDEX idx_scheduled_send_at ON messaging.scheduled (send_at) WHERE state = 'waiting';
CREATE INDEX idx_scheduled_sender_id ON messaging.scheduled (sender_id);

-- Device messages that came with an entry (MLS welcomes); drained to the delivery tracker.
CREATE TABLE messaging.pending_device_messages (
    device_id uuid NOT NULL,
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    sender_id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    content bytea NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT pending_device_messages_pkey PRIMARY KEY (device_id, id)
);
ALTER TABLE messaging.pending_device_messages ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX idx_pending_device_messages_created_at ON messaging.pending_device_messages (created_at);

-- One row per transaction that appended: what changed, never the content. The outbox, and the answer to "what changed since".
-- The range of conversation_ids[i] is first_seqs[i] to last_seqs[i]. No index on the marks, so that setting them stays in
-- place (HOT): who looks for rows without them scans the short partitions.
CREATE TABLE messaging.feed (
    created_at timestamptz NOT NULL,
    batch_id uuid NOT NULL,
    conversation_ids uuid[] NOT NULL,
    first_seqs bigint[] NOT NULL,
    last_seqs bigint[] NOT NULL,
    -- Live frames and notices have left, proven by a round trip on the connection that carried them.
    live_done boolean NOT NULL DEFAULT false,
    -- JetStream has acknowledged the event.
    event_done boolean NOT NULL DEFAULT false,
    CONSTRAINT feed_pkey PRIMARY KEY (created_at, batch_id)
) PARTITION BY RANGE (created_at);
ALTER TABLE messaging.feed ALTER COLUMN conversation_ids SET STORAGE EXTERNAL,
    ALTER COLUMN first_seqs SET STORAGE EXTERNAL, ALTER COLUMN last_seqs SET STORAGE EXTERNAL;
-- Takes what comes when nobody has made partitions for a while.
CREATE TABLE messaging.feed_default PARTITION OF messaging.feed DEFAULT WITH (fillfactor = 70);

-- Who deleted, removed, changed roles. Append-only.
CREATE TABLE messaging.audit (
    id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor_id uuid NOT NULL,
    action text NOT NULL,
    conversation_id uuid,
    target_id uuid,
    detail jsonb NOT NULL DEFAULT '{}',
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_audit_conversation_id ON messaging.audit (conversation_id);

CREATE FUNCTION messaging.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON messaging.audit
    FOR EACH STATEMENT EXECUTE FUNCTION messaging.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON messaging.audit FROM PUBLIC;

-- One random number, changed when the database is restored from a backup. Below 2^53, so that JavaScript can hold it.
CREATE TABLE messaging.incarnation (
    is_only boolean NOT NULL DEFAULT true,
    incarnation bigint NOT NULL,
    CONSTRAINT incarnation_pkey PRIMARY KEY (is_only),
    CONSTRAINT incarnation_is_only_check CHECK (is_only),
    CONSTRAINT incarnation_incarnation_check CHECK (incarnation BETWEEN 1 AND 9007199254740991)
);
INSERT INTO messaging.incarnation (incarnation)
VALUES (1 + ('x' || substr(replace(gen_random_uuid()::text, '-', ''), 1, 13))::bit(52)::bigint);

CREATE TABLE messaging.devices (
    device_id uuid NOT NULL,
    user_id uuid NOT NULL,
    -- The connection that got the higher number is the newer one.
    connection_no bigint NOT NULL DEFAULT 0,
    added_at timestamptz NOT NULL,
    CONSTRAINT devices_pkey PRIMARY KEY (device_id)
) WITH (fillfactor = 70);
CREATE INDEX idx_devices_user_id ON messaging.devices (user_id);

-- Makes the feed's partitions of ten minutes from now on, `ahead` into the future. Returns how many it made.
-- Attaching instead of CREATE TABLE … PARTITION OF: the latter would lock out every append.
CREATE FUNCTION messaging.make_feed_partitions(ahead interval) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    step CONSTANT interval := '10 minutes';
    starts timestamptz := date_bin(step, clock_timestamp(), 'epoch');
    name text;
    made integer := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(7305808869231650925) THEN
        RETURN 0;
    END IF;
    WHILE starts <= clock_timestamp() + ahead LOOP
        name := 'feed_' || to_char(starts AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MI');
        IF to_regclass('messaging.' || name) IS NULL THEN
            BEGIN
                EXECUTE format(
                    'CREATE TABLE messaging.%1$I (LIKE messaging.feed INCLUDING DEFAULTS INCLUDING STORAGE,
                         CONSTRAINT %2$I CHECK (created_at >= %3$L AND created_at < %4$L)) WITH (fillfactor = 70)',
                    name, name || '_range_check', starts, starts + step);
                EXECUTE format('ALTER TABLE messaging.feed ATTACH PARTITION messaging.%I FOR VALUES FROM (%L) TO (%L)',
                    name, starts, starts + step);
                EXECUTE format('ALTER TABLE messaging.%I DROP CONSTRAINT %I', name, name || '_range_check');
                made := made + 1;
            EXCEPTION WHEN check_violation THEN
                -- Rows of that time have already gone to the default partition, and stay there.
                NULL;
            END;
        END IF;
        starts := starts + step;
    END LOOP;
    RETURN made;
END $$;

-- Appends one entry that is no message to a log whose head the caller has locked, and notes it in the feed.
CREATE FUNCTION messaging.append_entry(
    p_batch_id uuid, p_conversation_id uuid, p_id uuid, p_kind text, p_sender_id uuid, p_target_id uuid, p_content bytea
) RETURNS TABLE (seq bigint, countable_no bigint, sent_at timestamptz, feed_at timestamptz)
LANGUAGE sql VOLATILE AS $$
    WITH moved AS (
        UPDATE messaging.heads h
        SET last_seq = h.last_seq + 1,
            last_entry_at = greatest(date_trunc('milliseconds', clock_timestamp()), h.last_entry_at)
        WHERE h.conversation_id = p_conversation_id
        RETURNING h.last_seq, h.countable_no, h.last_entry_at
    ), logged AS (
        INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, target_id, content, countable_no, sent_at)
        SELECT p_conversation_id, m.last_seq, p_id, p_kind, p_sender_id, p_target_id, p_content, m.countable_no,
               m.last_entry_at
        FROM moved m
    ), fed AS (
        INSERT INTO messaging.feed (created_at, batch_id, conversation_ids, first_seqs, last_seqs)
        SELECT date_trunc('milliseconds', clock_timestamp()), p_batch_id, ARRAY[p_conversation_id], ARRAY[m.last_seq],
               ARRAY[m.last_seq]
        FROM moved m
        RETURNING created_at
    )
    SELECT m.last_seq, m.countable_no, m.last_entry_at, f.created_at FROM moved m, fed f
$$;

-- Appends a batch of messages. One row for each, by its place (1, 2, …) in the arrays; pairs of conversation and id must
-- be distinct within a call. Arrays of what is rarely set may be empty. Two steps, because a statement's snapshot is
-- older than the locks that it takes: first the heads are locked, then everything is read and written on a snapshot that
-- sees what those who held them before have committed.
--
-- A head that others hold is left out (`busy`), unless wait_ms is positive: then it is waited for, and SQLSTATE 55P03
-- ends the call. SQLSTATE EN001 ends the call when budget_ms have passed since it came: nothing commits later than that.
--
-- `outcome` is one of: stored, repeat, busy, id_conflict, not_found, forbidden, encryption_mismatch.
CREATE FUNCTION messaging.append(
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

-- Makes the direct conversations that do not exist yet; arrays as in messaging.append, pairs with the smaller id first.
-- Returns those that this call has made.
CREATE FUNCTION messaging.make_directs(
    p_ids uuid[], p_low_ids uuid[], p_high_ids uuid[], p_created_by uuid[], p_encryptions text[]
) RETURNS SETOF uuid LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    made uuid[];
    moment timestamptz := date_trunc('milliseconds', clock_timestamp());
BEGIN
    -- In the order of the ids, as everybody does, so that two calls wait for each other and never in a circle.
    WITH new AS (
        INSERT INTO messaging.conversations (
            id, kind, encryption, max_members, member_count, created_by, direct_low_id, direct_high_id, created_at,
            updated_at)
        SELECT i.id, 'direct', i.encryption, 2, 2, i.created_by, i.low_id, i.high_id, moment, moment
        FROM unnest(p_ids, p_low_ids, p_high_ids, p_created_by, p_encryptions)
            AS i (id, low_id, high_id, created_by, encryption)
        ORDER BY i.id
        ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    SELECT coalesce(array_agg(n.id), '{}') INTO made FROM new n;

    INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
    SELECT i.id, u.user_id, 'member', 1, moment
    FROM unnest(p_ids, p_low_ids, p_high_ids) AS i (id, low_id, high_id), unnest(ARRAY[i.low_id, i.high_id]) AS u (user_id)
    WHERE i.id = ANY (made);
    INSERT INTO messaging.heads (conversation_id) SELECT unnest(made);
    PERFORM messaging.bump_versions((
        SELECT array_agg(u.user_id)
        FROM unnest(p_ids, p_low_ids, p_high_ids) AS i (id, low_id, high_id),
             unnest(ARRAY[i.low_id, i.high_id]) AS u (user_id)
        WHERE i.id = ANY (made)));
    RETURN QUERY SELECT unnest(made);
END $$;

-- Notes that the memberships of these users have changed. Always the last lock that a transaction takes.
CREATE FUNCTION messaging.bump_versions(p_user_ids uuid[]) RETURNS void LANGUAGE sql VOLATILE AS $$
    INSERT INTO messaging.user_versions AS v (user_id, membership_version)
    SELECT DISTINCT u.user_id, 1 FROM unnest(p_user_ids) AS u (user_id) ORDER BY u.user_id
    ON CONFLICT (user_id) DO UPDATE SET membership_version = v.membership_version + 1
$$;

-- The last seq whose entry was sent before a moment, first_seq - 1 where none was: the log's times grow with its seqs.
CREATE FUNCTION messaging.seq_at(p_conversation_id uuid, p_first_seq bigint, p_last_seq bigint, p_at timestamptz)
RETURNS bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    low bigint := p_first_seq - 1;
    high bigint := p_last_seq;
    middle bigint;
BEGIN
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        IF (SELECT l.sent_at < p_at FROM messaging.log l WHERE l.conversation_id = p_conversation_id AND l.seq = middle)
        THEN
            low := middle;
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN low;
END $$;
