//! Whom a user follows and has blocked.

use chrono::DateTime;
use entrenous_db::DbError;
use entrenous_protocol::{
    rest::{Page, Profile},
    rpc::{
        Done,
        identity::{ListPeopleRequest, PEOPLE_PAGE_MAX, PersonRequest},
    },
};

use crate::{
    domain::fields::{self, FieldErrors},
    error::RequestError,
    privacy,
    state::AppState,
    store::people::{Added, Position, blocks, follows},
};

pub(super) async fn follow(state: AppState, request: PersonRequest) -> Result<Done, RequestError> {
    check_other(&request)?;
    let mut connection = state.connection().await?;
    let added = follows::add(&mut connection, request.user_id, request.person, state.now()).await;
    done(added.map_err(DbError::from)?, "follows")
}

pub(super) async fn unfollow(state: AppState, request: PersonRequest) -> Result<Done, RequestError> {
    let mut connection = state.connection().await?;
    follows::remove(&mut connection, request.user_id, request.person).await.map_err(DbError::from)?;
    Ok(Done {})
}

pub(super) async fn list_following(state: AppState, request: ListPeopleRequest) -> Result<Page<Profile>, RequestError> {
    let (after, limit) = check_page(&request).map_err(RequestError::Invalid)?;
    let mut connection = state.connection().await?;
    let people = follows::page(&mut connection, request.user_id, after, i64::from(limit) + 1).await;
    Ok(page(people.map_err(DbError::from)?, limit))
}

pub(super) async fn block(state: AppState, request: PersonRequest) -> Result<Done, RequestError> {
    check_other(&request)?;
    let mut connection = state.connection().await?;
    let added = blocks::add(&mut connection, request.user_id, request.person, state.now()).await;
    drop(connection);
    let done = done(added.map_err(DbError::from)?, "blocks")?;
    // Also where nothing changed: an earlier try may not have come this far.
    privacy::tell(&state, request.user_id).await?;
    Ok(done)
}

pub(super) async fn unblock(state: AppState, request: PersonRequest) -> Result<Done, RequestError> {
    let mut connection = state.connection().await?;
    let removed = blocks::remove(&mut connection, request.user_id, request.person).await;
    drop(connection);
    removed.map_err(DbError::from)?;
    privacy::tell(&state, request.user_id).await?;
    Ok(Done {})
}

pub(super) async fn list_blocked(state: AppState, request: ListPeopleRequest) -> Result<Page<Profile>, RequestError> {
    let (after, limit) = check_page(&request).map_err(RequestError::Invalid)?;
    let mut connection = state.connection().await?;
    let people = blocks::page(&mut connection, request.user_id, after, i64::from(limit) + 1).await;
    Ok(page(people.map_err(DbError::from)?, limit))
}

fn check_other(request: &PersonRequest) -> Result<(), RequestError> {
    if request.user_id == request.person {
        return Err(RequestError::Invalid(fields::invalid("id", "must be another user")));
    }
    Ok(())
}

fn done(added: Added, list: &'static str) -> Result<Done, RequestError> {
    match added {
        Added::There => Ok(Done {}),
        Added::NoSuchUser => Err(RequestError::NotFound),
        Added::Full => Err(RequestError::TooManyPeople { list }),
    }
}

fn check_page(request: &ListPeopleRequest) -> Result<(Option<Position>, u32), FieldErrors> {
    if !(1..=PEOPLE_PAGE_MAX).contains(&request.limit) {
        return Err(fields::invalid("limit", format!("must be 1 to {PEOPLE_PAGE_MAX}")));
    }
    let after = request.cursor.as_deref().map(parse_cursor).transpose()?;
    Ok((after, request.limit))
}

/// Of one person more than the limit.
fn page(mut people: Vec<(Position, Profile)>, limit: u32) -> Page<Profile> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let has_more = people.len() > limit;
    people.truncate(limit);
    let next = people.last().filter(|_| has_more).map(|(position, _)| cursor(*position));
    Page { items: people.into_iter().map(|(_, profile)| profile).collect(), has_more, next }
}

/// Microseconds and id: where the next page begins.
fn cursor((added_at, person): Position) -> String {
    format!("{}.{person}", added_at.timestamp_micros())
}

fn parse_cursor(text: &str) -> Result<Position, FieldErrors> {
    let parts = text.split_once('.');
    let parsed =
        parts.and_then(|(micros, id)| Some((DateTime::from_timestamp_micros(micros.parse().ok()?)?, id.parse().ok()?)));
    parsed.ok_or_else(|| fields::invalid("cursor", "is none that this server gave"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_parsed_as_they_are_made() {
        let position = (
            DateTime::from_timestamp_micros(1_795_000_000_123_456).unwrap(),
            "01900000-0000-7000-8000-000000000001".parse().unwrap(),
        );
        assert_eq!(parse_cursor(&cursor(position)).unwrap(), position);
        for bad in ["", "1", "1.x", "x.01900000-0000-7000-8000-000000000001"] {
            assert!(parse_cursor(bad).is_err(), "{bad}");
        }
    }
}
