//! Accounts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::{Timestamp, UserId};
use entrenous_protocol::rest::{MessagesFrom, ProfilePatch, User, UserRole, VisibleTo};
use uuid::Uuid;

use super::{observe, privacy, schema::users};

/// An account. Holds the password's hash: has no `Debug`.
#[derive(Clone, Queryable, Selectable)]
#[diesel(table_name = users, check_for_backend(diesel::pg::Pg))]
pub(crate) struct UserRow {
    pub(crate) id: Uuid,
    pub(crate) username: String,
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) role: String,
    pub(crate) password_hash: String,
    pub(crate) password_version: i32,
    presence_visible_to: String,
    messages_from: String,
    pub(crate) suspended_at: Option<DateTime<Utc>>,
    pub(crate) created_at: DateTime<Utc>,
}

impl UserRow {
    /// The password's hash, where there is a password.
    pub(crate) fn password_hash(&self) -> Option<&str> {
        Some(self.password_hash.as_str()).filter(|hash| *hash != NO_PASSWORD)
    }

    /// What the account may do.
    pub(crate) fn role(&self) -> UserRole {
        match self.role.as_str() {
            "admin" => UserRole::Admin,
            "moderator" => UserRole::Moderator,
            _ => UserRole::User,
        }
    }

    /// Who may see the user's presence.
    pub(crate) fn presence_visible_to(&self) -> VisibleTo {
        VisibleTo::parse(&self.presence_visible_to).unwrap_or_default()
    }

    /// Who may write to the user.
    pub(crate) fn messages_from(&self) -> MessagesFrom {
        MessagesFrom::parse(&self.messages_from).unwrap_or_default()
    }
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        Self {
            id: row.id.into(),
            role: row.role(),
            presence_visible_to: row.presence_visible_to(),
            messages_from: row.messages_from(),
            username: row.username,
            display_name: row.display_name,
            email: row.email,
            created_at: row.created_at.into(),
        }
    }
}

/// Stands for the hash where there is no password: that of somebody whom an outside issuer signs in.
pub(crate) const NO_PASSWORD: &str = "";

/// A new account; the name in lower case.
#[derive(Insertable)]
#[diesel(table_name = users)]
pub(crate) struct NewUser {
    pub(crate) id: Uuid,
    pub(crate) username: String,
    pub(crate) display_name: Option<String>,
    pub(crate) email: Option<String>,
    pub(crate) password_hash: String,
    pub(crate) created_at: DateTime<Utc>,
    pub(crate) updated_at: DateTime<Utc>,
}

/// Adds an account; `None` when the name or the id is taken.
pub(crate) async fn insert(connection: &mut AsyncPgConnection, user: &NewUser) -> QueryResult<Option<UserRow>> {
    let statement =
        diesel::insert_into(users::table).values(user).on_conflict_do_nothing().returning(UserRow::as_returning());
    observe("insert_user", async { statement.get_result(connection).await.optional() }).await
}

/// The account with a name in lower case.
pub(crate) async fn find_by_name(connection: &mut AsyncPgConnection, username: &str) -> QueryResult<Option<UserRow>> {
    let query = users::table.filter(users::username.eq(username)).select(UserRow::as_select());
    observe("find_user", async { query.first(connection).await.optional() }).await
}

/// The account with an id.
pub(crate) async fn find(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<Option<UserRow>> {
    let query = users::table.find(user_id.as_uuid()).select(UserRow::as_select());
    observe("find_user", async { query.first(connection).await.optional() }).await
}

/// The account with an id, locked: its logins, devices and password do not change until the transaction ends.
pub(crate) async fn lock(connection: &mut AsyncPgConnection, user_id: UserId) -> QueryResult<Option<UserRow>> {
    let query = users::table.find(user_id.as_uuid()).select(UserRow::as_select()).for_no_key_update();
    query.first(connection).await.optional()
}

/// The accounts with these ids, in no order.
pub(crate) async fn list(connection: &mut AsyncPgConnection, ids: &[UserId]) -> QueryResult<Vec<UserRow>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
    let query = users::table.filter(users::id.eq_any(ids)).select(UserRow::as_select());
    observe("list_users", query.load(connection)).await
}

#[derive(AsChangeset)]
#[diesel(table_name = users)]
#[expect(clippy::option_option, reason = "absent stays, null clears")]
struct ProfileChange {
    display_name: Option<Option<String>>,
    email: Option<Option<String>>,
    presence_visible_to: Option<&'static str>,
    messages_from: Option<&'static str>,
    updated_at: DateTime<Utc>,
}

impl ProfileChange {
    fn new(patch: ProfilePatch, now: Timestamp) -> Self {
        Self {
            display_name: patch.display_name,
            email: patch.email,
            presence_visible_to: patch.presence_visible_to.map(|to| to.unwrap_or_default().as_str()),
            messages_from: patch.messages_from.map(|from| from.unwrap_or_default().as_str()),
            updated_at: now.as_datetime(),
        }
    }

    /// Whether others may do other things afterwards.
    fn is_of_privacy(&self, user: &UserRow) -> bool {
        self.presence_visible_to.is_some_and(|to| to != user.presence_visible_to)
            || self.messages_from.is_some_and(|from| from != user.messages_from)
    }
}

/// Changes a profile; `None` when there is no such user.
pub(crate) async fn update_profile(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    patch: ProfilePatch,
    now: Timestamp,
) -> QueryResult<Option<UserRow>> {
    let change = ProfileChange::new(patch, now);
    let work = connection.transaction(async |connection| {
        let Some(user) = lock(connection, user_id).await? else { return Ok(None) };
        if change.is_of_privacy(&user) {
            privacy::bump(connection, user_id).await?;
        }
        let statement = diesel::update(users::table.find(user_id.as_uuid())).set(change);
        statement.returning(UserRow::as_returning()).get_result(connection).await.map(Some)
    });
    observe("update_profile", work).await
}

/// Another name, in lower case.
pub(super) async fn rename(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    username: &str,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::update(users::table.find(user_id.as_uuid()))
        .set((users::username.eq(username), users::updated_at.eq(now.as_datetime())))
        .execute(connection)
        .await
}

/// Another role.
pub(super) async fn set_role(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    role: UserRole,
    now: Timestamp,
) -> QueryResult<usize> {
    let role = match role {
        UserRole::User => "user",
        UserRole::Moderator => "moderator",
        UserRole::Admin => "admin",
    };
    diesel::update(users::table.find(user_id.as_uuid()))
        .set((users::role.eq(role), users::updated_at.eq(now.as_datetime())))
        .execute(connection)
        .await
}

/// Keeps a new hash of the same password.
pub(super) async fn renew_hash(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    password_hash: &str,
) -> QueryResult<usize> {
    diesel::update(users::table.find(user_id.as_uuid()))
        .set(users::password_hash.eq(password_hash))
        .execute(connection)
        .await
}

/// Keeps the hash of another password.
pub(super) async fn change_password(
    connection: &mut AsyncPgConnection,
    user_id: UserId,
    password_hash: &str,
    now: Timestamp,
) -> QueryResult<usize> {
    diesel::update(users::table.find(user_id.as_uuid()))
        .set((
            users::password_hash.eq(password_hash),
            users::password_version.eq(users::password_version + 1),
            users::updated_at.eq(now.as_datetime()),
        ))
        .execute(connection)
        .await
}
