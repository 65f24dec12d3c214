//! Method `act`: what people do with messages that exist. Each act is one transaction, and safe to repeat: by its id, and
//! because what is so already is not done twice.

use base64::{Engine, engine::general_purpose::STANDARD};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use entrenous_bus::Deadline;
use entrenous_model::{EntryId, Timestamp};
use entrenous_protocol::{
    Act, Code, Entry, EntryKind, Failure, RawValue,
    act::{DeleteScope, NewEdit, Reaction, ReactionContent},
    entry::{ConversationKind, Encryption, MessageType},
    limits::{PINS_MAX, REACTIONS_PER_MESSAGE_MAX, REACTIONS_PER_PERSON_MAX},
    live::UserNotice,
    message::too_large,
    rpc::store::{ActRequest, AppendResult, Stored},
};
use futures::FutureExt;
use serde_json::json;
use uuid::Uuid;

use super::{
    Context,
    change::{check_in_time, retried},
    screen::Draft,
};
use crate::{
    domain::rights::{Action, may, unwanted},
    error::RequestError,
    publish::Publication,
    store::{
        acts::{self, ActEntry, OtherEntry, Target, Toggle},
        audit::{self, Audited},
        changes::{self, Placed},
        entries::{Setting, empty_object},
        to_u64,
    },
};

const REACTION: Toggle = Toggle { on: EntryKind::Reaction, off: EntryKind::Unreaction };
const PIN: Toggle = Toggle { on: EntryKind::Pin, off: EntryKind::Unpin };

pub(super) async fn handle(
    context: Context,
    request: ActRequest,
    deadline: Deadline,
) -> Result<AppendResult, RequestError> {
    let screened = match screen(&context, &request, deadline).await {
        Ok(screened) => screened,
        Err(RequestError::Refused(failure)) => return Ok(AppendResult::Refused(failure)),
        Err(error) => return Err(error),
    };
    let worker = context.clone();
    let work = move || attempt(worker.clone(), request.clone(), screened.clone(), deadline).boxed();
    match context.write(deadline, retried(deadline, work)).await {
        Err(RequestError::Refused(failure)) => Ok(AppendResult::Refused(failure)),
        outcome => outcome,
    }
}

/// What is to be stored of an edit in clear text, where that is to be judged.
async fn screen(
    context: &Context,
    request: &ActRequest,
    deadline: Deadline,
) -> Result<Option<Box<RawValue>>, RequestError> {
    let Act::Edit(edit) = &request.act else { return Ok(None) };
    if edit.is_sealed {
        return Ok(None);
    }
    let ActRequest { conversation_id, caller: sender_id, id, .. } = *request;
    context.screen_one(Draft { conversation_id, sender_id, id, content: &edit.content, mentions: 0 }, deadline).await
}

async fn attempt(
    context: Context,
    request: ActRequest,
    screened: Option<Box<RawValue>>,
    deadline: Deadline,
) -> Result<AppendResult, RequestError> {
    let mut connection = context.append_connection(deadline).await?;
    context.know_incarnation(&mut connection).await?;
    let doing = Doing { context: &context, request: &request, screened, batch_id: context.ids.next() };
    let transaction = connection.transaction(async |connection| doing.run(connection, deadline).await);
    let done = context.measured("act", transaction).await?;
    Ok(doing.tell(done))
}

/// What an act came to.
enum Done {
    /// An entry, which is to be told.
    Entry(Box<Appended>),
    /// What an earlier one had done.
    Before(Stored),
    /// Nothing was to do.
    Nothing,
    /// The message is hidden from its deleter.
    Hidden,
    /// The counts of a channel's message are others.
    Counts,
}

/// An entry that was appended.
struct Appended {
    entry: Entry,
    placed: Placed,
    setting: Setting,
    leaves: i64,
}

struct Doing<'a> {
    context: &'a Context,
    request: &'a ActRequest,
    /// In the place of the content of an edit.
    screened: Option<Box<RawValue>>,
    batch_id: Uuid,
}

