-- What people allow each other: the message store has a copy, which is told of each change.

-- The version grows with each change of what a user allows others, blocks included; told_version is the one that the store
-- is known to have.
ALTER TABLE identity.users
    ADD COLUMN privacy_version bigint NOT NULL DEFAULT 0,
    ADD COLUMN privacy_told_version bigint NOT NULL DEFAULT 0;
CREATE INDEX idx_users_privacy_untold ON identity.users (id) WHERE privacy_told_version < privacy_version;

-- Lists of people are shown in the order in which they were added.
CREATE INDEX idx_follows_user_id ON identity.follows (user_id, created_at, followed_id);
CREATE INDEX idx_blocks_user_id ON identity.blocks (user_id, created_at, blocked_id);
