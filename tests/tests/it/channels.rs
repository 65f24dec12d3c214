//! Channels: few post and many receive, who joins and leaves is no entry, and nothing is missed or leaked for that.

mod cuts;
mod races;

use entrenous_client::{Connection, RequestError, SyncStart, Target, api::HistoryPage, frame::Body, outgoing};
use entrenous_model::{ConversationId, EntryId, IdGenerator, UserId};
use entrenous_protocol::{
    Code,
    entry::{ConversationKind, MemberChange, MemberContent, Role},
    rest::{MarkRead, Posting},
};
use entrenous_system_tests::{Person, Shape, System};

use crate::support::{conversation, live, next, text, until};

/// What a connection is told of one channel.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Joined(u64),
    Left(u64),
    /// An entry, or the ack in its place.
    Entry(u64),
    /// Who, how, and the head.
    Changed(UserId, MemberChange, u64),
}

impl Told {
    fn of(room: ConversationId, body: &Body) -> Option<Self> {
        match body {
            Body::Entry(entry) if entry.conversation_id == room => Some(Self::Entry(entry.seq)),
            Body::Ack(Some(stored)) if stored.conversation_id == room => Some(Self::Entry(stored.seq)),
            Body::Notification(note) if note.conversation_id == Some(room) => {
                let seq = note.seq.unwrap();
                Some(match note.event.as_str() {
                    "conversation_joined" => Self::Joined(seq),
                    "conversation_left" => Self::Left(seq),
                    "member_changed" => {
                        let content: MemberContent = serde_json::from_str(note.payload.get()).unwrap();
                        Self::Changed(content.user_id, content.change, seq)
                    }
                    other => panic!("{other}"),
                })
            }
            _ => None,
        }
    }
}

async fn told(connection: &mut Connection, room: ConversationId) -> Told {
    next(connection, |body| Told::of(room, &body)).await
}

async fn channel(owner: &Person, members: &[&Person]) -> ConversationId {
    owner.api.create_conversation(&conversation(ConversationKind::Channel, members)).await.unwrap().id
}

async fn post(person: &Person, room: ConversationId) -> u64 {
    person.api.send_message(room, &text("news")).await.unwrap().seq
}

/// A direct message: whatever was said before has come when it comes.
async fn fence(from: &Person, to: &Person) -> EntryId {
    let direct = from.api.create_conversation(&conversation(ConversationKind::Direct, &[to])).await.unwrap().id;
    from.api.send_message(direct, &text("that was all")).await.unwrap().id
}

/// What is told of a channel before the fence.
async fn told_before(connection: &mut Connection, room: ConversationId, fence: EntryId) -> Vec<Told> {
    let mut all = Vec::new();
    next(connection, |body| {
        all.extend(Told::of(room, &body));
        matches!(&body, Body::Entry(entry) if entry.id == fence).then_some(())
    })
    .await;
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_all_gateways_receive_what_few_post() {
    let system = System::start(&Shape { gateways: 2, ..Shape::one_process() }).await.unwrap();
    let [near, far] = system.gateways() else { unreachable!("two gateways") };
    let owner = Person::new(near, "owner").await.unwrap();
    let helper = Person::new(far, "helper").await.unwrap();
    let (bob, carol) = (Person::new(far, "bob").await.unwrap(), Person::new(far, "carol").await.unwrap());
    let (mut at_owner, mut at_bob, mut at_carol) = (live(&owner).await, live(&bob).await, live(&carol).await);
    let mut at_helper = live(&helper).await;

    let room = channel(&owner, &[&bob]).await;
    assert_eq!((told(&mut at_bob, room).await, told(&mut at_bob, room).await), (Told::Joined(1), Told::Entry(1)));
    assert_eq!((told(&mut at_owner, room).await, told(&mut at_owner, room).await), (Told::Joined(1), Told::Entry(1)));
    let made = owner.api.conversation(room).await.unwrap();
    assert_eq!((made.kind, made.posting, made.last_seq), (ConversationKind::Channel, Posting::Moderators, 1));

    // A join takes no seq; who joins is told so, and who looks after the members.
    owner.api.add_member(room, helper.user_id, Some(Role::Moderator)).await.unwrap();
    assert_eq!(told(&mut at_helper, room).await, Told::Joined(2));
    assert_eq!(told(&mut at_owner, room).await, Told::Changed(helper.user_id, MemberChange::Added, 1));
    let joined = helper.api.add_member(room, carol.user_id, None).await.unwrap();
    assert_eq!(joined.joined_seq, 2);
    assert_eq!(helper.api.add_member(room, carol.user_id, None).await.unwrap(), joined, "twice: the same");
    for connection in [&mut at_owner, &mut at_helper] {
        assert_eq!(told(connection, room).await, Told::Changed(carol.user_id, MemberChange::Added, 1));
    }
    assert_eq!(told(&mut at_carol, room).await, Told::Joined(2));

    // Few post, everybody receives, each in the same place.
    let stored = at_owner.send_message(Target::Conversation(room), &text("a")).await.unwrap();
    assert_eq!((stored.seq, post(&helper, room).await), (2, 3));
    for connection in [&mut at_owner, &mut at_helper, &mut at_bob, &mut at_carol] {
        assert_eq!([told(connection, room).await, told(connection, room).await], [Told::Entry(2), Told::Entry(3)]);
    }
    let refused = bob.api.send_message(room, &text("me too")).await.unwrap_err();
    assert!(refused.is(Code::Forbidden), "{refused}");
    let refused = at_bob.send_message(Target::Conversation(room), &text("me too")).await.unwrap_err();
    assert!(matches!(&refused, RequestError::Refused(refusal) if refusal.is(Code::Forbidden)), "{refused}");

    // Who is removed is told so with the head, and hears nothing later.
    for _ in 0..2 {
        helper.api.remove_member(room, carol.user_id).await.unwrap();
    }
    assert_eq!(post(&owner, room).await, 4);
    let mark = fence(&owner, &carol).await;
    assert_eq!(told_before(&mut at_carol, room, mark).await, [Told::Left(3)]);
    assert_eq!(told(&mut at_bob, room).await, Told::Entry(4));
    assert_eq!(told(&mut at_owner, room).await, Told::Changed(carol.user_id, MemberChange::Removed, 3));
    is_unknown_to(&carol, room).await;

    // Who comes back begins anew, and leaves by themselves.
    assert_eq!(owner.api.add_member(room, carol.user_id, None).await.unwrap().joined_seq, 5);
    assert_eq!(told(&mut at_carol, room).await, Told::Joined(5));
    assert!(carol.api.conversation(room).await.unwrap().last_entry.is_none(), "nothing from before");
    assert!(carol.api.log(room, 0, 100).await.unwrap().items.is_empty());
    assert_eq!(post(&owner, room).await, 5);
    assert_eq!(told(&mut at_carol, room).await, Told::Entry(5));
    let seqs: Vec<_> = carol.api.log(room, 0, 100).await.unwrap().items.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [5]);
    carol.api.remove_member(room, carol.user_id).await.unwrap();
    assert_eq!(told(&mut at_carol, room).await, Told::Left(5));
    assert_eq!(owner.api.conversation(room).await.unwrap().member_count, 3);
}

