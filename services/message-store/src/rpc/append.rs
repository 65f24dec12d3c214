//! Method `append`.

use std::{collections::HashSet, convert::Infallible, sync::Arc, time::Duration};

use ahash::AHashSet;
use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, EntryId, Timestamp};
use entrenous_protocol::{
    Code, Entry, EntryKind, Failure,
    entry::ConversationKind,
    rpc::store::{APPEND_BYTES_MAX, APPEND_MAX, AppendMessage, AppendRequest, AppendResponse, AppendResult, Stored},
};
use uuid::Uuid;

use super::{Context, directs::check_direct};
use crate::{
    domain::{
        rights::unwanted,
        rounds::{Piece, Round, halves, round},
    },
    error::RequestError,
    publish::Publication,
    store::{
        append::{Append, AppendError, Appended, append},
        entries::Setting,
        feed::FeedRow,
        to_u64,
    },
};

/// How long the head of a batch's only conversation is waited for, where nobody else would be held up. Several gateways
/// that write into one conversation then take turns, instead of being told `busy`.
const ONLY_WAIT_MAX: Duration = Duration::from_millis(25);
/// Calls of the database for one batch: poisoned messages and re-used ids make several needed. What is left then is
/// answered `busy`, and comes again.
const CALLS_MAX: usize = 48;
/// A message beyond this is no honest one: content at its highest limit, metadata, lists.
const METADATA_NONE: &str = "{}";

/// Sender, device and digest: what a repeat must share.
type Value = (Uuid, Uuid, [u8; 32]);
type BatchPiece = Piece<ConversationId, EntryId, Value>;

pub(crate) async fn handle(
    context: Context,
    request: AppendRequest,
    deadline: Deadline,
) -> Result<AppendResponse, RequestError> {
    let AppendRequest { mut messages, not_after } = request;
    check_size(&messages)?;
    context.metrics.batch_received(messages.len());
    let refusals = context.make_directs_of(&messages, deadline).await?;
    let mut results: Vec<Option<AppendResult>> = messages
        .iter()
        .map(|message| {
            let wrong = message.direct_with.and_then(|other| check_direct(message, other).err());
            wrong
                .or_else(|| refusals.get(&(message.conversation_id, message.sender_id)).cloned())
                .map(AppendResult::Refused)
        })
        .collect();
    // What an id stands for is what the client sent, whatever is stored of it.
    let mut pieces = pieces(&context, &messages, &results);
    let changed = context.screen_batch(&mut messages, &mut results, deadline).await?;
    pieces.retain(|piece| results.get(piece.index).is_some_and(Option::is_none));
    let not_after = not_after.map(Timestamp::as_datetime);
    let batch = Batch {
        context: context.clone(),
        messages: Arc::new(messages),
        changed,
        deadline,
        not_after,
        calls: 0,
        connection: None,
        busy: HashSet::new(),
        at: None,
    };
    let (stored, at) = context.write(deadline, async move { Ok(batch.run(pieces).await) }).await?;
    for (index, result) in stored {
        if let Some(slot) = results.get_mut(index) {
            *slot = Some(result);
        }
    }
    let results = results.into_iter().map(|result| result.unwrap_or(AppendResult::Busy)).collect();
    Ok(AppendResponse { results, at: at.map(Timestamp::from) })
}

/// What the database said to a message that was then rolled back.
enum Rehearsed {
    Judged(Vec<Appended>),
    Failed(AppendError),
}

impl From<diesel::result::Error> for Rehearsed {
    fn from(error: diesel::result::Error) -> Self {
        Self::Failed(AppendError::Away(error.into()))
    }
}

/// What would become of a message now: it is appended, and that rolled back.
pub(super) async fn rehearse(
    context: &Context,
    message: &AppendMessage,
    deadline: Deadline,
) -> Result<AppendResult, RequestError> {
    let mut connection = context.append_connection(deadline).await?;
    let piece = piece(context, 0, message);
    let messages = [(&piece, message)];
    let statement = statement(context.ids.next(), &messages, None, deadline.remaining());
    let rehearsal = connection.transaction(async |connection| {
        let rows = append(connection, statement).await;
        Err::<Infallible, _>(rows.map_or_else(Rehearsed::Failed, Rehearsed::Judged))
    });
    match context.measured("rehearse_append", rehearsal).await {
        Err(Rehearsed::Judged(rows)) => {
            let row = rows.first().ok_or_else(Failure::internal)?;
            Ok(result_of(row, message, false))
        }
        Err(Rehearsed::Failed(AppendError::Busy)) => Ok(AppendResult::Busy),
        Err(Rehearsed::Failed(AppendError::Late)) => Err(RequestError::Late),
        Err(Rehearsed::Failed(AppendError::Away(error) | AppendError::Poisoned(error))) => Err(error.into()),
    }
}

