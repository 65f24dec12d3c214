//! Channels: who posts, who joins and leaves without an entry, and what is told of it.

use std::collections::HashMap;

use diesel_async::SimpleAsyncConnection;
use entrenous_bus::{LiveEvent, LiveSubscription};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code,
    entry::{MemberChange, Role},
    live::{ChannelMembership, LiveKind, LiveMessage},
    rest::{CreateConversation, Posting},
    rpc::store::{
        AppendResult, ConversationRequest, GetConversation, LEAVES_MAX, Leave, ListMembers, ListMembersRequest,
        Memberships, Range, RangeRead, ReadMemberships, ReadMembershipsRequest, ReadRanges, ReadRangesRequest,
        SyncingDevice,
    },
};
use entrenous_test_support::wait_for;

use crate::{
    fixture::{
        Fixture, channel_of, connect, device, group_of, into, member_content, payload, refused, sealed, seqs, stranger,
        user,
    },
    function::count,
};

pub(crate) async fn channel(fixture: &Fixture, users: &[u128]) -> ConversationId {
    fixture.create(user(users[0]), channel_of(&users[1..])).await.unwrap().id
}

pub(crate) async fn memberships(fixture: &Fixture, number: u128) -> Memberships {
    let device = SyncingDevice { user_id: user(number), device_id: device(number), has_cursors: false };
    let request = ReadMembershipsRequest { devices: vec![device] };
    fixture.call::<ReadMemberships>(&request).await.unwrap().pop().unwrap()
}

/// What a gateway reads to repair a hole.
async fn repair(fixture: &Fixture, conversation_id: ConversationId, leaves_after: u64) -> RangeRead {
    let ranges = vec![Range { conversation_id, after: 0, limit: 1_000, leaves_after }];
    let request = ReadRangesRequest { reader: None, ranges, bytes_max: 8 << 20 };
    fixture.call::<ReadRanges>(&request).await.unwrap().pop().unwrap()
}

/// Live messages about a channel, as many as are wanted.
pub(crate) async fn heard(live: &mut LiveSubscription, channel: ConversationId, wanted: usize) -> Vec<LiveMessage> {
    let mut heard = Vec::new();
    while heard.len() < wanted {
        match live.next().await.unwrap() {
            LiveEvent::Messages(messages) => {
                heard.extend(messages.into_iter().filter(|message| message.preamble.subject == channel.as_uuid()));
            }
            LiveEvent::Interrupted => panic!("interrupted after {heard:?}"),
        }
    }
    heard
}