/// As if it did not exist.
async fn is_unknown_to(person: &Person, room: ConversationId) {
    let refusals = [
        person.api.conversation(room).await.map(drop),
        person.api.log(room, 0, 1).await.map(drop),
        person.api.history(room, HistoryPage::default()).await.map(drop),
        person.api.unread(room).await.map(drop),
        person.api.members(room, None).await.map(drop),
        person.api.send_message(room, &text("let me in")).await.map(drop),
        person.api.mark_read(&MarkRead { conversation_id: room, seq: Some(1), message_ids: None }).await,
    ];
    for refusal in refusals {
        let refusal = refusal.unwrap_err();
        assert!(refusal.is(Code::NotFound), "{refusal}");
    }
    let listed = person.api.conversations(None).await.unwrap().items;
    assert!(listed.iter().all(|one| one.id != room));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_member_may_ask_of_a_channel() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let person = async |name: &str| Person::new(system.gateway(), name).await.unwrap();
    let (owner, bob, carol) = (person("owner").await, person("bob").await, person("carol").await);
    let room = channel(&owner, &[&bob, &carol]).await;
    is_unknown_to(&person("stranger").await, room).await;
    for seq in 2..=6 {
        assert_eq!(post(&owner, room).await, seq);
    }

    // What is unread, and that who sends has read.
    let own = owner.api.conversation(room).await.unwrap();
    assert_eq!((own.read_seq, own.unread_count), (6, 0));
    let unread = bob.api.unread(room).await.unwrap();
    assert_eq!((unread.count, unread.seqs), (5, (2..=6).collect()));
    bob.api.mark_read(&MarkRead { conversation_id: room, seq: Some(4), message_ids: None }).await.unwrap();
    until("4 2", async || {
        let found = bob.api.conversation(room).await.unwrap();
        Some(format!("{} {}", found.read_seq, found.unread_count))
    })
    .await;
    assert_eq!(owner.api.add_member(room, person("dave").await.user_id, None).await.unwrap().joined_seq, 7);

    // From a cursor on; then live.
    let mut at_bob = bob.connect().await.unwrap();
    let start = SyncStart { cursors: [(room, 3)].into(), limit: Some(2), ..SyncStart::default() };
    let synced = at_bob.sync(&start).await.unwrap().conversations;
    let place = synced.iter().find(|one| one.conversation_id == room).unwrap();
    assert_eq!((place.starts_at, place.sent_up_to, place.last_seq, place.has_more), (4, 5, 6, true));
    let start = SyncStart { cursors: [(room, 5)].into(), ..SyncStart::default() };
    at_bob.sync(&start).await.unwrap();
    post(&owner, room).await;
    for seq in 4..=7 {
        assert_eq!(told(&mut at_bob, room).await, Told::Entry(seq));
    }

    // Nobody is told who types; who the members are, and what reached them, is for those who look after them.
    let at_carol = live(&carol).await;
    let id = IdGenerator.next();
    let typing = at_carol.handle().request(id, outgoing::typing(Some(id), room, true)).await.unwrap();
    typing.wait().await.unwrap();
    let mark = post(&owner, room).await;
    let first = next(&mut at_bob, |body| matches!(body, Body::Entry(_) | Body::Typing(_)).then_some(body)).await;
    assert!(matches!(&first, Body::Entry(entry) if entry.seq == mark), "{first:?}");
    assert_eq!(owner.api.members(room, None).await.unwrap().items.len(), 4);
    assert!(bob.api.members(room, None).await.unwrap_err().is(Code::Forbidden));
    let message = owner.api.log(room, 6, 1).await.unwrap().items[0].id;
    assert_eq!(owner.api.receipts(room, message).await.unwrap().items.len(), 3);
    assert!(bob.api.receipts(room, message).await.unwrap_err().is(Code::Forbidden));

    // Who was removed while away is told at the next sync, with the head.
    carol.api.remove_member(room, carol.user_id).await.unwrap();
    let mut again = live(&carol).await;
    assert_eq!(told(&mut again, room).await, Told::Left(mark));
}
