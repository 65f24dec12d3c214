-- Messages that are sent later. Nothing has used the table: it is made anew, by author.
DROP TABLE messaging.scheduled;

CREATE TABLE messaging.scheduled (
    sender_id uuid NOT NULL,
    id uuid NOT NULL,
    conversation_id uuid NOT NULL,
    sender_device_id uuid NOT NULL,
    -- The message in the form in which the store takes it; JSON text.
    message bytea NOT NULL,
    -- The epoch that its content names.
    epoch bigint,
    send_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting',
    -- Grows with each change but those of due_at and leased_until.
    revision bigint NOT NULL DEFAULT 1,
    -- When it is taken next: send_at, the end of a lease, or later where it had to wait.
    due_at timestamptz NOT NULL,
    -- Set: whoever took it may store it until then, and nobody knows whether they did.
    leased_until timestamptz,
    created_at timestamptz NOT NULL,
    CONSTRAINT scheduled_pkey PRIMARY KEY (sender_id, id),
    CONSTRAINT scheduled_state_check CHECK (state IN ('waiting', 'stale', 'failed'))
);
ALTER TABLE messaging.scheduled ALTER COLUMN message SET STORAGE EXTERNAL;
CREATE INDEX idx_scheduled_due_at ON messaging.scheduled (due_at, id) WHERE state = 'waiting';

-- Keeps a message to be sent later: 'kept', 'exists' where its author has one with this id, 'too_many' above p_max.
CREATE FUNCTION messaging.schedule(
    p_sender_id uuid, p_id uuid, p_conversation_id uuid, p_device_id uuid, p_message bytea, p_epoch bigint,
    p_send_at timestamptz, p_max bigint
) RETURNS text LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
BEGIN
    -- One at a time for each author, so that none is counted twice or not at all.
    PERFORM pg_advisory_xact_lock(hashtextextended('messaging.scheduled ' || p_sender_id, 0));
    IF EXISTS (SELECT FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id) THEN
        RETURN 'exists';
    END IF;
    IF (SELECT count(*) FROM messaging.scheduled s WHERE s.sender_id = p_sender_id) >= p_max THEN
        RETURN 'too_many';
    END IF;
    INSERT INTO messaging.scheduled (
        sender_id, id, conversation_id, sender_device_id, message, epoch, send_at, due_at, created_at)
    VALUES (p_sender_id, p_id, p_conversation_id, p_device_id, p_message, p_epoch, p_send_at, p_send_at,
            date_trunc('milliseconds', clock_timestamp()));
    RETURN 'kept';
END $$;

-- Changes what its author has scheduled, or deletes it where there is no message any more. 'done'; 'gone' where there is none, or
-- it was sent; 'sending' while somebody may be storing it; 'changed' where it is at another revision (null: any).
-- What is then due is the caller's to send, until leased_until.
CREATE FUNCTION messaging.change_scheduled(
    p_sender_id uuid, p_id uuid, p_revision bigint, p_message bytea, p_epoch bigint, p_send_at timestamptz,
    p_state text, p_lease_ms bigint
) RETURNS TABLE (outcome text, leased_until timestamptz, is_stale boolean) LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    seen messaging.scheduled;
    held messaging.scheduled;
    lease_end timestamptz;
BEGIN
    SELECT s.* INTO seen FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id;
    IF seen.leased_until IS NOT NULL THEN
        -- Whoever stores it holds this until the commit; who comes after the end of the lease stores nothing any more.
        PERFORM set_config('lock_timeout', '1000', true);
        PERFORM FROM messaging.heads h WHERE h.conversation_id = seen.conversation_id FOR NO KEY UPDATE;
    END IF;
    SELECT s.* INTO held FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id FOR UPDATE;
    IF held.id IS NULL THEN
        RETURN QUERY SELECT 'gone', NULL::timestamptz, false;
        RETURN;
    END IF;
    IF held.leased_until IS DISTINCT FROM seen.leased_until OR held.leased_until >= clock_timestamp() THEN
        RETURN QUERY SELECT 'sending', NULL::timestamptz, false;
        RETURN;
    END IF;
    IF held.leased_until IS NOT NULL AND EXISTS (
        SELECT FROM messaging.log l
        WHERE l.conversation_id = held.conversation_id AND l.id = p_id AND l.sender_id = p_sender_id)
    THEN
        RETURN QUERY SELECT 'gone', NULL::timestamptz, false;
        RETURN;
    END IF;
    IF held.revision <> p_revision THEN
        RETURN QUERY SELECT 'changed', NULL::timestamptz, false;
        RETURN;
    END IF;
    IF p_message IS NULL THEN
        DELETE FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id;
        RETURN QUERY SELECT 'done', NULL::timestamptz, false;
        RETURN;
    END IF;
    IF p_state = 'waiting' AND p_send_at <= clock_timestamp() THEN
        lease_end := date_trunc('milliseconds', clock_timestamp() + p_lease_ms * interval '1 millisecond');
    END IF;
    UPDATE messaging.scheduled s
    SET message = p_message, epoch = p_epoch, send_at = p_send_at, state = p_state, revision = s.revision + 1,
        due_at = coalesce(lease_end, p_send_at), leased_until = lease_end
    WHERE s.sender_id = p_sender_id AND s.id = p_id;
    RETURN QUERY
    SELECT 'done', lease_end, coalesce(h.epoch > p_epoch, false)
    FROM messaging.heads h WHERE h.conversation_id = held.conversation_id;
END $$;

-- Notes that a message that the caller has leased is of an epoch that is over: 'stale'; 'gone' where the lease is another's by
-- now; and 'sent', which deletes it, where an earlier lease did send it.
CREATE FUNCTION messaging.expire_scheduled(p_sender_id uuid, p_id uuid, p_leased_until timestamptz)
RETURNS text LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
DECLARE
    held messaging.scheduled;
BEGIN
    PERFORM set_config('lock_timeout', '1000', true);
    PERFORM FROM messaging.heads h WHERE h.conversation_id = (
        SELECT s.conversation_id FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id)
    FOR NO KEY UPDATE;
    SELECT s.* INTO held FROM messaging.scheduled s
    WHERE s.sender_id = p_sender_id AND s.id = p_id AND s.leased_until = p_leased_until FOR UPDATE;
    IF held.id IS NULL THEN
        RETURN 'gone';
    END IF;
    IF EXISTS (
        SELECT FROM messaging.log l
        WHERE l.conversation_id = held.conversation_id AND l.id = p_id AND l.sender_id = p_sender_id)
    THEN
        DELETE FROM messaging.scheduled s WHERE s.sender_id = p_sender_id AND s.id = p_id;
        RETURN 'sent';
    END IF;
    UPDATE messaging.scheduled s SET state = 'stale', revision = s.revision + 1, leased_until = NULL
    WHERE s.sender_id = p_sender_id AND s.id = p_id;
    RETURN 'stale';
END $$;
