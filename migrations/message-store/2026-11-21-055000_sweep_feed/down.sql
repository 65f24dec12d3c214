DROP FUNCTION messaging.read_memberships(uuid[], uuid[], timestamptz[], boolean[], bigint);
DROP FUNCTION messaging.changed_since(interval, bigint);
DROP FUNCTION messaging.drop_feed_partition(interval);
DROP FUNCTION messaging.claim_feed(boolean, timestamptz[], uuid[], interval, interval);
DROP FUNCTION messaging.scan_feed(boolean, timestamptz, uuid, interval, bigint);
DROP FUNCTION messaging.feed_wait_ms(timestamptz);
ALTER TABLE messaging.feed DROP COLUMN next_try_at;
