DROP FUNCTION messaging.check_unread;
