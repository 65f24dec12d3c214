DROP FUNCTION messaging.attach_before;
