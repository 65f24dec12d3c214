// @generated automatically by Diesel CLI.

diesel::table! {
    delivery.device_cursors (device_id, conversation_id) {
        device_id -> Uuid,
        conversation_id -> Uuid,
        user_id -> Uuid,
        delivered_seq -> Int8,
        delivered_at -> Timestamptz,
    }
}
