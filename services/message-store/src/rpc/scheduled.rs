//! Methods `schedule`, `list_scheduled`, `change_scheduled` and `cancel_scheduled`.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use entrenous_bus::Deadline;
use entrenous_model::Timestamp;
use entrenous_protocol::{
    Code, Failure,
    message::too_large,
    rest::Page,
    rpc::{
        Done,
        store::{
            AppendMessage, AppendResult, CancelScheduledRequest, ChangeScheduledRequest, GetMessageRequest,
            ListScheduledRequest, SCHEDULED_PAGE_MAX, ScheduleRequest, ScheduleResponse, Stored,
        },
    },
    scheduled::{ChangedField, SCHEDULE_AHEAD_DAYS, ScheduledMessage, ScheduledState},
};

use serde_json::value::to_raw_value;

use super::{Context, append, conversations, directs::check_direct, history};
use crate::{
    domain::scheduling::Verdict,
    error::RequestError,
    scheduler::{LEASE, deliver},
    store::scheduled::{self, Changed, Claimed, Kept, Scheduled, ScheduledRow},
};

/// Between two tries where a conversation is locked, or a message is being sent.
const PAUSE: Duration = Duration::from_millis(25);

pub(super) async fn schedule(
    context: Context,
    request: ScheduleRequest,
    deadline: Deadline,
) -> Result<ScheduleResponse, RequestError> {
    let worker = context.clone();
    context.write(deadline, async move { worker.schedule(request, deadline).await }).await
}

pub(super) async fn list(
    context: Context,
    request: ListScheduledRequest,
    deadline: Deadline,
) -> Result<Page<ScheduledMessage>, RequestError> {
    let ListScheduledRequest { caller, cursor, limit } = request;
    if !(1..=SCHEDULED_PAGE_MAX).contains(&limit) {
        return Err(Failure::invalid("limit", format!("must be 1 to {SCHEDULED_PAGE_MAX}")).into());
    }
    let after = cursor.as_deref().map(conversations::parse_cursor).transpose()?;
    let mut connection = context.connection(deadline).await?;
    let listed = scheduled::list(&mut connection, caller, after, limit);
    let (rows, has_more) = context.measured("list_scheduled", listed).await?;
    let next = rows.last().filter(|_| has_more).map(|row| conversations::cursor(row.position()));
    let items = rows.iter().map(ScheduledRow::resource).collect::<Result<_, _>>()?;
    Ok(Page { items, has_more, next })
}

pub(super) async fn change(
    context: Context,
    request: ChangeScheduledRequest,
    deadline: Deadline,
) -> Result<ScheduleResponse, RequestError> {
    let worker = context.clone();
    context.write(deadline, async move { worker.change_scheduled(request, deadline).await }).await
}

pub(super) async fn cancel(
    context: Context,
    request: CancelScheduledRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    let worker = context.clone();
    context.write(deadline, async move { worker.cancel_scheduled(request, deadline).await }).await
}

impl Context {
    async fn schedule(&self, request: ScheduleRequest, deadline: Deadline) -> Result<ScheduleResponse, RequestError> {
        let ScheduleRequest { message, send_at } = request;
        let send_at = send_at.as_datetime();
        loop {
            let (found, now) = self.find_scheduled(&message, deadline).await?;
            if let Some(row) = found {
                return self.repeated(&row, &message);
            }
            if send_at <= now {
                return Ok(ScheduleResponse::Due);
            }
            check_ahead(send_at, now)?;
            match self.judge(&message, deadline).await? {
                AppendResult::Stored(stored) if stored.is_repeat => {
                    return self.sent(&message, stored, deadline).await;
                }
                AppendResult::Refused(failure) if failure.code != Code::RateLimited => return Err(failure.into()),
                AppendResult::Stored(_) | AppendResult::Busy | AppendResult::Done | AppendResult::Refused(_) => {}
            }
            let mut connection = self.connection(deadline).await?;
            let kept = scheduled::schedule(&mut connection, &message, send_at, self.bounds.scheduled_messages);
            match self.measured("schedule", kept).await? {
                Scheduled::Kept => self.due_sooner.notify_one(),
                // The other one came in between: its row is the answer.
                Scheduled::Exists => pause(deadline).await?,
                Scheduled::TooMany => {
                    let max = usize::try_from(self.bounds.scheduled_messages).unwrap_or(usize::MAX);
                    return Err(too_large("scheduled_messages", max).into());
                }
            }
        }
    }

