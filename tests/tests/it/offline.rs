//! A device that was away while very much was said finds all of it, once and in order, and every number is right.

use std::collections::{HashMap, VecDeque};

use entrenous_client::{
    Connection, OutgoingMessage, SyncStart, Target,
    frame::{Body, SyncComplete},
    outgoing,
};
use entrenous_model::{ConversationId, IdGenerator};
use entrenous_protocol::{
    Entry,
    entry::ConversationKind,
    frame::SyncedConversation,
    limits::{LOG_PAGE_MAX, SYNC_ENTRIES_MAX},
    rest::{Conversation, MarkRead, Page},
};
use entrenous_system_tests::{Person, Shape, System};
use futures::future::join_all;
use serde_json::Value;

use crate::support::{conversation, crowd, group, next, text, unread_by_definition, until, whole_log};

const MESSAGES: usize = 10_000;
const CONVERSATIONS: usize = 50;
/// Each of them has a direct conversation with who is away, and all are in each group.
const SENDERS: usize = 4;
/// Below the 256 that a connection may have.
const IN_FLIGHT: usize = 200;
/// The group with a message that mentions who is away.
const MENTIONING: usize = 30;
/// Conversations in a page of the list.
const PAGE: u32 = 20;

/// What an entry is, in full.
fn whole(entry: &Entry) -> Value {
    serde_json::to_value(entry).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_for_ten_thousand_messages_gets_each_once_and_in_order() {
    let system = System::start(&Shape::one_process().with("FRAMES_PER_SECOND_MAX", 100_000)).await.unwrap();
    let phone = Person::new(system.gateway(), "bob").await.unwrap();
    let tablet = Person::login(system.gateway(), "bob", "tablet").await.unwrap();
    let laptop = Person::login(system.gateway(), "bob", "laptop").await.unwrap();
    let senders = crowd(system.gateway(), SENDERS).await;
    let rooms = rooms(&phone, &senders).await;

    say(&senders, &rooms, MESSAGES / 2).await;
    let said = read_and_answer(&laptop, &rooms).await;
    say(&senders, &rooms, MESSAGES / 2).await;
    let mention = OutgoingMessage { mentions: vec![phone.user_id], ..text("bob?") };
    senders[0].api.send_message(rooms[MENTIONING], &mention).await.unwrap();

    // By paging, on the one device.
    let logs = logs(&phone, &rooms).await;
    let count: usize = logs.values().map(Vec::len).sum();
    assert!(count > MESSAGES && logs.len() == CONVERSATIONS, "{count} entries");
    page_through(&tablet, &logs, &rooms).await;
    numbers_are_right(&phone, &logs, &said).await;

    // By syncing, on the other, while more is said.
    let mut at_phone = phone.connect().await.unwrap();
    let mut got = HashMap::new();
    let (first, paused) = sync(&mut at_phone, &mut got, Vec::new()).await;
    assert!(first <= SYNC_ENTRIES_MAX && !paused.is_empty(), "{first} entries, {} have more", paused.len());
    for room in [rooms[0], rooms[CONVERSATIONS - 1]] {
        senders[0].api.send_message(room, &text("meanwhile")).await.unwrap();
    }
    let mut paused = paused;
    while !paused.is_empty() {
        (_, paused) = sync(&mut at_phone, &mut got, paused).await;
    }
    let now = self::logs(&phone, &rooms).await;
    while got.values().map(Vec::len).sum::<usize>() < count + 2 {
        next(&mut at_phone, |body| take(body, &mut got).map(drop)).await;
    }
    for (room, log) in &now {
        let (got, wanted) = (&got[room], log.iter().map(whole).collect::<Vec<_>>());
        assert!(*got == wanted, "{} instead of {} entries of {room}", got.len(), wanted.len());
    }
    acknowledge(&at_phone, now.values().filter_map(|log| log.last())).await;
    until("nothing", async || {
        let left = phone.api.undelivered(1).await.unwrap();
        Some(if left.items.is_empty() && !left.has_more { "nothing" } else { "something" }.to_owned())
    })
    .await;
    at_phone.close().await;
    let again = phone.connect().await.unwrap().sync(&SyncStart::default()).await.unwrap();
    assert!(again.conversations.is_empty(), "what was acknowledged does not come again: {again:?}");
    numbers_are_right(&phone, &now, &said).await;
}

/// Direct conversations first.
async fn rooms(bob: &Person, senders: &[Person]) -> Vec<ConversationId> {
    let mut rooms = Vec::new();
    for sender in senders {
        let direct = conversation(ConversationKind::Direct, &[bob]);
        rooms.push(sender.api.create_conversation(&direct).await.unwrap().id);
    }
    let (owner, others) = senders.split_first().unwrap();
    let members: Vec<&Person> = others.iter().chain([bob]).collect();
    while rooms.len() < CONVERSATIONS {
        rooms.push(group(owner, &members).await);
    }
    rooms
}

/// As many messages, of all senders at once, spread over all conversations.
async fn say(senders: &[Person], rooms: &[ConversationId], count: usize) {
    let of_each = count / senders.len();
    join_all(senders.iter().enumerate().map(async |(number, sender)| {
        let mut connection = sender.connect().await.unwrap();
        let handle = connection.handle().clone();
        let own = rooms.iter().enumerate().filter(|(place, _)| *place >= senders.len() || *place == number);
        let own: Vec<_> = own.map(|(_, room)| *room).collect();
        let saying = async {
            let mut waiting = VecDeque::new();
            for (number, room) in own.iter().cycle().take(of_each).enumerate() {
                let message = text(&number.to_string());
                waiting.push_back(handle.start_message(Target::Conversation(*room), &message).await.unwrap());
                if waiting.len() >= IN_FLIGHT {
                    waiting.pop_front().unwrap().stored().await.unwrap();
                }
            }
            for reply in waiting {
                reply.stored().await.unwrap();
            }
        };
        tokio::select! {
            () = saying => {}
            () = async { while connection.next().await.is_some() {} } => panic!("{:?}", connection.end()),
        }
        connection.close().await;
    }))
    .await;
}

/// The other device reads some, and answers in some: what it says to have read.
async fn read_and_answer(laptop: &Person, rooms: &[ConversationId]) -> HashMap<ConversationId, u64> {
    let mut said = HashMap::new();
    for (number, conversation_id) in rooms.iter().copied().enumerate().step_by(3) {
        let seq = 7 + u64::try_from(number).unwrap();
        laptop.api.mark_read(&MarkRead { conversation_id, seq: Some(seq), message_ids: None }).await.unwrap();
        said.insert(conversation_id, seq);
    }
    for room in rooms.iter().step_by(7) {
        laptop.api.send_message(*room, &text("answer")).await.unwrap();
    }
    said
}

async fn logs(reader: &Person, rooms: &[ConversationId]) -> HashMap<ConversationId, Vec<Entry>> {
    let mut logs = HashMap::new();
    for room in rooms {
        logs.insert(*room, whole_log(&reader.api, *room).await);
    }
    logs
}

async fn acknowledge(connection: &Connection, last: impl IntoIterator<Item = &Entry>) {
    for entry in last {
        let id = IdGenerator.next();
        let receipt = outgoing::delivery_receipt(Some(id), entry.conversation_id, entry.seq);
        connection.handle().request(id, receipt).await.unwrap().wait().await.unwrap();
    }
}

/// Reads what this device has not acknowledged a page at a time, until there is nothing more.
async fn page_through(tablet: &Person, logs: &HashMap<ConversationId, Vec<Entry>>, rooms: &[ConversationId]) {
    let at_tablet = tablet.connect().await.unwrap();
    let mut left: usize = logs.values().map(Vec::len).sum();
    let mut done: HashMap<ConversationId, usize> = HashMap::new();
    let mut order: Vec<ConversationId> = Vec::new();
    while left > 0 {
        let Page { items, has_more, .. } = next_page(tablet, &done).await;
        for entry in &items {
            let place = done.entry(entry.conversation_id).or_default();
            let expected = &logs[&entry.conversation_id][*place];
            assert_eq!(whole(entry), whole(expected), "the next one of its conversation");
            *place += 1;
            if order.last() != Some(&entry.conversation_id) {
                order.push(entry.conversation_id);
            }
        }
        let last: HashMap<_, _> = items.iter().map(|entry| (entry.conversation_id, entry)).collect();
        acknowledge(&at_tablet, last.into_values()).await;
        left -= items.len();
        assert_eq!(has_more, left > 0, "{left} are left");
        assert!(items.len() == usize::try_from(LOG_PAGE_MAX).unwrap() || left == 0, "a page of {}", items.len());
    }
    assert_eq!(order.len(), CONVERSATIONS, "one conversation after another");
    let urgent: Vec<_> = rooms[..SENDERS].iter().chain([&rooms[MENTIONING]]).collect();
    assert!(order[..urgent.len()].iter().all(|room| urgent.contains(&room)), "the urgent ones first");
}

/// The page after everything that was acknowledged has got to the tracker.
async fn next_page(tablet: &Person, done: &HashMap<ConversationId, usize>) -> Page<Entry> {
    let mut page = None;
    until("acknowledged", async || {
        let found = tablet.api.undelivered(LOG_PAGE_MAX).await.unwrap();
        let is_done = |entry: &Entry| {
            done.get(&entry.conversation_id).is_some_and(|done| entry.seq <= u64::try_from(*done).unwrap())
        };
        let is_old = found.items.iter().any(is_done);
        page = Some(found);
        Some(if is_old { "not yet" } else { "acknowledged" }.to_owned())
    })
    .await;
    page.unwrap()
}

/// One `sync` and what it brings; gives how many entries, and where it stopped in those that have more.
async fn sync(
    connection: &mut Connection,
    got: &mut HashMap<ConversationId, Vec<Value>>,
    paused: Vec<SyncedConversation>,
) -> (usize, Vec<SyncedConversation>) {
    let cursors: HashMap<_, _> = paused.iter().map(|synced| (synced.conversation_id, synced.sent_up_to)).collect();
    let start = SyncStart { cursors, limit: Some(300), ..SyncStart::default() };
    let id = IdGenerator.next();
    let _reply = connection.handle().request(id, outgoing::sync(id, &start)).await.unwrap();
    let before: usize = got.values().map(Vec::len).sum();
    let SyncComplete { conversations, .. } = next(connection, |body| take(body, got)).await;
    for synced in &conversations {
        let last = got.get(&synced.conversation_id).and_then(|entries| entries.last());
        let last = last.map_or(0, |entry| entry["seq"].as_u64().unwrap());
        assert!(last == synced.sent_up_to || !synced.has_more, "{last} came last: {synced:?}");
    }
    let paused = conversations.into_iter().filter(|synced| synced.has_more).collect();
    (got.values().map(Vec::len).sum::<usize>() - before, paused)
}

/// Keeps an entry; gives the end of a `sync`.
fn take(body: Body, got: &mut HashMap<ConversationId, Vec<Value>>) -> Option<SyncComplete> {
    match body {
        Body::Entry(entry) => {
            got.entry(entry.conversation_id).or_default().push(whole(&entry));
            None
        }
        Body::SyncComplete(complete) => Some(complete),
        _ => None,
    }
}

/// The list of conversations and every unread count are what the logs say.
async fn numbers_are_right(
    bob: &Person,
    logs: &HashMap<ConversationId, Vec<Entry>>,
    said: &HashMap<ConversationId, u64>,
) {
    let mut listed: Vec<Conversation> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let request = bob.api.request(reqwest::Method::GET, "conversations").query(&[("limit", PAGE)]);
        let request = request.query(&cursor.map(|cursor| [("cursor", cursor)]).unwrap_or_default());
        let page: Page<Conversation> = entrenous_client::api::json(request).await.unwrap();
        listed.extend(page.items);
        cursor = page.next;
        if !page.has_more {
            break;
        }
    }
    assert_eq!(listed.len(), CONVERSATIONS);
    let last_of = |conversation: &Conversation| logs[&conversation.id].last().unwrap();
    assert!(listed.is_sorted_by_key(|one| std::cmp::Reverse((last_of(one).sent_at, one.id))), "latest activity first");
    for one in &listed {
        let (log, last) = (&logs[&one.id], last_of(one));
        let (read_seq, unread) = unread_by_definition(log, bob.user_id, said.get(&one.id).copied().unwrap_or(0));
        let count = u64::try_from(unread.len()).unwrap();
        assert_eq!((one.last_seq, one.read_seq, one.unread_count), (last.seq, read_seq, count), "{}", one.id);
        let last_entry: Value = serde_json::from_str(one.last_entry.as_ref().unwrap().get()).unwrap();
        assert_eq!(last_entry["id"], whole(last)["id"]);
        assert_eq!(bob.api.unread(one.id).await.unwrap().seqs, unread, "{}", one.id);
    }
}
