//! Method `create`.

use diesel_async::AsyncConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Failure,
    entry::{ConversationKind, EntryKind, MemberChange, MemberContent, Role},
    message::too_large,
    rest::{CreateConversation, Posting},
    rpc::store::{CreateRequest, CreateResponse},
};
use serde_json::Value;
use uuid::Uuid;

use super::{Context, conversations, members::Told};
use crate::{
    domain::rights::{limit_name, unwanted},
    error::RequestError,
    store::{
        changes::{self, InsertConversation, NewEntry, Placed},
        directs::Direct,
        entries::Setting,
    },
};

const TITLE_MAX: usize = 200;
const DESCRIPTION_MAX: usize = 2_000;
const METADATA_BYTES_MAX: usize = 4 * 1024;

pub(super) async fn handle(
    context: Context,
    request: CreateRequest,
    deadline: Deadline,
) -> Result<CreateResponse, RequestError> {
    let CreateRequest { caller, conversation } = request;
    check(&conversation)?;
    let (id, is_new) = match conversation.kind {
        ConversationKind::Direct => make_direct(&context, caller, &conversation, deadline).await?,
        ConversationKind::Group | ConversationKind::Channel => {
            (make_room(&context, caller, conversation, deadline).await?, true)
        }
    };
    let conversation = conversations::find(&context, caller, id, deadline).await?;
    Ok(CreateResponse { conversation: conversation.ok_or_else(Failure::internal)?, is_new })
}

fn check(conversation: &CreateConversation) -> Result<(), Failure> {
    let mut faults = Failure::new(Code::Invalid, "");
    let texts =
        [("title", &conversation.title, TITLE_MAX), ("description", &conversation.description, DESCRIPTION_MAX)];
    for (field, text, max) in texts {
        let Some(text) = text else {
            continue;
        };
        if text.chars().count() > max {
            faults = faults.with_error(field, format!("must be at most {max} characters"));
        }
        if text.contains('\0') {
            faults = faults.with_error(field, "must not contain NUL");
        }
    }
    if conversation.posting == Some(Posting::Moderators) && conversation.kind != ConversationKind::Channel {
        faults = faults.with_error("posting", "is for channels");
    }
    if let Some(metadata) = &conversation.metadata {
        if metadata.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
            faults = faults.with_error("metadata", "must not contain NUL");
        }
        if serde_json::to_vec(metadata).map_or(usize::MAX, |text| text.len()) > METADATA_BYTES_MAX {
            return Err(too_large("metadata", METADATA_BYTES_MAX));
        }
    }
    if faults.errors.is_empty() { Ok(()) } else { Err(faults) }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

async fn make_direct(
    context: &Context,
    caller: UserId,
    conversation: &CreateConversation,
    deadline: Deadline,
) -> Result<(ConversationId, bool), RequestError> {
    let others: Vec<_> = conversation.members.iter().copied().filter(|member| *member != caller).collect();
    let [other] = others.as_slice() else {
        return Err(Failure::invalid("members", "must name one other user").into());
    };
    context.check_users(&others, deadline).await?;
    let id = ConversationId::direct(caller, *other);
    let direct = Direct { id, created_by: caller, other: *other, encryption: conversation.encryption };
    if !context.unwanted(&[direct], deadline).await?.is_empty() {
        return Err(unwanted().into());
    }
    let made = context.make_directs(vec![direct], deadline).await?;
    Ok((id, !made.is_empty()))
}

async fn make_room(
    context: &Context,
    caller: UserId,
    conversation: CreateConversation,
    deadline: Deadline,
) -> Result<ConversationId, RequestError> {
    let mut others = conversation.members.clone();
    others.sort_unstable();
    others.dedup();
    others.retain(|member| *member != caller);
    let (limit, members_max) = members_max(context, conversation.kind);
    let most = usize::try_from(members_max).unwrap_or(usize::MAX);
    if others.len() >= most {
        return Err(too_large(limit, most).into());
    }
    context.check_users(&others, deadline).await?;
    let blockers = context.blockers(caller, &others, deadline).await?;
    others.retain(|member| !blockers.contains(member));
    let room = Room { id: context.ids.next(), caller, others, members_max, conversation };
    let worker = context.clone();
    context.write(deadline, async move { room.make(&worker, deadline).await }).await
}

