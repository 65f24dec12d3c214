//! What people do with messages and with each other.

use std::time::Duration;

use entrenous_client::{api, outgoing};
use entrenous_model::{Clock, EntryId, IdGenerator, SystemClock};
use entrenous_protocol::{
    Act, Code,
    act::{DeleteScope, Reaction},
    rest::NewInvite,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Invited, Op, World,
    device::{Device, Place, REFUSALS, Scheduled, done_or_refused},
    op::{REACTIONS, Touch, owner_of},
};

impl Device {
    /// What is scheduled says its id, as all messages here do.
    pub(super) async fn schedule(&mut self, world: &World, room: usize, wait_ms: u64) {
        let id: EntryId = IdGenerator.next();
        let send_at = SystemClock.now() + Duration::from_millis(wait_ms);
        let path = format!("conversations/{}/messages", world.rooms[room]);
        let message = json!({"id": id, "content": {"text": id}, "send_at": send_at});
        let kept = api::json::<Value>(self.person.api.request(Method::POST, &path).json(&message)).await;
        if done_or_refused(kept, &[Code::NotFound, Code::Forbidden]).is_some() {
            self.scheduled.push(Scheduled { id, room, is_cancelled: false });
        }
    }

    pub(super) async fn cancel(&mut self) {
        let Some(last) = self.scheduled.iter_mut().rfind(|scheduled| !scheduled.is_cancelled) else { return };
        let request = self.person.api.request(Method::DELETE, &format!("scheduled/{}", last.id));
        last.is_cancelled = done_or_refused(api::empty(request).await, &[Code::NotFound]).is_some();
    }

    pub(super) async fn touch(&mut self, world: &World, room: usize, touch: Touch, back: usize, by_rest: bool) {
        let id: EntryId = IdGenerator.next();
        let Some(act) = act_of(&self.places[room], id, touch, back) else { return };
        let is_hiding = matches!(touch, Touch::Hide);
        if !by_rest && !is_hiding {
            self.say(id, outgoing::act(Some(id), world.rooms[room], &act)).await;
            return;
        }
        let done = done_or_refused(self.person.api.act(world.rooms[room], id, &act).await, &REFUSALS);
        if done.is_some() && is_hiding {
            self.places[room].hidden.insert(act.message_id());
        }
    }

    pub(super) async fn come_or_go(&mut self, world: &World, room: usize, is_join: bool, by_rest: bool) {
        let (room_id, user_id) = (world.rooms[room], self.person.user_id);
        if world.user(owner_of(room)) == user_id {
            return;
        }
        let refusals = [Code::NotFound, Code::Forbidden];
        match (by_rest, is_join) {
            // Not found: removed again before the answer could show the conversation.
            (true, true) => drop(done_or_refused(self.person.api.join(room_id).await, &refusals)),
            (true, false) => {
                let left = self.person.api.remove_member(room_id, user_id).await;
                done_or_refused(left, &refusals);
            }
            (false, _) => {
                let id = IdGenerator.next();
                self.say(id, outgoing::membership(Some(id), room_id, is_join)).await;
            }
        }
    }

    /// What moderators and owners do, tried by everybody.
    pub(super) async fn look_after(&mut self, op: Op, world: &World) {
        let api = &self.person.api;
        match op {
            Op::Add { room, user, role } => {
                let added = api.add_member(world.rooms[room], world.user(user), role).await;
                done_or_refused(added, &[Code::NotFound, Code::Forbidden]);
            }
            Op::Remove { room, user } => {
                done_or_refused(api.remove_member(world.rooms[room], world.user(user)).await, &REFUSALS);
            }
            Op::Give { room, user, role } => {
                done_or_refused(api.set_role(world.rooms[room], world.user(user), role).await, &REFUSALS);
            }
            Op::Ban { room, user } => {
                done_or_refused(api.ban(world.rooms[room], world.user(user)).await, &REFUSALS);
            }
            Op::Unban { room, user } => {
                done_or_refused(api.unban(world.rooms[room], world.user(user)).await, &REFUSALS);
            }
            Op::Invite { room, max_uses } => {
                let invite = NewInvite { max_uses: Some(max_uses), ..NewInvite::default() };
                let made = done_or_refused(api.create_invite(world.rooms[room], &invite).await, &REFUSALS);
                if let Some(token) = made.and_then(|invite| invite.token) {
                    world.invites.lock().unwrap().push(Invited { room, token, max_uses });
                }
            }
            Op::JoinBy { back } => {
                let token = latest(&world.invites.lock().unwrap(), back).map(|invited| invited.token.clone());
                if let Some(token) = token {
                    done_or_refused(api.join_by_invite(&token).await, &[Code::NotFound, Code::Forbidden]);
                }
            }
            _ => unreachable!("{op:?} is another's to do"),
        }
    }
}

/// None where the device knows no such message.
fn act_of(place: &Place, id: EntryId, touch: Touch, back: usize) -> Option<Act> {
    let known = if matches!(touch, Touch::Edit | Touch::Erase { is_own: true }) { &place.own } else { &place.messages };
    let message_id = *latest(known, back)?;
    let reaction = |with: usize| Reaction { message_id, reaction: REACTIONS[with].to_owned() };
    Some(match touch {
        Touch::Edit => outgoing::edit_to_text(message_id, &id.to_string()),
        Touch::Erase { .. } => Act::Delete { message_id, scope: DeleteScope::All },
        Touch::Hide => Act::Delete { message_id, scope: DeleteScope::Me },
        Touch::React { with } => Act::React(reaction(with)),
        Touch::Unreact { with } => Act::Unreact(reaction(with)),
        Touch::Pin => Act::Pin { message_id },
        Touch::Unpin => Act::Unpin { message_id },
    })
}

/// The one that is so many before the last.
fn latest<T>(all: &[T], back: usize) -> Option<&T> {
    all.len().checked_sub(1 + back).map(|at| &all[at])
}
