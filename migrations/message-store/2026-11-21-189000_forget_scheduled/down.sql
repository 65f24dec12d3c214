DROP INDEX messaging.idx_scheduled_unsent;

CREATE OR REPLACE FUNCTION messaging.change_scheduled(
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
