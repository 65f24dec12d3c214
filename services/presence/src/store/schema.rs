// @generated automatically by Diesel CLI.

diesel::table! {
    presence.last_seen (user_id) {
        user_id -> Uuid,
        last_seen_at -> Timestamptz,
    }
}