pub(crate) fn membership(message: &LiveMessage) -> ChannelMembership {
    assert_eq!(message.preamble.kind, LiveKind::Membership);
    serde_json::from_slice(&message.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_begins_with_one_entry_that_lists_nobody() {
    let (fixture, replica) = Fixture::start().await;
    let made = fixture.create(user(1), channel_of(&[2, 3])).await.unwrap();
    assert_eq!((made.last_seq, made.member_count, made.role, made.max_members), (1, 3, Role::Owner, 400));
    assert_eq!(made.posting, Posting::Moderators);
    let log = fixture.log(Some(3), made.id).await;
    let created = member_content(&payload(&log.entries[0].frame));
    assert_eq!((created.change, created.user_id, created.role), (MemberChange::Created, user(1), Some(Role::Owner)));
    assert_eq!((created.members, seqs(&log)), (Vec::new(), vec![1]));
    let many: Vec<u128> = (2..=401).collect();
    let refusal = fixture.create(user(1), channel_of(&many)).await.unwrap_err();
    assert!(refusal.code == Code::TooLarge && refusal.detail.contains("channel_members"), "{refusal}");
    assert_eq!(fixture.create(user(1), channel_of(&many[1..])).await.unwrap().member_count, 400);
    let group = CreateConversation { posting: Some(Posting::Moderators), ..group_of(&[2]) };
    assert_eq!(fixture.create(user(1), group).await.unwrap_err().code, Code::Invalid);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moderators_and_the_owner_post_and_others_where_everyone_may() {
    let (fixture, replica) = Fixture::start().await;
    let quiet = channel(&fixture, &[1, 2]).await;
    let open = CreateConversation { posting: Some(Posting::Everyone), ..channel_of(&[2]) };
    let open = fixture.create(user(1), open).await.unwrap().id;
    for room in [quiet, open] {
        fixture.add(1, room, 3, Some(Role::Moderator)).await.unwrap();
        fixture.add(1, room, 4, Some(Role::Reader)).await.unwrap();
        for poster in [1, 3] {
            fixture.send(into(room, poster, sealed("a"))).await;
        }
        assert_eq!(refused(&fixture.append_one(into(room, 4, sealed("a"))).await), Code::Forbidden);
        assert_eq!(refused(&fixture.append_one(into(room, 5, sealed("a"))).await), Code::NotFound);
    }
    assert_eq!(refused(&fixture.append_one(into(quiet, 2, sealed("a"))).await), Code::Forbidden);
    assert_eq!(fixture.send(into(open, 2, sealed("a"))).await.seq, 4);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_and_leaves_take_no_seq_and_may_be_done_twice() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2]).await;
    fixture.send(into(room, 1, sealed("before"))).await;
    let joined = fixture.add(1, room, 3, None).await.unwrap();
    assert_eq!((joined.user_id, joined.role, joined.joined_seq), (user(3), Role::Member, 3));
    assert_eq!(fixture.add(1, room, 3, Some(Role::Reader)).await.unwrap(), joined, "twice: the same");
    let log = fixture.log(Some(3), room).await;
    assert_eq!((log.is_readable, seqs(&log), log.readable_from, log.last_seq), (true, Vec::new(), 3, 2));
    let seen = ConversationRequest { caller: user(3), conversation_id: room };
    let seen = fixture.call::<GetConversation>(&seen).await.unwrap();
    assert!(seen.last_entry.is_none(), "what was there before is not shown: {:?}", seen.last_entry);
    assert_eq!((seen.member_count, seen.last_seq), (3, 2));
    fixture.send(into(room, 1, sealed("with"))).await;
    assert_eq!(seqs(&fixture.log(Some(3), room).await), [3]);

    for _ in 0..2 {
        fixture.remove(1, room, 3).await.unwrap();
    }
    fixture.send(into(room, 1, sealed("without"))).await;
    let after = memberships(&fixture, 3).await;
    assert_eq!((after.left, after.membership_version), (vec![(room, 3)], 2), "the head, and one version for each");
    assert!(!fixture.log(Some(3), room).await.is_readable);
    for _ in 0..2 {
        fixture.remove(2, room, 2).await.unwrap();
    }
    let back = fixture.add(1, room, 3, None).await.unwrap();
    assert_eq!(back.joined_seq, 5);
    let now = memberships(&fixture, 3).await;
    let standing = now.conversations[0];
    assert_eq!((standing.readable_from, standing.device_start_seq, standing.last_seq), (5, 4, 4));
    assert_eq!((standing.leaves, now.membership_version), (2, 3));
    let read = repair(&fixture, room, 0).await;
    let left = |leave_no, number, seq| Leave { leave_no, user_id: user(number), seq };
    assert_eq!((seqs(&read), read.leaves), ((1..=4).collect(), 2));
    assert_eq!(read.left, [left(1, 3, 3), left(2, 2, 4)]);
    assert_eq!(repair(&fixture, room, 1).await.left, [left(2, 2, 4)]);
    assert!(fixture.log(Some(1), room).await.left.is_empty(), "no reader is told who left");
    let counted = ConversationRequest { caller: user(1), conversation_id: room };
    assert_eq!(fixture.call::<GetConversation>(&counted).await.unwrap().member_count, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_limits_hold_as_in_groups() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2]).await;
    fixture.add(1, room, 3, Some(Role::Moderator)).await.unwrap();
    let add = async |caller, added, role| fixture.add(caller, room, added, role).await.map_err(|refusal| refusal.code);
    assert_eq!(add(2, 4, None).await, Err(Code::Forbidden));
    assert_eq!(add(3, 4, Some(Role::Owner)).await, Err(Code::Forbidden));
    assert_eq!(add(5, 4, None).await, Err(Code::NotFound));
    assert_eq!(add(1, stranger(), None).await, Err(Code::NotFound));
    let remove = async |caller, removed| fixture.remove(caller, room, removed).await.map_err(|refusal| refusal.code);
    assert_eq!(remove(2, 3).await, Err(Code::Forbidden));
    assert_eq!(remove(3, 1).await, Err(Code::Forbidden));
    assert_eq!(remove(1, 6).await, Err(Code::NotFound));
    assert_eq!(remove(1, 1).await, Err(Code::Conflict), "the last owner stays");
    let members = async |caller| fixture.members(caller, room).await.map(|page| page.items.len());
    assert_eq!((members(1).await.unwrap(), members(3).await.unwrap()), (3, 3));
    assert_eq!(members(2).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(members(4).await.unwrap_err().code, Code::NotFound);
    fixture.add(1, room, 4, Some(Role::Owner)).await.unwrap();
    assert_eq!(remove(1, 1).await, Ok(()), "another owner is there");
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let request = ListMembersRequest { caller: user(4), conversation_id: room, after, limit: 2 };
        let page = fixture.call::<ListMembers>(&request).await.unwrap();
        assert_eq!(page.next.is_some(), page.has_more);
        found.extend(page.items.iter().map(|member| member.user_id));
        after = page.next.map(|next| next.parse().unwrap());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [2, 3, 4].map(user));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_with_their_place_to_those_who_look_after_the_members() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1, 2]).await;
    fixture.add(1, room, 3, Some(Role::Moderator)).await.unwrap();
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.add(3, room, 4, None).await.unwrap();
    fixture.send(into(room, 1, sealed("a"))).await;
    fixture.remove(3, room, 2).await.unwrap();
    fixture.remove(3, room, 3).await.unwrap();
    fixture.send(into(room, 1, sealed("b"))).await;
    let heard = heard(&mut live, room, 5).await;
    let places: Vec<_> = heard.iter().map(|one| (one.preamble.kind, one.preamble.seq, one.preamble.leaves)).collect();
    let (entry, changed) = (LiveKind::Entry, LiveKind::Membership);
    assert_eq!(places, [(changed, 1, 0), (entry, 2, 0), (changed, 2, 1), (changed, 2, 2), (entry, 3, 2)]);
    let [added, removed, left] = [0, 2, 3].map(|at| membership(&heard[at]));
    assert_eq!((added.content.change, added.content.user_id), (MemberChange::Added, user(4)));
    assert_eq!((added.content.role, added.content.by), (Some(Role::Member), user(3)));
    assert_eq!(added.moderators, [1, 3].map(user));
    assert_eq!((removed.content.change, removed.content.by), (MemberChange::Removed, user(3)));
    assert_eq!((left.content.change, left.moderators), (MemberChange::Left, vec![user(1)]));
    replica.stop().await;
}