    /// The author's row with the message's id, and the clock of the database.
    async fn find_scheduled(
        &self,
        message: &AppendMessage,
        deadline: Deadline,
    ) -> Result<(Option<ScheduledRow>, DateTime<Utc>), RequestError> {
        let key = (message.sender_id.as_uuid(), message.message.id.as_uuid());
        let mut connection = self.connection(deadline).await?;
        let found = self.measured("find_scheduled", scheduled::get(&mut connection, key)).await?;
        Ok((found, scheduled::now(&mut connection).await?))
    }

    /// The answer to a message whose id its author has scheduled.
    fn repeated(&self, row: &ScheduledRow, message: &AppendMessage) -> Result<ScheduleResponse, RequestError> {
        let kept = row.append_message()?;
        let is_same = kept.conversation_id == message.conversation_id
            && kept.sender_device_id == message.sender_device_id
            && self.digest_key.digest(&kept.message) == self.digest_key.digest(&message.message);
        if !is_same {
            return Err(Failure::new(Code::IdConflict, "another scheduled message has this id").into());
        }
        Ok(ScheduleResponse::Kept(Box::new(row.resource()?)))
    }

    /// What would become of a message if it were sent now; `Busy` never.
    async fn judge(&self, message: &AppendMessage, deadline: Deadline) -> Result<AppendResult, RequestError> {
        if let Some(other) = message.direct_with {
            check_direct(message, other)?;
        }
        let refusals = self.make_directs_of(std::slice::from_ref(message), deadline).await?;
        if let Some(failure) = refusals.get(&(message.conversation_id, message.sender_id)) {
            return Ok(AppendResult::Refused(failure.clone()));
        }
        loop {
            match append::rehearse(self, message, deadline).await? {
                AppendResult::Busy => pause(deadline).await?,
                judged => return Ok(judged),
            }
        }
    }

    async fn change_scheduled(
        &self,
        request: ChangeScheduledRequest,
        deadline: Deadline,
    ) -> Result<ScheduleResponse, RequestError> {
        let ChangeScheduledRequest { caller, message_id, change } = request;
        loop {
            let mut connection = self.connection(deadline).await?;
            let found = scheduled::get(&mut connection, (caller.as_uuid(), message_id.as_uuid())).await?;
            let row = found.ok_or_else(unknown)?;
            if let Some(send_at) = change.send_at {
                check_ahead(send_at.as_datetime(), scheduled::now(&mut connection).await?)?;
            }
            drop(connection);
            let old = row.append_message()?;
            let message = AppendMessage { message: change.apply(old.message), ..old };
            if !change.fields.is_empty() {
                self.check_changed(&message, deadline).await?;
            }
            let has_content = change.fields.contains(&ChangedField::Content);
            let kept = Kept {
                message: &message,
                send_at: change.send_at.map_or(row.send_at, Timestamp::as_datetime),
                state: if row.state()? == ScheduledState::Stale && !has_content {
                    ScheduledState::Stale
                } else {
                    ScheduledState::Waiting
                },
            };
            let mut connection = self.connection(deadline).await?;
            let changed = scheduled::change(&mut connection, &row, &kept, LEASE);
            let changed = again_where_locked(self.measured("change_scheduled", changed).await)?;
            drop(connection);
            match changed {
                Changed::Done { leased_until: None, .. } => {
                    self.due_sooner.notify_one();
                    return Ok(ScheduleResponse::Kept(Box::new(row.changed(&kept)?.resource()?)));
                }
                Changed::Done { leased_until: Some(leased_until), is_stale } => {
                    let claimed = Claimed { row: row.changed(&kept)?, is_stale };
                    return self.send_now(claimed, leased_until, deadline).await;
                }
                Changed::Gone => return Err(unknown().into()),
                Changed::Again => pause(deadline).await?,
            }
        }
    }

