//! Refresh tokens: only their hashes.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_model::{DeviceId, LoginId, Timestamp, UserId};
use uuid::Uuid;

use super::{
    audit,
    logins::{self, EndReason, LoginRow},
    observe,
    schema::refresh_tokens,
    users::{self, UserRow},
};

/// How long a spent token gets its successor again, as long as nobody has shown that one.
///
/// Source: docs/protocol.md, section 2.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A token that is to be kept.
pub(crate) struct NewRefreshToken {
    pub(crate) hash: Vec<u8>,
    pub(crate) expires_at: Timestamp,
}

/// Keeps a token.
pub(super) async fn insert(
    connection: &mut AsyncPgConnection,
    login_id: LoginId,
    token: &NewRefreshToken,
    now: Timestamp,
) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::token_hash.eq(&token.hash),
            refresh_tokens::login_id.eq(login_id.as_uuid()),
            refresh_tokens::created_at.eq(now.as_datetime()),
            refresh_tokens::expires_at.eq(token.expires_at.as_datetime()),
        ))
        .execute(connection)
        .await?;
    Ok(())
}

/// What became of a token that was shown.
pub(crate) enum Traded {
    /// Its successor is good, now or already before.
    Good { user: Box<UserRow>, device_id: DeviceId, login_id: LoginId },
    /// No such token, or it is too old, or its login has ended.
    NotGood,
    /// It was spent before: its login has ended.
    Reused { user_id: UserId, login_id: LoginId },
}

/// Spends a token for its successor.
///
/// All trades of one login wait for each other, on whatever replica: many at once with the same token get the same
/// answer.
pub(crate) async fn trade(
    connection: &mut AsyncPgConnection,
    token_hash: &[u8],
    successor: &NewRefreshToken,
    now: Timestamp,
) -> QueryResult<Traded> {
    let work = connection.transaction(async |connection| {
        let Some(login) = lock_login_of(connection, token_hash).await? else {
            return Ok(Traded::NotGood);
        };
        if login.ended_at.is_some() {
            return after_the_end(connection, token_hash, &login).await;
        }
        let login_id = LoginId::from(login.id);
        if spend(connection, token_hash, now).await? {
            insert(connection, login_id, successor, now).await?;
        } else {
            match spent_at(connection, token_hash).await? {
                None => return Ok(Traded::NotGood),
                Some(at) if is_repeat(connection, at, &successor.hash, now).await? => {}
                Some(_) => return end_for_reuse(connection, &login, now).await,
            }
        }
        good(connection, login).await
    });
    observe("trade_refresh_token", work).await
}

async fn lock_login_of(connection: &mut AsyncPgConnection, token_hash: &[u8]) -> QueryResult<Option<LoginRow>> {
    let query = refresh_tokens::table.find(token_hash).select(refresh_tokens::login_id);
    match query.first::<Uuid>(connection).await.optional()? {
        Some(login_id) => logins::lock(connection, login_id).await,
        None => Ok(None),
    }
}

/// The one conditional update: only one of many callers spends a token.
async fn spend(connection: &mut AsyncPgConnection, token_hash: &[u8], now: Timestamp) -> QueryResult<bool> {
    let unspent = refresh_tokens::table
        .find(token_hash)
        .filter(refresh_tokens::spent_at.is_null())
        .filter(refresh_tokens::expires_at.gt(now.as_datetime()));
    let count = diesel::update(unspent).set(refresh_tokens::spent_at.eq(now.as_datetime())).execute(connection).await?;
    Ok(count > 0)
}

async fn spent_at(connection: &mut AsyncPgConnection, token_hash: &[u8]) -> QueryResult<Option<Timestamp>> {
    let query = refresh_tokens::table.find(token_hash).select(refresh_tokens::spent_at);
    let spent_at: Option<Option<DateTime<Utc>>> = query.first(connection).await.optional()?;
    Ok(spent_at.flatten().map(Timestamp::from))
}

/// Whether a spent token was shown again because its answer was lost.
async fn is_repeat(
    connection: &mut AsyncPgConnection,
    spent_at: Timestamp,
    successor_hash: &[u8],
    now: Timestamp,
) -> QueryResult<bool> {
    if spent_at + GRACE < now {
        return Ok(false);
    }
    let unspent = refresh_tokens::table.find(successor_hash).filter(refresh_tokens::spent_at.is_null());
    diesel::select(diesel::dsl::exists(unspent)).get_result(connection).await
}

async fn end_for_reuse(connection: &mut AsyncPgConnection, login: &LoginRow, now: Timestamp) -> QueryResult<Traded> {
    let (user_id, login_id) = (UserId::from(login.user_id), LoginId::from(login.id));
    logins::end_reused(connection, login_id, now).await?;
    audit::append(connection, user_id, "refresh_token_reused", login.id, now).await?;
    Ok(Traded::Reused { user_id, login_id })
}

/// A spent token of a login that ended for reuse answers like the first time.
async fn after_the_end(connection: &mut AsyncPgConnection, token_hash: &[u8], login: &LoginRow) -> QueryResult<Traded> {
    let is_for_reuse = login.end_reason.as_deref() == Some(EndReason::TokenReused.as_str());
    if is_for_reuse && spent_at(connection, token_hash).await?.is_some() {
        return Ok(Traded::Reused { user_id: login.user_id.into(), login_id: login.id.into() });
    }
    Ok(Traded::NotGood)
}

async fn good(connection: &mut AsyncPgConnection, login: LoginRow) -> QueryResult<Traded> {
    let user = users::find(connection, login.user_id.into()).await?.filter(|user| user.suspended_at.is_none());
    Ok(match user {
        Some(user) => {
            Traded::Good { user: Box::new(user), device_id: login.device_id.into(), login_id: login.id.into() }
        }
        // The token is spent, and worth nothing while the account is suspended.
        None => Traded::NotGood,
    })
}
