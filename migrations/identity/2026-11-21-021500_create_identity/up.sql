-- Schema of the identity service: people, their logins, devices and keys. See services/identity/README.md.

CREATE SCHEMA identity;

CREATE TABLE identity.users (
    id uuid NOT NULL,
    -- Always lower case: names are compared without case.
    username text NOT NULL,
    display_name text,
    email text,
    role text NOT NULL DEFAULT 'user',
    -- argon2id in PHC form.
    password_hash text NOT NULL,
    -- Grows when the person changes the password, not when the same one is hashed anew.
    password_version integer NOT NULL DEFAULT 1,
    presence_visible_to text NOT NULL DEFAULT 'shared',
    messages_from text NOT NULL DEFAULT 'everyone',
    suspended_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_username_key UNIQUE (username),
    CONSTRAINT users_username_check CHECK (username ~ '^[a-z0-9_.-]{3,32}$'),
    CONSTRAINT users_display_name_check CHECK (char_length(display_name) <= 64),
    CONSTRAINT users_role_check CHECK (role IN ('user', 'moderator', 'admin')),
    CONSTRAINT users_presence_visible_to_check CHECK (presence_visible_to IN ('everyone', 'shared', 'contacts', 'nobody')),
    CONSTRAINT users_messages_from_check CHECK (messages_from IN ('everyone', 'contacts', 'nobody'))
);

