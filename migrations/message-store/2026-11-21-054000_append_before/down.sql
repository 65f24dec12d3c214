DROP FUNCTION messaging.append_before;