fn check_size(messages: &[AppendMessage]) -> Result<(), Failure> {
    if messages.len() > APPEND_MAX {
        return Err(Failure::invalid("messages", format!("must be at most {APPEND_MAX}")));
    }
    let bytes: usize = messages.iter().skip(1).map(|message| message.message.content.get().len()).sum();
    if bytes > APPEND_BYTES_MAX * 2 {
        return Err(Failure::invalid("messages", format!("must hold at most {APPEND_BYTES_MAX} bytes of content")));
    }
    Ok(())
}

/// Those that are not refused yet.
fn pieces(context: &Context, messages: &[AppendMessage], results: &[Option<AppendResult>]) -> Vec<BatchPiece> {
    let open = messages.iter().enumerate().zip(results).filter(|(_, result)| result.is_none());
    open.map(|((index, message), _)| piece(context, index, message)).collect()
}

fn piece(context: &Context, index: usize, message: &AppendMessage) -> BatchPiece {
    Piece {
        index,
        conversation: message.conversation_id,
        id: message.message.id,
        value: (
            message.sender_id.as_uuid(),
            message.sender_device_id.as_uuid(),
            context.digest_key.digest(&message.message),
        ),
    }
}

struct Batch {
    context: Context,
    messages: Arc<Vec<AppendMessage>>,
    /// Places of those whose content is another than was sent.
    changed: AHashSet<usize>,
    deadline: Deadline,
    /// By the clock of the database.
    not_after: Option<DateTime<Utc>>,
    calls: usize,
    /// One for all calls: PostgreSQL tells of an error before it lets go of the locks, and another connection would find
    /// them held.
    connection: Option<entrenous_db::Connection>,
    /// Conversations that were busy stay so for the rest of the batch: else what comes behind would overtake.
    busy: HashSet<ConversationId>,
    /// What that clock showed last.
    at: Option<DateTime<Utc>>,
}

type Results = Vec<(usize, AppendResult)>;

impl Batch {
    /// Appends everything, in as many calls as it takes; what got no result is `busy`.
    async fn run(mut self, mut pieces: Vec<BatchPiece>) -> (Results, Option<DateTime<Utc>>) {
        let mut results = Results::with_capacity(pieces.len());
        while !pieces.is_empty() && self.calls < CALLS_MAX {
            let Round { now, copies, later } = round(pieces);
            let done = self.append_round(now).await;
            let is_away = done.is_err();
            results.extend(done.unwrap_or_else(|done| done));
            let repeats: Results = copies
                .iter()
                .filter_map(|(index, of)| Some((*index, repeat_of(&results.iter().find(|(at, _)| at == of)?.1))))
                .collect();
            results.extend(repeats);
            if is_away {
                results.extend(later.iter().map(|piece| (piece.index, unavailable())));
                break;
            }
            pieces = later;
        }
        (results, self.at)
    }

