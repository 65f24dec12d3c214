-- Counts connections of devices; a device that connects twice in one batch gets two numbers. Nothing is counted when the
-- moment has passed at the end by this database's own clock (EN001): the caller has asked again by then, and the higher
-- number of the first try would close the connection that came of the second one. The rows are written sorted by device,
-- so that two batches wait for each other and never in a circle.
CREATE FUNCTION messaging.attach_before(
    p_not_after timestamptz, p_device_ids uuid[], p_user_ids uuid[], p_added_ats timestamptz[]
) RETURNS TABLE (place bigint, connection_no bigint, incarnation bigint, at timestamptz)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_device_ids, p_user_ids, p_added_ats) WITH ORDINALITY
            AS i (device_id, user_id, added_at, place)
    ), counted AS (
        INSERT INTO messaging.devices AS d (device_id, user_id, connection_no, added_at)
        SELECT a.device_id, (array_agg(a.user_id))[1], count(*), min(a.added_at)
        FROM asked a GROUP BY a.device_id ORDER BY a.device_id
        ON CONFLICT (device_id) DO UPDATE SET connection_no = d.connection_no + EXCLUDED.connection_no
        RETURNING d.device_id, d.connection_no
    )
    SELECT a.place,
           c.connection_no + 1 - row_number() OVER (PARTITION BY a.device_id ORDER BY a.place DESC),
           (SELECT i.incarnation FROM messaging.incarnation i),
           clock_timestamp()
    FROM asked a JOIN counted c ON c.device_id = a.device_id
    ORDER BY a.place;
    IF clock_timestamp() > p_not_after THEN
        RAISE EXCEPTION 'the deadline has passed' USING ERRCODE = 'EN001';
    END IF;
END $$;