    /// Whether a changed message could be sent. That its id is taken may come of its being sent just now.
    async fn check_changed(&self, message: &AppendMessage, deadline: Deadline) -> Result<(), RequestError> {
        match self.judge(message, deadline).await? {
            AppendResult::Refused(failure) if !matches!(failure.code, Code::IdConflict | Code::RateLimited) => {
                Err(failure.into())
            }
            AppendResult::Stored(_) | AppendResult::Busy | AppendResult::Done | AppendResult::Refused(_) => Ok(()),
        }
    }

    /// Sends what its author wants sent at once.
    async fn send_now(
        &self,
        claimed: Claimed,
        leased_until: DateTime<Utc>,
        deadline: Deadline,
    ) -> Result<ScheduleResponse, RequestError> {
        let (row, message) = (claimed.row.clone(), claimed.row.append_message()?);
        let verdict = deliver(self, vec![claimed], leased_until, deadline).await.pop();
        match verdict.unwrap_or(Verdict::Unknown) {
            Verdict::Sent(stored) => self.sent(&message, stored, deadline).await,
            Verdict::Failed(failure) => Err(failure.into()),
            Verdict::Later(_) => {
                self.due_sooner.notify_one();
                Ok(ScheduleResponse::Kept(Box::new(row.resource()?)))
            }
            Verdict::Stale => {
                let resource = ScheduledMessage { state: ScheduledState::Stale, ..row.resource()? };
                Ok(ScheduleResponse::Kept(Box::new(resource)))
            }
            Verdict::Unknown => Err(RequestError::Late),
        }
    }

    /// A message that was sent, as its author reads it; who may not read it any more gets what they sent.
    async fn sent(
        &self,
        message: &AppendMessage,
        stored: Stored,
        deadline: Deadline,
    ) -> Result<ScheduleResponse, RequestError> {
        let (caller, conversation_id, message_id) = (message.sender_id, message.conversation_id, message.message.id);
        let found =
            history::get(self.clone(), GetMessageRequest { caller, conversation_id, message_id }, deadline).await;
        let message = match found {
            Err(RequestError::Refused(_)) => {
                to_raw_value(&append::entry(message, &stored)).map_err(|_| Failure::internal())?
            }
            found => found?,
        };
        Ok(ScheduleResponse::Sent { stored, message })
    }

    async fn cancel_scheduled(
        &self,
        request: CancelScheduledRequest,
        deadline: Deadline,
    ) -> Result<Done, RequestError> {
        let key = (request.caller.as_uuid(), request.message_id.as_uuid());
        loop {
            let mut connection = self.connection(deadline).await?;
            let cancelled = scheduled::cancel(&mut connection, key);
            let cancelled = again_where_locked(self.measured("cancel_scheduled", cancelled).await)?;
            drop(connection);
            match cancelled {
                Changed::Done { .. } => return Ok(Done {}),
                Changed::Gone => return Err(unknown().into()),
                Changed::Again => pause(deadline).await?,
            }
        }
    }
}

/// Waits a little; fails where nobody waits for the answer any more.
async fn pause(deadline: Deadline) -> Result<(), RequestError> {
    if deadline.remaining() <= PAUSE {
        return Err(RequestError::Late);
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}

/// A head that others hold is no reason to give up.
fn again_where_locked(changed: diesel::QueryResult<Changed>) -> Result<Changed, RequestError> {
    match changed {
        Err(diesel::result::Error::DatabaseError(_, info)) if info.message().contains("lock timeout") => {
            Ok(Changed::Again)
        }
        changed => Ok(changed?),
    }
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "no such scheduled message")
}

fn check_ahead(send_at: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), Failure> {
    if send_at > now + TimeDelta::days(SCHEDULE_AHEAD_DAYS) {
        return Err(Failure::invalid("send_at", "must be at most a year ahead"));
    }
    Ok(())
}