impl Doing<'_> {
    async fn run(&self, connection: &mut AsyncPgConnection, deadline: Deadline) -> Result<Done, RequestError> {
        let is_in_channel = self.lock(connection, deadline).await?;
        let target =
            acts::read_target(connection, self.request).await?.filter(|target| target.kind == EntryKind::Message);
        let target = target.ok_or_else(Failure::not_found)?;
        if self.request.not_after.is_some_and(|not_after| target.now > not_after.as_datetime()) {
            return Err(RequestError::Late);
        }
        let done = match &self.request.act {
            Act::Delete { scope: DeleteScope::Me, .. } => {
                if acts::hide(connection, self.request).await? {
                    Done::Hidden
                } else {
                    Done::Nothing
                }
            }
            _ if target.message_type == Some(MessageType::Control) => {
                return Err(Failure::new(Code::Forbidden, "the encryption protocol's own messages stay").into());
            }
            Act::Delete { scope: DeleteScope::All, .. } => self.delete(connection, target).await?,
            Act::Edit(edit) => self.edit(connection, target, edit).await?,
            Act::React(reaction) if is_in_channel => self.count(connection, &target, reaction, true).await?,
            Act::Unreact(reaction) if is_in_channel => self.count(connection, &target, reaction, false).await?,
            Act::React(reaction) => self.react(connection, target, reaction, REACTION.on).await?,
            Act::Unreact(reaction) => self.react(connection, target, reaction, REACTION.off).await?,
            Act::Pin { .. } => self.pin(connection, target, PIN.on).await?,
            Act::Unpin { .. } => self.pin(connection, target, PIN.off).await?,
        };
        check_in_time(deadline)?;
        Ok(done)
    }

    /// Locks the head, but for what takes no seq: reactions in channels. Tells whether it is that.
    async fn lock(&self, connection: &mut AsyncPgConnection, deadline: Deadline) -> Result<bool, RequestError> {
        changes::bound(connection, deadline).await?;
        let kind = acts::read_kind(connection, self.request.conversation_id).await?.ok_or_else(Failure::not_found)?;
        let is_reaction = matches!(self.request.act, Act::React(_) | Act::Unreact(_));
        if kind == ConversationKind::Channel && is_reaction {
            acts::keep_message(connection, self.request).await?;
            return Ok(true);
        }
        changes::lock_head(connection, self.request.conversation_id).await?;
        Ok(false)
    }

    async fn edit(
        &self,
        connection: &mut AsyncPgConnection,
        target: Target,
        edit: &NewEdit,
    ) -> Result<Done, RequestError> {
        let digest = self.context.digest_key.digest_edit(edit);
        if let Some(other) = &target.other {
            let is_same = other.request_digest.as_ref().is_none_or(|old| *old == digest);
            return self.repeated(other, EntryKind::Edit, is_same);
        }
        if target.sender_id != self.request.caller {
            return Err(Failure::new(Code::Forbidden, "only its author edits a message").into());
        }
        check_may(&target, Action::EditOwn { posting: target.posting })?;
        check_there(&target)?;
        if (target.encryption == Encryption::E2ee) != edit.is_sealed {
            let wrong = if edit.is_sealed { "must be clear text here" } else { "must be ciphertext here" };
            return Err(Failure::invalid("content", wrong).into());
        }
        let signature = edit.signature.as_ref().and_then(|signature| STANDARD.decode(signature).ok());
        let entry = ActEntry {
            content: Some(self.screened.as_ref().unwrap_or(&edit.content).get().as_bytes().to_vec()),
            request_digest: Some(digest.to_vec()),
            metadata: edit.metadata.as_ref().map(|metadata| metadata.get().to_owned()),
            signature,
            expires_at: target.expires_at,
        };
        let done = self.append(connection, target, EntryKind::Edit, entry).await?;
        if let Done::Entry(appended) = &done {
            let (conversation_id, is_sealed) = (self.request.conversation_id, edit.is_sealed);
            acts::supersede(connection, conversation_id, edit.message_id, appended.placed, is_sealed).await?;
        }
        Ok(done)
    }

    async fn delete(&self, connection: &mut AsyncPgConnection, target: Target) -> Result<Done, RequestError> {
        if let Some(other) = &target.other {
            return self.repeated(other, EntryKind::Deletion, true);
        }
        if target.sender_id != self.request.caller {
            may(target.setting.kind, target.role, Action::DeleteOthers)?;
        }
        if target.is_gone {
            let toggle = Toggle { on: EntryKind::Deletion, off: EntryKind::Deletion };
            let before = acts::last_of(connection, self.request, toggle, None, None).await?;
            return Ok(before.map_or(Done::Nothing, |(_, seq, at)| Done::Before(stored(seq, at.into()))));
        }
        let author = target.sender_id;
        let done = self.append(connection, target, EntryKind::Deletion, ActEntry::default()).await?;
        acts::erase(connection, self.request.conversation_id, self.request.act.message_id()).await?;
        let detail = json!({"author_id": author});
        let ActRequest { caller: actor_id, conversation_id, .. } = *self.request;
        let (id, action, target_id) = (self.context.ids.next(), "message_deleted", self.request.act.message_id());
        let target_id = Some(target_id.as_uuid());
        audit::note(connection, Audited { id, actor_id, action, conversation_id, target_id, detail }).await?;
        Ok(done)
    }

    async fn react(
        &self,
        connection: &mut AsyncPgConnection,
        target: Target,
        reaction: &Reaction,
        kind: EntryKind,
    ) -> Result<Done, RequestError> {
        let content = content_of(reaction)?;
        if let Some(other) = &target.other {
            return self.repeated(other, kind, other.content.as_ref().is_none_or(|old| *old == content));
        }
        check_may(&target, Action::React)?;
        check_there(&target)?;
        let caller = Some(self.request.caller);
        let last = acts::last_of(connection, self.request, REACTION, caller, Some(content.clone())).await?;
        if let Some(done) = already(last, kind, REACTION) {
            return Ok(done);
        }
        let is_added = kind == REACTION.on;
        if is_added {
            self.check_room(connection, reaction).await?;
        }
        acts::react(connection, self.request, reaction, is_added).await?;
        let entry = ActEntry { content: Some(content), expires_at: target.expires_at, ..ActEntry::default() };
        self.append(connection, target, kind, entry).await
    }

    /// A reaction in a channel: counted, and no entry.
    async fn count(
        &self,
        connection: &mut AsyncPgConnection,
        target: &Target,
        reaction: &Reaction,
        is_added: bool,
    ) -> Result<Done, RequestError> {
        check_may(target, Action::React)?;
        check_there(target)?;
        if is_added {
            self.check_room(connection, reaction).await?;
        }
        let has_changed = acts::react(connection, self.request, reaction, is_added).await?;
        Ok(if has_changed { Done::Counts } else { Done::Nothing })
    }

    async fn check_room(&self, connection: &mut AsyncPgConnection, reaction: &Reaction) -> Result<(), RequestError> {
        let numbers = acts::count_reactions(connection, self.request, reaction).await?;
        let is_above = |count: i64, max: usize| usize::try_from(count).is_ok_and(|count| count >= max);
        if !numbers.is_known && is_above(numbers.different, REACTIONS_PER_MESSAGE_MAX) {
            return Err(too_large("reactions_per_message", REACTIONS_PER_MESSAGE_MAX).into());
        }
        if is_above(numbers.own, REACTIONS_PER_PERSON_MAX) {
            return Err(too_large("reactions of one person to a message", REACTIONS_PER_PERSON_MAX).into());
        }
        Ok(())
    }

    async fn pin(
        &self,
        connection: &mut AsyncPgConnection,
        target: Target,
        kind: EntryKind,
    ) -> Result<Done, RequestError> {
        if let Some(other) = &target.other {
            return self.repeated(other, kind, true);
        }
        check_may(&target, Action::Pin)?;
        check_there(&target)?;
        let last = acts::last_of(connection, self.request, PIN, None, None).await?;
        if let Some(done) = already(last, kind, PIN) {
            return Ok(done);
        }
        if kind == PIN.off {
            acts::unpin(connection, self.request).await?;
        } else if !acts::pin(connection, self.request, PINS_MAX).await? {
            return Err(too_large("pins_per_conversation", PINS_MAX).into());
        }
        self.append(connection, target, kind, ActEntry::default()).await
    }

    /// The id is taken: by the same act, which was done, or by something else.
    fn repeated(&self, other: &OtherEntry, kind: EntryKind, is_same: bool) -> Result<Done, RequestError> {
        let request = self.request;
        let is_same = is_same
            && other.kind == kind
            && other.sender_id == request.caller.as_uuid()
            && other.sender_device_id == Some(request.device_id.as_uuid())
            && other.target_id == Some(request.act.message_id().as_uuid());
        if !is_same {
            return Err(Failure::new(Code::IdConflict, "another entry in this conversation has this id").into());
        }
        Ok(Done::Before(stored(other.seq, other.sent_at.into())))
    }

    async fn append(
        &self,
        connection: &mut AsyncPgConnection,
        target: Target,
        kind: EntryKind,
        entry: ActEntry,
    ) -> Result<Done, RequestError> {
        let placed = acts::append(connection, self.batch_id, self.request, kind, &entry).await?;
        let entry = self.shown(kind, &entry, placed)?;
        Ok(Done::Entry(Box::new(Appended { entry, placed, setting: target.setting, leaves: target.leaves })))
    }

    /// The entry as clients see it.
    fn shown(&self, kind: EntryKind, entry: &ActEntry, placed: Placed) -> Result<Entry, RequestError> {
        let raw = |text: &[u8]| serde_json::from_slice::<Box<RawValue>>(text).map_err(|_| Failure::internal());
        let metadata = entry.metadata.as_ref().map(|text| raw(text.as_bytes())).transpose()?;
        Ok(Entry {
            id: self.request.id,
            conversation_id: self.request.conversation_id,
            seq: to_u64(placed.seq),
            kind,
            sender_id: self.request.caller,
            sender_device_id: Some(self.request.device_id),
            message_type: None,
            content: entry.content.as_deref().map(raw).transpose()?,
            target_id: Some(self.request.act.message_id()),
            superseded_by: None,
            reply_to: None,
            thread_id: None,
            attachments: Vec::new(),
            mentions: Vec::new(),
            metadata: metadata.unwrap_or_else(empty_object),
            signature: entry.signature.as_ref().map(|signature| STANDARD.encode(signature)),
            sent_at: placed.sent_at.into(),
            edited_at: None,
            edit_count: 0,
            deleted: false,
            expires_at: entry.expires_at.map(Into::into),
        })
    }

    /// Publishes what is committed, and says what the caller is told.
    fn tell(&self, done: Done) -> AppendResult {
        let Self { context, request, .. } = self;
        let message_id: EntryId = request.act.message_id();
        match done {
            Done::Entry(appended) => {
                let Appended { entry, placed, setting, leaves } = *appended;
                let mut publication = Publication::of_row(placed.feed);
                publication.entry(&setting, &entry, request.origin, to_u64(placed.countable_no), to_u64(leaves));
                context.publisher.publish(publication);
                AppendResult::Stored(Stored {
                    expires_at: entry.expires_at,
                    is_repeat: false,
                    ..stored(placed.seq, placed.sent_at.into())
                })
            }
            Done::Before(stored) => AppendResult::Stored(stored),
            Done::Nothing => AppendResult::Done,
            Done::Hidden => {
                let conversation_id = request.conversation_id;
                let mut publication = Publication::default();
                publication.notice(request.caller, UserNotice::MessageHidden { conversation_id, message_id });
                context.publisher.publish(publication);
                AppendResult::Done
            }
            Done::Counts => {
                context.publisher.reactions_changed(request.conversation_id, message_id);
                AppendResult::Done
            }
        }
    }
}