    /// Appends distinct messages; one that the database does not take is found by halving. Fails, with all results, when
    /// the database is away: what comes behind is then not tried.
    async fn append_round(&mut self, pieces: Vec<BatchPiece>) -> Result<Results, Results> {
        let mut results = Results::with_capacity(pieces.len());
        let mut parts = vec![pieces];
        while let Some(part) = parts.pop() {
            if self.calls >= CALLS_MAX {
                break;
            }
            let (behind, part): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|piece| self.busy.contains(&piece.conversation));
            results.extend(behind.iter().map(|piece| (piece.index, AppendResult::Busy)));
            if part.is_empty() {
                continue;
            }
            self.calls += 1;
            match self.append_part(&part).await {
                Ok(done) => {
                    let busy = done.iter().filter(|(_, result)| *result == AppendResult::Busy);
                    let messages = busy.filter_map(|(index, _)| self.messages.get(*index));
                    self.busy.extend(messages.map(|message| message.conversation_id));
                    results.extend(done);
                }
                Err(AppendError::Busy) => {
                    self.busy.extend(part.iter().map(|piece| piece.conversation));
                    results.extend(part.iter().map(|piece| (piece.index, AppendResult::Busy)));
                }
                Err(AppendError::Poisoned(error)) => {
                    let index = part.first().map(|piece| piece.index);
                    match (halves(part), index) {
                        (Some((first, second)), _) => parts.extend([second, first]),
                        (None, Some(index)) => {
                            self.context.metrics.message_poisoned(&error);
                            results.push((index, AppendResult::Refused(Failure::internal())));
                        }
                        (None, None) => {}
                    }
                }
                Err(error @ (AppendError::Late | AppendError::Away(_))) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%error, cause, "a batch was not appended");
                    parts.push(part);
                    results.extend(parts.iter().flatten().map(|piece| (piece.index, unavailable())));
                    return Err(results);
                }
            }
        }
        Ok(results)
    }

    async fn append_part(&mut self, part: &[BatchPiece]) -> Result<Results, AppendError> {
        let mut connection = self.connection().await?;
        self.context.know_incarnation(&mut connection).await.map_err(AppendError::Away)?;
        let remaining = self.deadline.remaining();
        if remaining.is_zero() {
            return Err(AppendError::Late);
        }
        let messages: Vec<(&BatchPiece, &AppendMessage)> =
            part.iter().filter_map(|piece| Some((piece, self.messages.get(piece.index)?))).collect();
        let batch_id = self.context.ids.next();
        let statement = statement(batch_id, &messages, self.not_after, remaining);
        let rows = self.context.measured("append", append(&mut connection, statement)).await;
        if !matches!(rows, Err(AppendError::Late | AppendError::Away(_))) {
            self.connection = Some(connection);
        }
        let rows = rows?;
        self.at = rows.iter().find_map(|row| row.feed_at).or(self.at);
        Ok(self.conclude(batch_id, &messages, &rows))
    }

    async fn connection(&mut self) -> Result<entrenous_db::Connection, AppendError> {
        if let Some(connection) = self.connection.take() {
            return Ok(connection);
        }
        self.context.append_connection(self.deadline).await.map_err(|error| match error {
            RequestError::Store(error) => AppendError::Away(error),
            _ => AppendError::Late,
        })
    }

    /// Publishes what was stored, and tells what became of each.
    fn conclude(&self, batch_id: Uuid, messages: &[(&BatchPiece, &AppendMessage)], rows: &[Appended]) -> Results {
        let mut results = Results::with_capacity(rows.len());
        let feed_at = rows.iter().find_map(|row| row.feed_at);
        let mut publication =
            feed_at.map(|created_at| Publication::of_row(FeedRow { created_at, batch_id })).unwrap_or_default();
        let mut sorted: Vec<&Appended> = rows.iter().collect();
        sorted.sort_unstable_by_key(|row| row.place);
        for row in sorted {
            let place = usize::try_from(row.place - 1).ok();
            let Some((piece, message)) = place.and_then(|place| messages.get(place)) else {
                continue;
            };
            let result = result_of(row, message, self.changed.contains(&piece.index));
            if let (AppendResult::Stored(stored), "stored") = (&result, row.outcome.as_str()) {
                self.context.metrics.message_stored(message.message.message_type, message.message.content.get().len());
                let countable_no = to_u64(row.countable_no.unwrap_or_default());
                let leaves = to_u64(row.leaves);
                let entry = entry(message, stored);
                publication.entry(&setting(row, message), &entry, message.origin, countable_no, leaves);
                if let Some(trace) = &message.trace {
                    publication.trace(trace);
                }
            }
            self.context.metrics.message_judged(outcome_name(&result));
            results.push((piece.index, result));
        }
        self.context.publisher.publish(publication);
        results
    }
}

fn statement<'a>(
    batch_id: Uuid,
    messages: &[(&'a BatchPiece, &'a AppendMessage)],
    not_after: Option<DateTime<Utc>>,
    remaining: Duration,
) -> Append<'a> {
    let all = || messages.iter().map(|(_, message)| *message);
    let mut conversations = all().map(|message| message.conversation_id);
    let first = conversations.next();
    let is_only = conversations.all(|id| Some(id) == first);
    let wait = if is_only { ONLY_WAIT_MAX.min(remaining / 2) } else { Duration::ZERO };
    Append {
        not_after,
        batch_id,
        budget_ms: millis(remaining),
        wait_ms: millis(wait),
        conversation_ids: all().map(|message| message.conversation_id.as_uuid()).collect(),
        ids: all().map(|message| message.message.id.as_uuid()).collect(),
        sender_ids: all().map(|message| message.sender_id.as_uuid()).collect(),
        device_ids: all().map(|message| message.sender_device_id.as_uuid()).collect(),
        message_types: all().map(|message| message.message.message_type.as_str()).collect(),
        contents: all().map(|message| message.message.content.get().as_bytes()).collect(),
        sealed: all().map(|message| message.message.is_sealed).collect(),
        digests: messages.iter().map(|(piece, _)| piece.value.2.as_slice()).collect(),
        reply_tos: rare(all().map(|message| message.message.reply_to.map(EntryId::as_uuid))),
        thread_ids: rare(all().map(|message| message.message.thread_id.map(EntryId::as_uuid))),
        attachments: rare(all().map(|message| array_text(&message.message.attachments))),
        mentions: rare(all().map(|message| array_text(&message.message.mentions))),
        metadatas: rare(
            all().map(|message| Some(message.message.metadata.get()).filter(|metadata| *metadata != METADATA_NONE)),
        ),
        signatures: rare(
            all().map(|message| {
                message.message.signature.as_ref().and_then(|signature| STANDARD.decode(signature).ok())
            }),
        ),
    }
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An empty array where no message has a value.
fn rare<T>(values: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let values: Vec<_> = values.collect();
    if values.iter().all(Option::is_none) { Vec::new() } else { values }
}

