DROP FUNCTION messaging.changed_since;
DROP FUNCTION messaging.drop_feed_partition;
DROP FUNCTION messaging.oldest_unmarked;
DROP FUNCTION messaging.claim_feed;
ALTER TABLE messaging.feed DROP COLUMN next_try_at;
