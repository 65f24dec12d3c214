//! Method `create`.

use diesel_async::AsyncConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, Failure,
    entry::{ConversationKind, EntryKind, MemberChange, MemberContent, Role},
    message::too_large,
    rest::CreateConversation,
    rpc::store::{CreateRequest, CreateResponse},
};
use serde_json::Value;
use uuid::Uuid;

use super::{Context, conversations, members::Told};
use crate::{
    domain::rights::unwanted,
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
        ConversationKind::Group => (make_group(&context, caller, conversation, deadline).await?, true),
        ConversationKind::Channel => {
            return Err(Failure::invalid("kind", "channels are not supported by this server yet").into());
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

async fn make_group(
    context: &Context,
    caller: UserId,
    conversation: CreateConversation,
    deadline: Deadline,
) -> Result<ConversationId, RequestError> {
    let mut others = conversation.members.clone();
    others.sort_unstable();
    others.dedup();
    others.retain(|member| *member != caller);
    let group_members = usize::try_from(context.bounds.group_members).unwrap_or(usize::MAX);
    if others.len() >= group_members {
        return Err(too_large("group_members", group_members).into());
    }
    context.check_users(&others, deadline).await?;
    let blockers = context.blockers(caller, &others, deadline).await?;
    others.retain(|member| !blockers.contains(member));
    let group = Group { id: context.ids.next(), caller, others, conversation };
    let worker = context.clone();
    context.write(deadline, async move { group.make(&worker, deadline).await }).await
}

struct Group {
    id: ConversationId,
    caller: UserId,
    /// Without the caller.
    others: Vec<UserId>,
    conversation: CreateConversation,
}

impl Group {
    async fn make(self, context: &Context, deadline: Deadline) -> Result<ConversationId, RequestError> {
        let mut connection = context.connection(deadline).await?;
        context.know_incarnation(&mut connection).await?;
        let entry = self.entry(context)?;
        let transaction = connection.transaction(async |connection| {
            changes::set_timeouts(connection, deadline.remaining(), deadline.remaining()).await?;
            self.check_counts(context, connection).await?;
            self.insert(context, connection).await?;
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

    fn entry(&self, context: &Context) -> Result<NewEntry, RequestError> {
        let member_content = MemberContent {
            user_id: self.caller,
            change: MemberChange::Created,
            role: Some(Role::Owner),
            by: self.caller,
            members: self.everyone(),
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

    async fn insert(
        &self,
        context: &Context,
        connection: &mut diesel_async::AsyncPgConnection,
    ) -> Result<(), RequestError> {
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
            history_visible: self.conversation.history_visible,
            max_members: i32::try_from(context.bounds.group_members).unwrap_or(i32::MAX),
            member_count: i32::try_from(user_ids.len()).unwrap_or(i32::MAX),
            created_by: self.caller.as_uuid(),
            user_ids,
            roles,
        };
        statement.execute(connection).await?;
        Ok(())
    }
}
