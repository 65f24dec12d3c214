// @generated automatically by Diesel CLI.

diesel::table! {
    presence.choices (user_id) {
        user_id -> Uuid,
        status -> Text,
        text -> Nullable<Text>,
        version -> Int8,
    }
}

diesel::table! {
    presence.last_seen (user_id) {
        user_id -> Uuid,
        last_seen_at -> Timestamptz,
    }
}

diesel::allow_tables_to_appear_in_same_query!(choices, last_seen,);
