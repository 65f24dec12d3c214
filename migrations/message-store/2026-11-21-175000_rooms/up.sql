-- Groups and channels: who may not come back, links that let in, which channels everybody finds, and how one ends.

-- A conversation that was deleted keeps its rows; nobody is a member of it any more, and members are told so for 30 days.
-- The rows of its members stay as they are: there may be very many.
ALTER TABLE messaging.conversations ADD COLUMN deleted_at timestamptz;

CREATE TABLE messaging.bans (
    conversation_id uuid NOT NULL,
    user_id uuid NOT NULL,
    banned_by uuid NOT NULL,
    banned_at timestamptz NOT NULL,
    CONSTRAINT bans_pkey PRIMARY KEY (conversation_id, user_id),
    CONSTRAINT bans_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES messaging.conversations (id)
);

CREATE TABLE messaging.invites (
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    -- SHA-256 of the token, which is kept nowhere.
    token_digest bytea NOT NULL,
    created_by uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    max_uses integer,
    uses integer NOT NULL DEFAULT 0,
    -- The last time.
    used_at timestamptz,
    CONSTRAINT invites_pkey PRIMARY KEY (id),
    CONSTRAINT invites_token_digest_key UNIQUE (token_digest),
    CONSTRAINT invites_conversation_id_fkey FOREIGN KEY (conversation_id) REFERENCES messaging.conversations (id),
    CONSTRAINT invites_uses_check CHECK (uses BETWEEN 0 AND coalesce(max_uses, uses))
);
CREATE INDEX idx_invites_conversation_id ON messaging.invites (conversation_id, id);

-- What is found of public channels. A table of its own: an index on conversations.member_count would make every join and
-- leave of every conversation write all its index entries anew.
CREATE TABLE messaging.public_channels (
    conversation_id uuid NOT NULL,
    -- How many members it has, within a tenth: so that a channel that grows to 100,000 changes its place some 100 times.
    size integer NOT NULL,
    -- Of title and description.
    words tsvector NOT NULL,
    CONSTRAINT public_channels_pkey PRIMARY KEY (conversation_id),
    CONSTRAINT public_channels_conversation_id_fkey FOREIGN KEY (conversation_id)
        REFERENCES messaging.conversations (id)
);
CREATE INDEX idx_public_channels_size ON messaging.public_channels (size, conversation_id);
CREATE INDEX idx_public_channels_words ON messaging.public_channels USING gin (words);

-- Public channels with these words, or all of them; the largest first, after a place in that order. Of very many that have
-- the words only some are looked at.
CREATE FUNCTION messaging.list_channels(
    p_caller uuid, p_query text, p_size integer, p_id uuid, p_row_limit bigint, p_found_max bigint
) RETURNS TABLE (
    conversation_id uuid, title text, description text, member_count integer, created_at timestamptz, is_member boolean,
    size integer
)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    ids uuid[];
BEGIN
    IF p_query IS NULL THEN
        ids := ARRAY(
            SELECT p.conversation_id FROM messaging.public_channels p
            WHERE (p.size, p.conversation_id) < (p_size, p_id)
            ORDER BY p.size DESC, p.conversation_id DESC LIMIT p_row_limit);
    ELSE
        ids := ARRAY(
            SELECT f.conversation_id
            FROM (SELECT p.conversation_id, p.size FROM messaging.public_channels p
                  WHERE p.words @@ p_query::tsquery LIMIT p_found_max) f
            WHERE (f.size, f.conversation_id) < (p_size, p_id)
            ORDER BY f.size DESC, f.conversation_id DESC LIMIT p_row_limit);
    END IF;
    RETURN QUERY
    SELECT p.conversation_id, c.title, c.description, c.member_count, c.created_at,
           coalesce((SELECT m.left_seq IS NULL FROM messaging.members m
                     WHERE m.conversation_id = p.conversation_id AND m.user_id = p_caller), false),
           p.size
    FROM unnest(ids) AS i (id)
    JOIN messaging.public_channels p ON p.conversation_id = i.id
    JOIN messaging.conversations c ON c.id = i.id
    ORDER BY p.size DESC, p.conversation_id DESC;
END $$;

-- As before; and who was a member of a conversation that was deleted is told so, as of a removal with its last entry.
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
        SELECT m.conversation_id, c.kind, coalesce(m.left_seq, CASE WHEN NOT c.is_active THEN h.last_seq END) AS left_seq,
               h.first_seq, h.last_seq,
               greatest(h.first_seq, CASE WHEN c.history_visible THEN 1 ELSE m.joined_seq END) AS readable_from,
               CASE
                   WHEN m.left_seq IS NOT NULL THEN m.left_seq
                   WHEN NOT c.is_active THEN h.last_seq
                   WHEN g.added_at IS NULL THEN greatest(h.last_seq, m.joined_seq - 1)
                   WHEN m.joined_at >= g.added_at THEN m.joined_seq - 1
                   WHEN h.last_entry_at IS NULL OR h.last_entry_at < g.added_at
                       THEN greatest(h.last_seq, m.joined_seq - 1)
                   WHEN g.has_cursors THEN greatest(h.first_seq, m.joined_seq) - 1
                   ELSE greatest(m.joined_seq - 1, messaging.seq_at(
                       m.conversation_id, greatest(h.first_seq, m.joined_seq), h.last_seq, g.added_at))
               END AS start_seq
        FROM messaging.members m
        JOIN messaging.conversations c
            ON c.id = m.conversation_id AND (c.is_active OR c.deleted_at > now() - interval '30 days')
        JOIN messaging.heads h ON h.conversation_id = m.conversation_id
        WHERE m.user_id = g.user_id AND (m.left_seq IS NULL OR m.left_at > now() - interval '30 days')
    ) x ON true
    ORDER BY g.place, x.conversation_id;
END $$;

-- As before; but of conversations that were deleted nothing is read.
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
        JOIN messaging.conversations o ON o.id = m.conversation_id AND o.is_active
        JOIN messaging.heads h ON h.conversation_id = m.conversation_id
    ) c;
END $$;
