// @generated automatically by Diesel CLI.

diesel::table! {
    identity.audit (id) {
        id -> Uuid,
        actor_id -> Nullable<Uuid>,
        action -> Text,
        subject_id -> Nullable<Uuid>,
        details -> Jsonb,
        created_at -> Timestamptz,
    }
}

diesel::table! {
    identity.devices (id) {
        id -> Uuid,
        user_id -> Uuid,
        name -> Text,
        platform -> Nullable<Text>,
        created_at -> Timestamptz,
        last_login_at -> Nullable<Timestamptz>,
        removed_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    identity.login_failures (id) {
        id -> Uuid,
        attempt_key -> Bytea,
        attempted_at -> Timestamptz,
        is_settled -> Bool,
    }
}

diesel::table! {
    identity.logins (id) {
        id -> Uuid,
        user_id -> Uuid,
        device_id -> Uuid,
        created_at -> Timestamptz,
        ended_at -> Nullable<Timestamptz>,
        end_reason -> Nullable<Text>,
    }
}

diesel::table! {
    identity.refresh_tokens (token_hash) {
        token_hash -> Bytea,
        login_id -> Uuid,
        created_at -> Timestamptz,
        expires_at -> Timestamptz,
        spent_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    identity.signing_keys (key_id) {
        key_id -> Text,
        public_key -> Bytea,
        private_key_sealed -> Bytea,
        created_at -> Timestamptz,
        signs_from -> Timestamptz,
        not_after -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    identity.users (id) {
        id -> Uuid,
        username -> Text,
        display_name -> Nullable<Text>,
        email -> Nullable<Text>,
        role -> Text,
        password_hash -> Text,
        password_version -> Int4,
        presence_visible_to -> Text,
        messages_from -> Text,
        suspended_at -> Nullable<Timestamptz>,
        created_at -> Timestamptz,
        updated_at -> Timestamptz,
        privacy_version -> Int8,
        privacy_told_version -> Int8,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    audit,
    devices,
    login_failures,
    logins,
    refresh_tokens,
    signing_keys,
    users,
);
