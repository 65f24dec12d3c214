//! What people do with conversations and those who are in them: begin, add, remove, leave, ban, give roles, invite, join; and
//! what they read and mark there.

use entrenous_checker::{Change, What};
use entrenous_client::{Api, ApiError};
use entrenous_model::{ConversationId, IdGenerator, UserId};
use entrenous_protocol::{
    Act, Code,
    act::Reaction,
    entry::{ConversationKind, Role},
    rest::{ConversationPatch, MarkRead, NewInvite},
};
use rand::{Rng, seq::IndexedRandom};

use super::{
    between,
    caller::{Caller, failure},
    new_conversation,
    world::{Phase, Room},
};

/// Conversations that are begun.
const ROOMS_MAX: usize = 40;
/// Entries that somebody looks at.
const PEEK_MAX: u32 = 20;

/// Everything that people do by REST now and then, messages aside.
pub(super) async fn administer(mut caller: Caller) {
    while caller.world.is_in(Phase::Talking) {
        tokio::time::sleep(between(&mut caller.rng, 200..1_200)).await;
        match caller.rng.random_range(0..40) {
            0..8 => read(&mut caller).await,
            8..12 => mark(&mut caller).await,
            12..17 => peek(&mut caller).await,
            17..32 => change_member(&mut caller).await,
            32..36 => come(&mut caller).await,
            36 => leave(&mut caller).await,
            37 => invite(&mut caller).await,
            38 => name(&mut caller).await,
            _ => begin(&mut caller).await,
        }
    }
}

async fn read(caller: &mut Caller) {
    let user = caller.user;
    let Some(conversation) = caller.world.any_room(user, &mut caller.rng) else { return };
    let seq = caller.world.seen(conversation).saturating_sub(caller.rng.random_range(0..10));
    caller.world.recorder.record(What::Reading { user, conversation, seq });
    let read = MarkRead { conversation_id: conversation, seq: Some(seq), message_ids: None };
    let answer = caller.api().mark_read(&read).await;
    if answer.is_ok() {
        caller.world.recorder.record(What::HasRead { user, conversation, seq });
    }
    caller.expect("read by REST", &answer, &[Code::NotFound]);
    caller.note("read by REST", Some(conversation), &answer);
}

/// Reacts to something, pins it, or takes either back.
async fn mark(caller: &mut Caller) {
    let Some(conversation) = caller.world.any_room(caller.user, &mut caller.rng) else { return };
    let Some(message_id) = caller.world.any_known(conversation, &mut caller.rng) else { return };
    let reaction = || Reaction { message_id, reaction: "👍".to_owned() };
    let act = match caller.rng.random_range(0..4) {
        0 => Act::React(reaction()),
        1 => Act::Unreact(reaction()),
        2 => Act::Pin { message_id },
        _ => Act::Unpin { message_id },
    };
    let answer = caller.api().act(conversation, IdGenerator.next(), &act).await;
    // Deleted meanwhile; or not everybody pins; or a hundred are.
    caller.expect("mark", &answer, &[Code::NotFound, Code::Conflict, Code::Forbidden, Code::TooLarge]);
    caller.note("mark", Some(conversation), &answer);
}

/// Reads the end of a log, which who is no member must not.
async fn peek(caller: &mut Caller) {
    let rooms = caller.world.rooms();
    let Some(conversation) = rooms.choose(&mut caller.rng).map(|room| room.id) else { return };
    let (operation, user) = (caller.world.next_operation(), caller.user);
    let after = caller.world.seen(conversation).saturating_sub(caller.rng.random_range(0..PEEK_MAX).into());
    caller.world.recorder.record(What::Peeking { operation, user, conversation });
    let answer = caller.api().log(conversation, after, PEEK_MAX).await;
    caller.world.recorder.record(match &answer {
        Ok(page) => What::Peeked { operation, seqs: page.items.iter().map(|entry| entry.seq).collect() },
        Err(error) => failure(operation, error),
    });
    caller.expect("look at a log", &answer, &[Code::NotFound]);
}

/// Somebody is added, removed, banned, no longer banned, or given another role, mostly by the owner.
async fn change_member(caller: &mut Caller) {
    let Some(room) = any_group(caller, 0.7) else { return };
    let others: Vec<UserId> = caller.world.people.iter().map(|other| other.user_id).collect();
    let Some(user) = others.choose(&mut caller.rng).copied().filter(|user| *user != caller.user) else { return };
    if room.is_owned_by(user) {
        return;
    }
    match caller.rng.random_range(0..18) {
        0..6 => add(caller, &room, user).await,
        6 => ask(caller, &room, ("remove", Change::Go(user)), &[Code::NotFound]).await,
        7 => ask(caller, &room, ("ban", Change::Ban(user)), &[]).await,
        8..11 => ask(caller, &room, ("lift a ban", Change::Unban(user)), &[]).await,
        _ => {
            let roles = [Role::Reader, Role::Member, Role::Member, Role::Moderator];
            let role = roles.choose(&mut caller.rng).copied().unwrap_or(Role::Member);
            let action = format!("make somebody a {role}");
            ask(caller, &room, (&action, Change::Role(user, role)), &[Code::NotFound]).await;
        }
    }
}

async fn add(caller: &mut Caller, room: &Room, user: UserId) {
    caller.world.invite(room.id, user);
    let attempt = changing(caller.user, room.id, "add", Change::Come(user));
    let id = room.id;
    let call = move |api: Api| async move { api.add_member(id, user, None).await };
    let answer = caller.insist(attempt, call, |member| Some(member.joined_seq)).await;
    // By who may not, or of who is banned.
    let of_owner = [Code::Forbidden, Code::TooLarge];
    let of_others = [Code::Forbidden, Code::TooLarge, Code::NotFound];
    let codes: &[Code] = if room.is_owned_by(caller.user) { &of_owner } else { &of_others };
    caller.expect("add", &answer, codes);
}

