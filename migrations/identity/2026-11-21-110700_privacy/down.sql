DROP INDEX identity.idx_blocks_user_id;
DROP INDEX identity.idx_follows_user_id;
DROP INDEX identity.idx_users_privacy_untold;
ALTER TABLE identity.users DROP COLUMN privacy_version, DROP COLUMN privacy_told_version;
