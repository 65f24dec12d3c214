//! Receipts in conversations of 2 to 300 members: exact times and live receipts up to 256, numbers alone above.

use std::collections::{HashMap, HashSet};

use entrenous_client::{
    Connection,
    frame::{Body, Receipt},
};
use entrenous_model::{ConversationId, Timestamp, UserId};
use entrenous_protocol::{
    Entry,
    rest::{MarkRead, MessageReceipts},
};
use entrenous_system_tests::{Person, Shape, System};
use futures::{StreamExt, stream};

use crate::support::{crowd, group, live, next, text};

/// The most members of a conversation in which receipts are told and their times kept.
const TOLD_MAX: usize = 256;
/// Calls that are made at once: so few that none is given up on a busy machine, since a receipt is told once at most.
const CALLS_AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receipts_in_groups_of_any_size() {
    let system = System::start(&Shape::one_process()).await.unwrap();
    let people = crowd(system.gateway(), 300).await;
    let (author, others) = people.split_first().unwrap();
    let tablet = Person::login(system.gateway(), &author.name, "tablet").await.unwrap();
    let laptop = Person::login(system.gateway(), &others[0].name, "laptop").await.unwrap();
    let fence = Fence { room: group(author, &[&others[0]]).await, author, reader: &others[0] };
    let mut here = [live(author).await, live(&tablet).await];
    let mut at_laptop = live(&laptop).await;
    for size in [2, 100, TOLD_MAX, 300] {
        let members = &others[..size - 1];
        let room = group(author, &members.iter().collect::<Vec<_>>()).await;
        let mut messages = Vec::new();
        for number in 0..3 {
            messages.push(author.api.send_message(room, &text(&number.to_string())).await.unwrap());
        }
        let (begun, read) = (messages[0].sent_at, &messages[1]);
        mark(members, room, read.seq).await;
        fence.raise().await;

        // Everybody's receipt comes to each device of the author, and to the reader's own other device.
        for connection in &mut here {
            let told = fence.told_before(connection, room).await;
            assert_eq!(told.len(), if size > TOLD_MAX { 0 } else { members.len() }, "live receipts of {size} members");
            assert!(told.values().all(|receipt| (receipt.seq, receipt.device_id) == (read.seq, None)));
            let listed = author.api.receipts(room, messages[0].id).await.unwrap();
            for item in &listed.items {
                assert_eq!(
                    item.read_at,
                    Some(told[&item.user_id].at),
                    "the time that was told is the time that is kept"
                );
            }
        }
        let own = fence.told_before(&mut at_laptop, room).await;
        let own: Vec<_> = own.values().map(|receipt| (receipt.user_id, receipt.device_id, receipt.seq)).collect();
        assert_eq!(own, [(laptop.user_id, Some(others[0].device_id), read.seq)], "own devices in a group of {size}");
        lists(author, room, &messages, begun, members).await;
    }
}

/// All of them say that they have read up to here.
async fn mark(members: &[Person], conversation_id: ConversationId, seq: u64) {
    let read = MarkRead { conversation_id, seq: Some(seq), message_ids: None };
    let marking = stream::iter(members).map(|member| member.api.mark_read(&read));
    marking.buffer_unordered(CALLS_AT_ONCE).for_each(async |marked| marked.unwrap()).await;
}

/// A conversation in which a receipt is told after all the others.
struct Fence<'a> {
    room: ConversationId,
    author: &'a Person,
    reader: &'a Person,
}

impl Fence<'_> {
    async fn raise(&self) {
        let seq = self.author.api.send_message(self.room, &text("that was all")).await.unwrap().seq;
        mark(std::slice::from_ref(self.reader), self.room, seq).await;
    }

    /// The receipts of another conversation that come before, by user.
    async fn told_before(&self, connection: &mut Connection, room: ConversationId) -> HashMap<UserId, Receipt> {
        let mut told = HashMap::new();
        next(connection, |body| match body {
            Body::Read(receipt) if receipt.conversation_id == self.room => Some(()),
            Body::Read(receipt) if receipt.conversation_id == room => {
                let user = receipt.user_id;
                assert!(told.insert(user, receipt).is_none(), "{user} is told twice");
                None
            }
            _ => None,
        })
        .await;
        told
    }
}

/// What the author can look up: of each member up to 256, else the numbers.
async fn lists(author: &Person, room: ConversationId, messages: &[Entry], begun: Timestamp, members: &[Person]) {
    let is_small = members.len() < TOLD_MAX;
    let count = u64::try_from(members.len()).unwrap();
    for (place, message) in messages.iter().enumerate() {
        let MessageReceipts { items, has_more, delivered_count, read_count } =
            author.api.receipts(room, message.id).await.unwrap();
        let is_read = place < 2;
        let expected = if is_read { count } else { 0 };
        assert_eq!((delivered_count, read_count, has_more), (expected, expected, false), "message {place} of {count}");
        let named: HashSet<_> = items.iter().map(|item| item.user_id).collect();
        assert_eq!((items.len(), named.len()), if is_small { (members.len(), members.len()) } else { (0, 0) });
        for item in items {
            assert!(members.iter().any(|member| member.user_id == item.user_id), "a member, and not the author");
            assert_eq!(
                (item.delivered_at, item.read_at.is_some()),
                (item.read_at, is_read),
                "what was read was delivered"
            );
            assert!(item.read_at.is_none_or(|at| at >= begun));
        }
    }
}
