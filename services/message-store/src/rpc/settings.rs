//! Methods `update_conversation`, `delete_conversation` and `set_own_settings`.

use diesel_async::AsyncPgConnection;
use entrenous_bus::Deadline;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    Code, EntryKind, Failure,
    entry::{ConversationKind, SettingsContent},
    live::UserNotice,
    rest::{Conversation, ConversationPatch, Member},
    rpc::{
        Done,
        store::{ConversationRequest, SetOwnSettingsRequest, UpdateConversationRequest},
    },
};
use futures::FutureExt;
use serde_json::json;

use super::{
    Context,
    change::{self, Change, Told, content_text, lock_head},
    conversations,
};
use crate::{
    domain::{
        rights::{Action, may},
        settings::{self, Settings},
    },
    error::RequestError,
    publish::Publication,
    store::{
        audit::{self, Audited},
        changes::{self, NewEntry, Placed},
        channels, invites,
        settings::{self as rows, Standing},
    },
};

pub(super) async fn update(
    context: Context,
    request: UpdateConversationRequest,
    deadline: Deadline,
) -> Result<Conversation, RequestError> {
    let (caller, conversation_id) = (request.caller, request.conversation_id);
    let worker = context.clone();
    change::make(worker, "update_conversation", request, deadline, |context, connection, request, deadline| {
        update_locked(context, connection, request, deadline).boxed()
    })
    .await?;
    conversations::find(&context, caller, conversation_id, deadline).await?.ok_or_else(|| Failure::not_found().into())
}

async fn update_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    request: &UpdateConversationRequest,
    deadline: Deadline,
) -> Result<Change<()>, RequestError> {
    let UpdateConversationRequest { caller, conversation_id, ref patch } = *request;
    let before = lock(connection, conversation_id, caller, deadline).await?;
    let mut wanted = before.settings.clone();
    let changed = wanted.change(patch.clone());
    let kind = before.setting.kind;
    for action in settings::needed(patch, &changed) {
        may(kind, before.role, action)?;
    }
    settings::check(kind, patch)?;
    if changed == ConversationPatch::default() {
        return Ok(Change::None(()));
    }
    if let Some(members_max) = changed.max_members {
        check_members_max(context, &before, members_max)?;
    }
    let settings_content = SettingsContent { by: caller, changed, deleted: false };
    let (placed, publication) = append(context, connection, &before, &settings_content).await?;
    rows::write(connection, conversation_id, &wanted, placed.sent_at).await?;
    if kind == ConversationKind::Channel {
        note_public(connection, &before, &wanted).await?;
    }
    Ok(Change::Swept((), publication))
}

fn check_members_max(context: &Context, standing: &Standing, wanted: u32) -> Result<(), Failure> {
    context.check_members_max(standing.setting.kind, wanted)?;
    if i64::from(wanted) < i64::from(standing.member_count) {
        return Err(Failure::new(Code::Conflict, format!("there are {} members", standing.member_count)));
    }
    Ok(())
}

/// A channel is found by everybody, by other words, or by nobody any more.
async fn note_public(
    connection: &mut AsyncPgConnection,
    before: &Standing,
    settings: &Settings,
) -> Result<(), RequestError> {
    let conversation_id = before.setting.conversation_id;
    if settings.is_public {
        channels::write(connection, conversation_id, before.member_count, settings.words()).await?;
    } else if before.settings.is_public {
        channels::delete(connection, conversation_id).await?;
    }
    Ok(())
}

pub(super) async fn delete(
    context: Context,
    request: ConversationRequest,
    deadline: Deadline,
) -> Result<Done, RequestError> {
    change::make(context, "delete_conversation", request, deadline, |context, connection, request, deadline| {
        delete_locked(context, connection, *request, deadline).boxed()
    })
    .await
}

/// Members are not touched, of whom there may be very many: nobody is one of a conversation that is no more.
async fn delete_locked(
    context: &Context,
    connection: &mut AsyncPgConnection,
    ConversationRequest { caller, conversation_id }: ConversationRequest,
    deadline: Deadline,
) -> Result<Change<Done>, RequestError> {
    lock_head(connection, conversation_id, deadline).await?;
    let Some(standing) = rows::read(connection, conversation_id, caller).await? else {
        let was_owned = rows::was_owned(connection, conversation_id, caller).await?;
        return if was_owned { Ok(Change::None(Done {})) } else { Err(Failure::not_found().into()) };
    };
    may(standing.setting.kind, standing.role, Action::DeleteConversation)?;
    let settings_content = SettingsContent { by: caller, changed: ConversationPatch::default(), deleted: true };
    let (placed, publication) = append(context, connection, &standing, &settings_content).await?;
    rows::end(connection, conversation_id, placed.sent_at).await?;
    channels::delete(connection, conversation_id).await?;
    invites::delete_all(connection, conversation_id).await?;
    let (id, action, detail) = (context.ids.next(), "conversation_deleted", json!({}));
    let audited = Audited { id, actor_id: caller, action, conversation_id, target_id: None, detail };
    audit::note(connection, audited).await?;
    Ok(Change::Swept(Done {}, publication))
}

async fn lock(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    caller: UserId,
    deadline: Deadline,
) -> Result<Standing, RequestError> {
    lock_head(connection, conversation_id, deadline).await?;
    Ok(rows::read(connection, conversation_id, caller).await?.ok_or_else(Failure::not_found)?)
}

/// Appends a `settings` entry; gives what is to be told of it.
async fn append(
    context: &Context,
    connection: &mut AsyncPgConnection,
    standing: &Standing,
    settings_content: &SettingsContent,
) -> Result<(Placed, Publication), RequestError> {
    let entry = NewEntry {
        batch_id: context.ids.next(),
        conversation_id: standing.setting.conversation_id,
        id: context.ids.next(),
        kind: EntryKind::Settings,
        sender_id: settings_content.by,
        sender_device_id: None,
        target_id: None,
        content: content_text(settings_content)?,
    };
    let placed = changes::append_entry(connection, &entry).await?;
    let (setting, leaves) = (standing.setting, standing.leaves);
    let told = Told { setting, joined: Vec::new(), entry: &entry, placed, leaves, origin: 0 };
    Ok((placed, told.publication()?))
}

pub(super) async fn set_own(
    context: Context,
    request: SetOwnSettingsRequest,
    deadline: Deadline,
) -> Result<Member, RequestError> {
    change::make(context, "set_own_settings", request, deadline, |_, connection, request, _| {
        set_own_locked(connection, request).boxed()
    })
    .await
}

/// No entry, and no lock of the head: they concern nobody else.
async fn set_own_locked(
    connection: &mut AsyncPgConnection,
    request: &SetOwnSettingsRequest,
) -> Result<Change<Member>, RequestError> {
    let SetOwnSettingsRequest { caller, conversation_id, ref settings } = *request;
    let found = rows::lock_member(connection, conversation_id, caller).await?;
    let (member, present) = found.ok_or_else(Failure::not_found)?;
    let merged = settings::merge_own(present.clone(), settings.clone())?;
    let member = Member { settings: Some(merged.clone()), ..member };
    if merged == present {
        return Ok(Change::None(member));
    }
    rows::write_own(connection, conversation_id, caller, merged.clone()).await?;
    let mut publication = Publication::default();
    publication.notice(caller, UserNotice::SettingsChanged { conversation_id, settings: merged });
    Ok(Change::Unswept(member, publication))
}