/// How many members such a conversation may have, and the name of that limit.
fn members_max(context: &Context, kind: ConversationKind) -> (&'static str, u32) {
    let max = match kind {
        ConversationKind::Direct => 2,
        ConversationKind::Group => context.bounds.group_members,
        ConversationKind::Channel => context.bounds.channel_members,
    };
    (limit_name(kind), max)
}

/// A group or channel that is to be.
struct Room {
    id: ConversationId,
    caller: UserId,
    /// Without the caller.
    others: Vec<UserId>,
    members_max: u32,
    conversation: CreateConversation,
}

impl Room {
    async fn make(self, context: &Context, deadline: Deadline) -> Result<ConversationId, RequestError> {
        let mut connection = context.connection(deadline).await?;
        context.know_incarnation(&mut connection).await?;
        let entry = self.entry(context)?;
        let transaction = connection.transaction(async |connection| {
            changes::set_timeouts(connection, deadline.remaining(), deadline.remaining()).await?;
            self.check_counts(context, connection).await?;
            self.insert(connection).await?;
            let placed = changes::append_entry(connection, &entry).await?;
            changes::bump_versions(connection, &self.everyone()).await?;
            super::members::check_in_time(deadline)?;
            Ok::<Placed, RequestError>(placed)
        });
        let placed = context.measured("create", transaction).await?;
        let setting = Setting { conversation_id: self.id, kind: self.conversation.kind, direct: None };
        Told { setting, joined: self.everyone(), entry: &entry, placed }.publish(context)?;
        Ok(self.id)
    }

    fn everyone(&self) -> Vec<UserId> {
        std::iter::once(self.caller).chain(self.others.iter().copied()).collect()
    }

    fn is_channel(&self) -> bool {
        self.conversation.kind == ConversationKind::Channel
    }

    fn posting(&self) -> Posting {
        let default = if self.is_channel() { Posting::Moderators } else { Posting::Everyone };
        self.conversation.posting.unwrap_or(default)
    }

    fn entry(&self, context: &Context) -> Result<NewEntry, RequestError> {
        let member_content = MemberContent {
            user_id: self.caller,
            change: MemberChange::Created,
            role: Some(Role::Owner),
            by: self.caller,
            // In a channel nobody needs to know who else is there, and they may be very many.
            members: if self.is_channel() { Vec::new() } else { self.everyone() },
        };
        Ok(NewEntry {
            batch_id: context.ids.next(),
            conversation_id: self.id,
            id: context.ids.next(),
            kind: EntryKind::Member,
            sender_id: self.caller,
            target_id: Some(self.caller.as_uuid()),
            content: super::members::content_text(&member_content)?,
        })
    }

    async fn check_counts(
        &self,
        context: &Context,
        connection: &mut diesel_async::AsyncPgConnection,
    ) -> Result<(), RequestError> {
        let most = changes::count_conversations_max(connection, &self.everyone()).await?;
        super::members::check_conversations(context, most)
    }

    async fn insert(&self, connection: &mut diesel_async::AsyncPgConnection) -> Result<(), RequestError> {
        use diesel_async::RunQueryDsl;
        let others = self.others.iter().map(|user| (user.as_uuid(), Role::Member));
        let members = std::iter::once((self.caller.as_uuid(), Role::Owner)).chain(others);
        let (user_ids, roles): (Vec<Uuid>, Vec<&'static str>) =
            members.map(|(user_id, role)| (user_id, role.as_str())).unzip();
        let statement = InsertConversation {
            id: self.id.as_uuid(),
            kind: self.conversation.kind.as_str(),
            encryption: self.conversation.encryption.as_str(),
            title: self.conversation.title.clone(),
            description: self.conversation.description.clone(),
            metadata: Value::Object(self.conversation.metadata.clone().unwrap_or_default()),
            posting: self.posting().as_str(),
            history_visible: self.conversation.history_visible,
            max_members: i32::try_from(self.members_max).unwrap_or(i32::MAX),
            member_count: i32::try_from(user_ids.len()).unwrap_or(i32::MAX),
            created_by: self.caller.as_uuid(),
            user_ids,
            roles,
        };
        statement.execute(connection).await?;
        Ok(())
    }
}
