DROP FUNCTION delivery.expire;
DROP FUNCTION delivery.remove_queue;
DROP FUNCTION delivery.acknowledge;
DROP FUNCTION delivery.enqueue;
ALTER TABLE delivery.device_queues DROP COLUMN waiting_count, DROP COLUMN waiting_bytes, DROP COLUMN is_removed;
ALTER TABLE delivery.device_messages ADD CONSTRAINT device_messages_device_id_id_key UNIQUE (device_id, id);
DROP TABLE delivery.device_message_ids;
