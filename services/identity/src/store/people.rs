//! Whom users follow and have blocked: two lists of people of the same shape.

use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_db::statement;
use entrenous_model::{Timestamp, UserId};
use entrenous_protocol::{rest::Profile, rpc::identity::PEOPLE_MAX};
use uuid::Uuid;

use super::{observe, privacy, users};

/// What came of adding somebody to a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// They are on it, now or since before.
    There,
    /// One of the two does not exist.
    NoSuchUser,
    /// The list is as long as it may be.
    Full,
}

/// Somebody on a list: since when, and who.
pub(crate) type Position = (DateTime<Utc>, UserId);

#[derive(Queryable)]
struct PersonRow {
    id: Uuid,
    username: String,
    display_name: Option<String>,
    created_at: DateTime<Utc>,
    added_at: DateTime<Utc>,
}

impl PersonRow {
    fn listed(self) -> (Position, Profile) {
        let id = UserId::from(self.id);
        let (username, display_name) = (self.username, self.display_name);
        ((self.added_at, id), Profile { id, username, display_name, created_at: self.created_at.into() })
    }
}

macro_rules! list_of_people {
    ($(#[$doc:meta])* $name:ident = $table:literal, $person:literal, changes_privacy: $changes_privacy:literal) => {
        $(#[$doc])*
        pub(crate) mod $name {
            use super::*;

            statement! {
                /// How long the list is, and whether somebody is on it.
                Look { person: SqlUuid = Uuid, user_id: SqlUuid = Uuid } -> (BigInt, Bool);
                "SELECT count(*), coalesce(bool_or(", $person, " = {}), false) FROM identity.", $table, " WHERE user_id = {}",
            }

            statement! {
                /// Adds somebody.
                Insert { user_id: SqlUuid = Uuid, person: SqlUuid = Uuid, added_at: Timestamptz = DateTime<Utc> } -> (SqlUuid,);
                "INSERT INTO identity.", $table, " (user_id, ", $person, ", created_at) VALUES ({}, {}, {})",
            }

            statement! {
                /// Takes somebody off.
                Delete { user_id: SqlUuid = Uuid, person: SqlUuid = Uuid } -> (SqlUuid,);
                "DELETE FROM identity.", $table, " WHERE user_id = {} AND ", $person, " = {}",
            }

            statement! {
                /// A part of the list.
                ReadPage {
                    user_id: SqlUuid = Uuid,
                    added_at: Nullable<Timestamptz> = Option<DateTime<Utc>>,
                    person: Nullable<SqlUuid> = Option<Uuid>,
                    row_limit: BigInt = i64,
                } -> (SqlUuid, Text, Nullable<Text>, Timestamptz, Timestamptz);
                "SELECT u.id, u.username, u.display_name, u.created_at, p.created_at
                 FROM identity.", $table, " p JOIN identity.users u ON u.id = p.", $person, "
                 WHERE p.user_id = {}
                     AND ({}::timestamptz IS NULL OR (p.created_at, p.", $person, ") > ($2, {}::uuid))
                 ORDER BY p.created_at, p.", $person, " LIMIT {}",
            }

            /// Puts somebody on the list. Doing it twice changes nothing.
            pub(crate) async fn add(
                connection: &mut AsyncPgConnection,
                user_id: UserId,
                person: UserId,
                now: Timestamp,
            ) -> QueryResult<Added> {
                let work = connection.transaction(async |connection| {
                    let is_there = users::lock(connection, user_id).await?.is_some();
                    if !is_there || users::find(connection, person).await?.is_none() {
                        return Ok(Added::NoSuchUser);
                    }
                    let (user, person) = (user_id.as_uuid(), person.as_uuid());
                    let (count, is_listed) = Look { person, user_id: user }.get_result(connection).await?;
                    if is_listed {
                        return Ok(Added::There);
                    }
                    if is_full(count) {
                        return Ok(Added::Full);
                    }
                    Insert { user_id: user, person, added_at: now.as_datetime() }.execute(connection).await?;
                    if $changes_privacy {
                        privacy::bump(connection, user_id).await?;
                    }
                    Ok(Added::There)
                });
                observe(concat!("add_to_", $table), work).await
            }

            /// Takes somebody off the list, if they are on it.
            pub(crate) async fn remove(
                connection: &mut AsyncPgConnection,
                user_id: UserId,
                person: UserId,
            ) -> QueryResult<()> {
                let work = connection.transaction(async |connection| {
                    users::lock(connection, user_id).await?;
                    let delete = Delete { user_id: user_id.as_uuid(), person: person.as_uuid() };
                    if delete.execute(connection).await? > 0 && $changes_privacy {
                        privacy::bump(connection, user_id).await?;
                    }
                    Ok(())
                });
                observe(concat!("remove_from_", $table), work).await
            }

            /// People on the list after a position, in the order in which they were added.
            pub(crate) async fn page(
                connection: &mut AsyncPgConnection,
                user_id: UserId,
                after: Option<Position>,
                limit: i64,
            ) -> QueryResult<Vec<(Position, Profile)>> {
                let (added_at, person) = after.unzip();
                let person = person.map(UserId::as_uuid);
                let statement = ReadPage { user_id: user_id.as_uuid(), added_at, person, row_limit: limit };
                let rows: Vec<PersonRow> = observe(concat!("list_", $table), statement.load(connection)).await?;
                Ok(rows.into_iter().map(PersonRow::listed).collect())
            }
        }
    };
}

list_of_people! {
    /// Whom a user follows.
    follows = "follows", "followed_id", changes_privacy: false
}

list_of_people! {
    /// Whom a user has blocked. Each change makes a new version of what the user allows others.
    blocks = "blocks", "blocked_id", changes_privacy: true
}

fn is_full(count: i64) -> bool {
    usize::try_from(count).is_ok_and(|count| count >= PEOPLE_MAX)
}
