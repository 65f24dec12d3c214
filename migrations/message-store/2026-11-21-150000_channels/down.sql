DROP FUNCTION messaging.leaves_of;
DROP INDEX messaging.idx_members_moderators;
DROP TABLE messaging.channel_leaves;
ALTER TABLE messaging.heads DROP COLUMN leaves;