/// Whoever hands an entry on learns from it how many must have left before: also where the append waited for the lock.
#[tokio::test(flavor = "multi_thread")]
async fn each_entry_tells_how_many_left_before_it() {
    const CHANGES: u128 = 40;
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    let everyone: Vec<u128> = (1..=CHANGES + 1).collect();
    let room = channel(&fixture, &everyone).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let posting = async {
        for _ in 0..CHANGES * 2 {
            let message = into(room, 1, sealed("a"));
            while fixture.append_one(message.clone()).await == AppendResult::Busy {}
        }
    };
    let leaving = async {
        for number in 2..=CHANGES + 1 {
            fixture.remove(number, room, number).await.unwrap();
        }
    };
    tokio::join!(posting, leaving);
    let read = repair(&fixture, room, 0).await;
    assert!(seqs(&read).into_iter().eq(1..=81) && read.leaves == 40, "{:?}", seqs(&read));
    let before = |seq: u64| read.left.iter().filter(|leave| leave.seq < seq).count();
    let heard: HashMap<u64, u32> = heard(&mut live, room, 120)
        .await
        .into_iter()
        .filter(|message| message.preamble.kind == LiveKind::Entry)
        .map(|message| (message.preamble.seq, message.preamble.leaves))
        .collect();
    assert_eq!(heard.len(), 80);
    for (seq, leaves) in heard {
        assert_eq!(usize::try_from(leaves).unwrap(), before(seq), "entry {seq}");
    }
    second.stop().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_leaves_are_read_in_parts() {
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1]).await;
    let many = format!(
        "INSERT INTO messaging.channel_leaves SELECT '{room}', n, gen_random_uuid(), 1, now() \
         FROM generate_series(1, {LEAVES_MAX} + 5) n; \
         UPDATE messaging.heads SET leaves = {LEAVES_MAX} + 5 WHERE conversation_id = '{room}'"
    );
    connect(&fixture.postgres).await.batch_execute(&many).await.unwrap();
    let first = repair(&fixture, room, 0).await;
    let max = u64::from(LEAVES_MAX);
    assert_eq!((first.leaves, first.left.last().unwrap().leave_no), (max + 5, max));
    assert_eq!(repair(&fixture, room, max).await.left.len(), 5);
    replica.stop().await;
}

/// A change of one member costs as much among many as among few.
#[tokio::test(flavor = "multi_thread")]
async fn no_change_reads_all_members() {
    const MEMBERS: i64 = 5_000;
    let (fixture, replica) = Fixture::start().await;
    let room = channel(&fixture, &[1]).await;
    let many = format!(
        "INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at) \
         SELECT '{room}', gen_random_uuid(), 'member', 1, now() FROM generate_series(1, {MEMBERS}); \
         UPDATE messaging.conversations SET member_count = {MEMBERS} + 1, max_members = 100000 WHERE id = '{room}'; \
         ANALYZE messaging.members"
    );
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute(&many).await.unwrap();
    replica.stop().await;
    let before = members_read(&mut connection).await;
    let replica = fixture.replica().await;
    for _ in 0..8 {
        for number in 2..=6 {
            fixture.add(1, room, number, Some(Role::Moderator)).await.unwrap();
            fixture.send(into(room, number, sealed("a"))).await;
            fixture.remove(1, room, number).await.unwrap();
        }
    }
    replica.stop().await;
    let read = members_read(&mut connection).await - before;
    assert!(read < MEMBERS, "40 changes and messages of 5,001 members read {read} rows");
}

/// Rows of the members that were read, once every other connection has reported what it did.
pub(crate) async fn members_read(connection: &mut diesel_async::AsyncPgConnection) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity \
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    wait_for("the other connections to end", async || match count(connection, others).await {
        0 => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
    connection.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let read = "SELECT seq_tup_read + idx_tup_fetch AS count FROM pg_stat_user_tables WHERE relname = 'members'";
    count(connection, read).await
}