/// Has a change made that its owner is refused for one of these reasons only; who is not its owner, also where they may not.
async fn ask(caller: &mut Caller, room: &Room, (action, change): (&str, Change), codes: &[Code]) {
    let id = room.id;
    let attempt = changing(caller.user, id, action, change.clone());
    let change = &change;
    let call = move |api: Api| async move { make(&api, id, change).await };
    let answer = caller.insist(attempt, call, |()| None).await;
    let of_others = [Code::NotFound, Code::Forbidden];
    let is_own = room.is_owned_by(caller.user);
    let codes: Vec<Code> = codes.iter().chain(of_others.iter().filter(|_| !is_own)).copied().collect();
    caller.expect(action, &answer, &codes);
}

async fn make(api: &Api, id: ConversationId, change: &Change) -> Result<(), ApiError> {
    match change {
        Change::Come(_) => api.join(id).await.map(drop),
        Change::Go(user) => api.remove_member(id, *user).await,
        Change::Role(user, role) => api.set_role(id, *user, *role).await.map(drop),
        Change::Ban(user) => api.ban(id, *user).await,
        Change::Unban(user) => api.unban(id, *user).await,
        Change::Title(title) => {
            let patch = ConversationPatch { title: Some(Some(title.clone())), ..ConversationPatch::default() };
            api.update_conversation(id, &patch).await.map(drop)
        }
    }
}

fn changing(user: UserId, conversation: ConversationId, action: &str, change: Change) -> impl Fn(u64) -> What + use<> {
    let action = action.to_owned();
    move |operation| What::Changing {
        operation,
        action: action.clone(),
        user,
        conversation,
        id: None,
        change: change.clone(),
    }
}

/// A group of one's own this often, else any.
fn any_group(caller: &mut Caller, own: f64) -> Option<Room> {
    let is_own = caller.rng.random_bool(own);
    let mut groups = caller.world.rooms();
    groups.retain(|room| room.is_group() && (!is_own || room.is_owned_by(caller.user)));
    groups.choose(&mut caller.rng).cloned()
}

/// Joins what is public, or by an invite.
async fn come(caller: &mut Caller) {
    if caller.rng.random_bool(0.5) {
        return come_by_invite(caller).await;
    }
    let mut rooms = caller.world.rooms();
    rooms.retain(|room| room.is_public || caller.rng.random_bool(0.05));
    let Some(room) = rooms.choose(&mut caller.rng).filter(|room| room.is_group()) else { return };
    caller.world.invite(room.id, caller.user);
    let codes = [Code::NotFound, Code::Forbidden, Code::TooLarge];
    ask(caller, room, ("join", Change::Come(caller.user)), &codes).await;
}

async fn come_by_invite(caller: &mut Caller) {
    let Some((conversation, token)) = caller.world.any_invite(&mut caller.rng) else { return };
    caller.world.invite(conversation, caller.user);
    let attempt = changing(caller.user, conversation, "join by invite", Change::Come(caller.user));
    let token = token.as_str();
    let call = move |api: Api| async move { api.join_by_invite(token).await };
    let answer = caller.insist(attempt, call, |_| None).await;
    // Banned; or it is used up.
    caller.expect("join by invite", &answer, &[Code::NotFound, Code::Forbidden, Code::TooLarge]);
}

/// Leaves a group that somebody else owns.
async fn leave(caller: &mut Caller) {
    let mut groups = caller.world.rooms();
    groups.retain(|room| room.is_group() && !room.is_owned_by(caller.user));
    let Some(room) = groups.choose(&mut caller.rng) else { return };
    ask(caller, room, ("leave", Change::Go(caller.user)), &[Code::NotFound]).await;
}

/// Makes an invite. What nobody heard of is of no use to anybody: it is not asked for again.
async fn invite(caller: &mut Caller) {
    let Some(room) = any_group(caller, 0.9) else { return };
    let max_uses = caller.rng.random_bool(0.5).then(|| caller.rng.random_range(1..4));
    let answer = caller.api().create_invite(room.id, &NewInvite { expires_at: None, max_uses }).await;
    caller.expect("make an invite", &answer, &[Code::NotFound, Code::Forbidden, Code::TooLarge]);
    caller.note("make an invite", Some(room.id), &answer);
    if let Some(token) = answer.ok().and_then(|invite| invite.token) {
        caller.world.keep_invite(room.id, token);
    }
}

/// Gives a group another title.
async fn name(caller: &mut Caller) {
    let Some(room) = any_group(caller, 0.7) else { return };
    let title = format!("title {}", caller.world.next_operation());
    ask(caller, &room, ("change the title", Change::Title(title)), &[]).await;
}

async fn begin(caller: &mut Caller) {
    if caller.world.rooms().len() >= ROOMS_MAX {
        return;
    }
    let mut members: Vec<UserId> = caller.world.people.iter().map(|other| other.user_id).collect();
    members.retain(|other| *other != caller.user && caller.rng.random_bool(0.6));
    members.insert(0, caller.user);
    let kind = match members.len() {
        1 => return,
        2 => ConversationKind::Direct,
        _ => ConversationKind::Group,
    };
    let is_public = kind == ConversationKind::Group && caller.rng.random_bool(0.4);
    let new = new_conversation(kind, is_public, &members);
    let answer = caller.api().create_conversation(&new).await;
    let id = answer.as_ref().ok().map(|conversation| conversation.id);
    if let Some(id) = id {
        caller.world.add_room(id, &new);
    }
    caller.expect("begin", &answer, &[]);
    caller.note("begin", id, &answer);
}