/// A list of ids as PostgreSQL reads it: arrays of arrays must be rectangular, texts need not.
fn array_text<T: std::fmt::Display>(ids: &[T]) -> Option<String> {
    if ids.is_empty() {
        return None;
    }
    let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
    Some(format!("{{{}}}", ids.join(",")))
}

fn result_of(row: &Appended, message: &AppendMessage, is_changed: bool) -> AppendResult {
    match (row.outcome.as_str(), row.seq, row.sent_at) {
        (outcome @ ("stored" | "repeat"), Some(seq), Some(sent_at)) => AppendResult::Stored(Stored {
            seq: to_u64(seq),
            sent_at: sent_at.into(),
            expires_at: row.expires_at.map(Into::into),
            is_repeat: outcome == "repeat",
            may_differ: is_changed || (outcome == "repeat" && !message.message.is_sealed),
        }),
        ("rate_limited", ..) => AppendResult::Refused(slowed_down(row)),
        ("unknown_mentions", ..) => {
            AppendResult::Refused(Failure::invalid("mentions", "names somebody who is no member"))
        }
        ("busy", ..) => AppendResult::Busy,
        ("not_found", ..) => AppendResult::Refused(Failure::not_found()),
        ("forbidden", ..) if row.direct_low_id.is_some() => AppendResult::Refused(unwanted()),
        ("forbidden", ..) => AppendResult::Refused(Failure::new(Code::Forbidden, "the role does not allow to post")),
        ("id_conflict", ..) => {
            AppendResult::Refused(Failure::new(Code::IdConflict, "another message in this conversation has this id"))
        }
        ("encryption_mismatch", ..) => AppendResult::Refused(Failure::invalid(
            "content",
            if message.message.is_sealed { "must be clear text here" } else { "must be ciphertext here" },
        )),
        (outcome, ..) => {
            tracing::error!(outcome, "messaging.append answers what this build does not know");
            AppendResult::Refused(Failure::internal())
        }
    }
}

/// Slow mode: how long the sender has to wait.
fn slowed_down(row: &Appended) -> Failure {
    let wait = row.expires_at.zip(row.sent_at).map(|(until, now)| until - now);
    let wait_ms = wait.and_then(|wait| u64::try_from(wait.num_milliseconds()).ok());
    Failure::new(Code::RateLimited, "slow mode: the last message was too short a time ago")
        .with_retry_after_ms(wait_ms.unwrap_or_default().max(1))
}

fn outcome_name(result: &AppendResult) -> &'static str {
    match result {
        AppendResult::Stored(stored) if stored.is_repeat => "repeat",
        AppendResult::Stored(_) => "stored",
        AppendResult::Busy => "busy",
        AppendResult::Done => "done",
        AppendResult::Refused(failure) => failure.code.as_str(),
    }
}

/// The outcome of a repeat within the batch.
fn repeat_of(result: &AppendResult) -> AppendResult {
    match result {
        AppendResult::Stored(stored) => AppendResult::Stored(Stored { is_repeat: true, ..*stored }),
        other => other.clone(),
    }
}

fn unavailable() -> AppendResult {
    AppendResult::Refused(Failure::unavailable("the message store's database is away or slow"))
}

fn setting(row: &Appended, message: &AppendMessage) -> Setting {
    Setting {
        conversation_id: message.conversation_id,
        kind: row.kind.as_deref().and_then(ConversationKind::parse).unwrap_or(ConversationKind::Group),
        direct: row.direct_low_id.zip(row.direct_high_id),
    }
}

/// The message as it was stored.
pub(super) fn entry(message: &AppendMessage, stored: &Stored) -> Entry {
    let new = &message.message;
    Entry {
        id: new.id,
        conversation_id: message.conversation_id,
        seq: stored.seq,
        kind: EntryKind::Message,
        sender_id: message.sender_id,
        sender_device_id: Some(message.sender_device_id),
        message_type: Some(new.message_type),
        content: Some(new.content.clone()),
        target_id: None,
        superseded_by: None,
        reply_to: new.reply_to,
        thread_id: new.thread_id,
        attachments: new.attachments.clone(),
        mentions: new.mentions.clone(),
        metadata: new.metadata.clone(),
        signature: new.signature.clone(),
        sent_at: stored.sent_at,
        edited_at: None,
        edit_count: 0,
        deleted: false,
        expires_at: stored.expires_at,
    }
}