-- A removed device stays for a while as a mark, so that removing it twice answers like the first time and none of its
-- one-time keys is ever given out again.
CREATE TABLE identity.devices (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    name text NOT NULL,
    platform text,
    created_at timestamptz NOT NULL,
    last_login_at timestamptz,
    removed_at timestamptz,
    CONSTRAINT devices_pkey PRIMARY KEY (id),
    CONSTRAINT devices_user_id_fkey FOREIGN KEY (user_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT devices_name_check CHECK (char_length(name) BETWEEN 1 AND 64),
    CONSTRAINT devices_platform_check CHECK (char_length(platform) <= 32)
);
CREATE INDEX idx_devices_user_id ON identity.devices (user_id, created_at, id);
CREATE INDEX idx_devices_removed_at ON identity.devices (removed_at) WHERE removed_at IS NOT NULL;

-- One sign-in of a user on a device: the family of its refresh tokens.
CREATE TABLE identity.logins (
    id uuid NOT NULL,
    user_id uuid NOT NULL,
    device_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text,
    CONSTRAINT logins_pkey PRIMARY KEY (id),
    CONSTRAINT logins_user_id_fkey FOREIGN KEY (user_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT logins_device_id_fkey FOREIGN KEY (device_id) REFERENCES identity.devices (id) ON DELETE CASCADE,
    CONSTRAINT logins_end_reason_check CHECK (end_reason IN
        ('logout', 'replaced', 'password_changed', 'device_removed', 'token_reused', 'suspended')),
    CONSTRAINT logins_ended_check CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE INDEX idx_logins_user_id ON identity.logins (user_id);
CREATE INDEX idx_logins_device_id ON identity.logins (device_id);
-- A device has one login at a time.
CREATE UNIQUE INDEX logins_device_id_live_key ON identity.logins (device_id) WHERE ended_at IS NULL;
CREATE INDEX idx_logins_ended_at ON identity.logins (ended_at) WHERE ended_at IS NOT NULL;

-- Only hashes: the successor of a token is derived from it with a secret of the service's.
CREATE TABLE identity.refresh_tokens (
    token_hash bytea NOT NULL,
    login_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    spent_at timestamptz,
    CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash),
    CONSTRAINT refresh_tokens_login_id_fkey FOREIGN KEY (login_id) REFERENCES identity.logins (id) ON DELETE CASCADE,
    CONSTRAINT refresh_tokens_token_hash_check CHECK (octet_length(token_hash) = 32)
);
CREATE INDEX idx_refresh_tokens_login_id ON identity.refresh_tokens (login_id);
CREATE INDEX idx_refresh_tokens_expires_at ON identity.refresh_tokens (expires_at);

-- Tries to prove a password, by (account, address) under a keyed hash. A try counts until it is known to be right.
CREATE TABLE identity.login_failures (
    id uuid NOT NULL,
    attempt_key bytea NOT NULL,
    attempted_at timestamptz NOT NULL,
    is_settled boolean NOT NULL DEFAULT false,
    CONSTRAINT login_failures_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_login_failures_attempt_key ON identity.login_failures (attempt_key, attempted_at);
CREATE INDEX idx_login_failures_attempted_at ON identity.login_failures (attempted_at);

-- Keys that sign access tokens. The private half is sealed with AES-256-GCM: nonce (12 bytes), ciphertext, tag.
CREATE TABLE identity.signing_keys (
    key_id text NOT NULL,
    public_key bytea NOT NULL,
    private_key_sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    -- From when on it signs: gateways must have heard of it before.
    signs_from timestamptz NOT NULL,
    -- Until when tokens signed with it may live; unknown until there is a newer key.
    not_after timestamptz,
    CONSTRAINT signing_keys_pkey PRIMARY KEY (key_id),
    CONSTRAINT signing_keys_public_key_check CHECK (octet_length(public_key) = 32)
);
-- One newest key, whatever replicas do at once.
CREATE UNIQUE INDEX signing_keys_newest_key ON identity.signing_keys ((true)) WHERE not_after IS NULL;

-- Public keys that a device publishes; the server never has a private one.
CREATE TABLE identity.device_keys (
    device_id uuid NOT NULL,
    signing_key bytea NOT NULL,
    signal_registration_id integer,
    signal_identity_key bytea,
    signal_signed_prekey jsonb,
    signal_pq_last_resort_prekey jsonb,
    mls_last_resort_key_package bytea,
    updated_at timestamptz NOT NULL,
    CONSTRAINT device_keys_pkey PRIMARY KEY (device_id),
    CONSTRAINT device_keys_device_id_fkey FOREIGN KEY (device_id) REFERENCES identity.devices (id) ON DELETE CASCADE
);

-- Given out once and never again: a claimed key loses its bytes, and its id stays taken.
CREATE TABLE identity.one_time_keys (
    device_id uuid NOT NULL,
    kind text NOT NULL,
    key_id bigint NOT NULL,
    public_key bytea,
    signature bytea,
    digest bytea NOT NULL,
    created_at timestamptz NOT NULL,
    claimed_at timestamptz,
    CONSTRAINT one_time_keys_pkey PRIMARY KEY (device_id, kind, key_id),
    CONSTRAINT one_time_keys_device_id_fkey FOREIGN KEY (device_id) REFERENCES identity.devices (id) ON DELETE CASCADE,
    CONSTRAINT one_time_keys_kind_check CHECK (kind IN ('signal_ec', 'signal_pq', 'mls')),
    CONSTRAINT one_time_keys_claimed_check CHECK ((claimed_at IS NULL) = (public_key IS NOT NULL))
);
CREATE INDEX idx_one_time_keys_unclaimed ON identity.one_time_keys (device_id, kind, key_id) WHERE claimed_at IS NULL;

CREATE TABLE identity.follows (
    user_id uuid NOT NULL,
    followed_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT follows_pkey PRIMARY KEY (user_id, followed_id),
    CONSTRAINT follows_user_id_fkey FOREIGN KEY (user_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT follows_followed_id_fkey FOREIGN KEY (followed_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT follows_self_check CHECK (user_id <> followed_id)
);
CREATE INDEX idx_follows_followed_id ON identity.follows (followed_id);

CREATE TABLE identity.blocks (
    user_id uuid NOT NULL,
    blocked_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT blocks_pkey PRIMARY KEY (user_id, blocked_id),
    CONSTRAINT blocks_user_id_fkey FOREIGN KEY (user_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT blocks_blocked_id_fkey FOREIGN KEY (blocked_id) REFERENCES identity.users (id) ON DELETE CASCADE,
    CONSTRAINT blocks_self_check CHECK (user_id <> blocked_id)
);
CREATE INDEX idx_blocks_blocked_id ON identity.blocks (blocked_id);

CREATE TABLE identity.reports (
    id uuid NOT NULL,
    reporter_id uuid NOT NULL,
    subject_user_id uuid,
    subject_conversation_id uuid,
    subject_message_ids uuid[] NOT NULL DEFAULT '{}',
    reason text NOT NULL,
    comment text,
    evidence jsonb,
    state text NOT NULL DEFAULT 'open',
    resolved_by uuid,
    resolved_at timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT reports_pkey PRIMARY KEY (id),
    CONSTRAINT reports_state_check CHECK (state IN ('open', 'accepted', 'rejected')),
    CONSTRAINT reports_subject_check CHECK ((subject_user_id IS NULL) <> (subject_conversation_id IS NULL))
);
CREATE INDEX idx_reports_state ON identity.reports (state, created_at, id);

-- Who did what to whom; nothing can edit it. No foreign keys: it outlives what it speaks of.
CREATE TABLE identity.audit (
    id uuid NOT NULL,
    actor_id uuid,
    action text NOT NULL,
    subject_id uuid,
    details jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_audit_created_at ON identity.audit (created_at, id);

CREATE FUNCTION identity.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log can only be appended to' USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON identity.audit
    FOR EACH STATEMENT EXECUTE FUNCTION identity.refuse_change();

-- What others must hear of: written in the transaction that changed something, published after it.
CREATE TABLE identity.feed (
    id uuid NOT NULL,
    event text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    published_at timestamptz,
    CONSTRAINT feed_pkey PRIMARY KEY (id)
);
CREATE INDEX idx_feed_unpublished ON identity.feed (created_at, id) WHERE published_at IS NULL;