/// What was done before.
fn stored(seq: i64, sent_at: Timestamp) -> Stored {
    Stored { seq: to_u64(seq), sent_at, expires_at: None, is_repeat: true, may_differ: false }
}

/// The role allows it, and the other of a direct conversation does.
fn check_may(target: &Target, action: Action) -> Result<(), RequestError> {
    if target.is_unwanted {
        return Err(unwanted().into());
    }
    Ok(may(target.setting.kind, target.role, action)?)
}

/// A message that can still be spoken about.
fn check_there(target: &Target) -> Result<(), RequestError> {
    if target.is_gone {
        return Err(Failure::new(Code::Conflict, "the message was deleted").into());
    }
    Ok(())
}

fn content_of(reaction: &Reaction) -> Result<Vec<u8>, RequestError> {
    let content = ReactionContent { reaction: reaction.reaction.clone() };
    serde_json::to_vec(&content).map_err(|_| Failure::internal().into())
}

/// Where nothing is to do: it was done last, or there is nothing to undo.
fn already(
    last: Option<(EntryKind, i64, chrono::DateTime<chrono::Utc>)>,
    kind: EntryKind,
    toggle: Toggle,
) -> Option<Done> {
    match last {
        Some((done, seq, at)) if done == kind => Some(Done::Before(stored(seq, at.into()))),
        None if kind == toggle.off => Some(Done::Nothing),
        _ => None,
    }
}
