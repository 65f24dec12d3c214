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

use super::{
    Context,
    change::{Told, check_conversations, check_in_time, content_text},
    conversations,
};
use crate::{
    domain::{
        rights::{limit_name, unwanted},
        settings::{self, Settings},
    },
    error::RequestError,
    store::{
        changes::{self, InsertConversation, NewEntry, Placed},
        channels,
        directs::Direct,
        entries::Setting,
        to_i64,
    },
};

pub(super) async fn handle(
    context: Context,
    request: CreateRequest,
    deadline: Deadline,
) -> Result<CreateResponse, RequestError> {
    let CreateRequest { caller, conversation } = request;
    settings::check(conversation.kind, &settings::asked(&conversation))?;
    let (id, is_new) = match conversation.kind {
        ConversationKind::Direct => make_direct(&context, caller, &conversation, deadline).await?,
        ConversationKind::Group | ConversationKind::Channel => {
            (make_room(&context, caller, conversation, deadline).await?, true)
        }
    };
    let conversation = conversations::find(&context, caller, id, deadline).await?;
    Ok(CreateResponse { conversation: conversation.ok_or_else(Failure::internal)?, is_new })
}

/// Between two people only how long messages stay may be set, and that once they are two.
fn check_direct(conversation: &CreateConversation) -> Result<(), Failure> {
    let fields = [
        ("is_public", conversation.is_public),
        ("max_members", conversation.max_members.is_some()),
        ("retention_seconds", conversation.retention_seconds.is_some()),
        ("slow_mode_seconds", conversation.slow_mode_seconds.is_some()),
    ];
    let set = fields.into_iter().filter(|(_, is_set)| *is_set);
    let faults = set.fold(Failure::new(Code::Invalid, ""), |faults, (field, _)| {
        faults.with_error(field, "is not set when a direct conversation is made")
    });
    if faults.errors.is_empty() { Ok(()) } else { Err(faults) }
}

async fn make_direct(
    context: &Context,
    caller: UserId,
    conversation: &CreateConversation,
    deadline: Deadline,
) -> Result<(ConversationId, bool), RequestError> {
    check_direct(conversation)?;
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
    let settings = Settings::new(&conversation, context.members_max(conversation.kind));
    context.check_members_max(conversation.kind, settings.max_members)?;
    let most = usize::try_from(settings.max_members).unwrap_or(usize::MAX);
    if others.len() >= most {
        return Err(too_large(limit_name(conversation.kind), most).into());
    }
    context.check_users(&others, deadline).await?;
    let blockers = context.blockers(caller, &others, deadline).await?;
    others.retain(|member| !blockers.contains(member));
    let room = Room { id: context.ids.next(), caller, others, settings, conversation };
    let worker = context.clone();
    context.write(deadline, async move { room.make(&worker, deadline).await }).await
}

impl Context {
    /// How many members such a conversation may have.
    fn members_max(&self, kind: ConversationKind) -> u32 {
        match kind {
            ConversationKind::Direct => 2,
            ConversationKind::Group => self.bounds.group_members,
            ConversationKind::Channel => self.bounds.channel_members,
        }
    }

    /// Whether a conversation may be set to take so many.
    pub(super) fn check_members_max(&self, kind: ConversationKind, wanted: u32) -> Result<(), Failure> {
        let max = self.members_max(kind);
        if wanted > max {
            return Err(too_large(limit_name(kind), usize::try_from(max).unwrap_or(usize::MAX)));
        }
        Ok(())
    }
}

/// A group or channel that is to be.
struct Room {
    id: ConversationId,
    caller: UserId,
    /// Without the caller.
    others: Vec<UserId>,
    settings: Settings,
    conversation: CreateConversation,
}

impl Room {
    async fn make(self, context: &Context, deadline: Deadline) -> Result<ConversationId, RequestError> {
        let mut connection = context.connection(deadline).await?;
        context.know_incarnation(&mut connection).await?;
        let entry = self.entry(context)?;
        let transaction = connection.transaction(async |connection| {
            changes::set_timeouts(connection, deadline.remaining(), deadline.remaining()).await?;
            self.insert(connection).await?;
            let placed = changes::append_entry(connection, &entry).await?;
            changes::bump_versions(connection, &self.everyone()).await?;
            check_conversations(context, connection, &self.everyone()).await?;
            check_in_time(deadline)?;
            Ok::<Placed, RequestError>(placed)
        });
        let placed = context.measured("create", transaction).await?;
        let setting = Setting { conversation_id: self.id, kind: self.conversation.kind, direct: None };
        let told = Told { setting, joined: self.everyone(), entry: &entry, placed, leaves: 0, origin: 0 };
        context.publisher.publish(told.publication()?);
        Ok(self.id)
    }

    fn everyone(&self) -> Vec<UserId> {
        std::iter::once(self.caller).chain(self.others.iter().copied()).collect()
    }

    fn is_channel(&self) -> bool {
        self.conversation.kind == ConversationKind::Channel
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
            sender_device_id: None,
            target_id: Some(self.caller.as_uuid()),
            content: content_text(&member_content)?,
        })
    }

    async fn insert(&self, connection: &mut diesel_async::AsyncPgConnection) -> Result<(), RequestError> {
        use diesel_async::RunQueryDsl;
        let others = self.others.iter().map(|user| (user.as_uuid(), Role::Member));
        let members = std::iter::once((self.caller.as_uuid(), Role::Owner)).chain(others);
        let (user_ids, roles): (Vec<Uuid>, Vec<&'static str>) =
            members.map(|(user_id, role)| (user_id, role.as_str())).unzip();
        let Settings { title, description, metadata, .. } = self.settings.clone();
        let member_count = i32::try_from(user_ids.len()).unwrap_or(i32::MAX);
        let statement = InsertConversation {
            id: self.id.as_uuid(),
            kind: self.conversation.kind.as_str(),
            encryption: self.conversation.encryption.as_str(),
            title,
            description,
            metadata: Value::Object(metadata),
            posting: self.settings.posting.as_str(),
            history_visible: self.settings.history_visible,
            is_public: self.settings.is_public,
            retention_seconds: self.settings.retention_seconds.map(to_i64),
            slow_mode_seconds: self.settings.slow_mode_seconds.map(to_i64),
            max_members: i32::try_from(self.settings.max_members).unwrap_or(i32::MAX),
            member_count,
            created_by: self.caller.as_uuid(),
            user_ids,
            roles,
        };
        statement.execute(connection).await?;
        if self.is_channel() && self.settings.is_public {
            channels::write(connection, self.id, member_count, self.settings.words()).await?;
        }
        Ok(())
    }
}
