//! Two stores and two gateways, processes each: what is told of changes and posts meets in any order.

use entrenous_client::Connection;
use entrenous_model::ConversationId;
use entrenous_system_tests::{Person, Shape, System};
use futures::future::join_all;

use super::{Told, channel, fence, post, told, told_before};
use crate::support::{crowd, live, next};

/// Posts while the members go.
const POSTS: u64 = 60;

/// Who is removed has everything up to the head of that moment and nothing later, whatever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_has_its_place_among_the_posts() {
    let system = System::start(&Shape::split()).await.unwrap();
    let people = crowd(system.gateway(), 13).await;
    let (owner, members) = people.split_first().unwrap();
    let room = channel(owner, &members.iter().collect::<Vec<_>>()).await;
    let mut connections = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let gateway = &system.gateways()[number % 2];
        let member = Person { api: member.api.with_base(gateway.clone()), ..member.clone() };
        connections.push(live(&member).await);
    }
    let posting = async {
        for _ in 0..POSTS {
            post(owner, room).await;
        }
    };
    let removing = async {
        for member in members {
            owner.api.remove_member(room, member.user_id).await.unwrap();
        }
    };
    let hearing = join_all(connections.iter_mut().map(|connection| until_left(connection, room)));
    let ((), (), _) = tokio::join!(posting, removing, hearing);
    for (member, connection) in members.iter().zip(&mut connections) {
        let mark = fence(owner, member).await;
        assert_eq!(told_before(connection, room, mark).await, [], "nothing after the removal");
    }
}

/// Entries come without a hole up to the one with which the membership ends.
async fn until_left(connection: &mut Connection, room: ConversationId) {
    let mut last = 1;
    loop {
        match told(connection, room).await {
            Told::Entry(seq) => {
                assert_eq!(seq, last + 1);
                last = seq;
            }
            Told::Left(seq) => return assert_eq!(seq, last, "the last entry is the head of the removal"),
            other => panic!("{other:?}"),
        }
    }
}

/// Who goes and comes back at once is a member in the end, also where the news of the return comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_at_once_is_there_in_the_end() {
    let system = System::start(&Shape::split()).await.unwrap();
    let people = crowd(system.gateway(), 2).await;
    let [owner, member] = people.as_slice() else { unreachable!("two people") };
    let room = channel(owner, &[member]).await;
    let mut connection = live(member).await;
    let mut joined_seq = 1;
    for _ in 0..30 {
        owner.api.remove_member(room, member.user_id).await.unwrap();
        joined_seq = owner.api.add_member(room, member.user_id, None).await.unwrap().joined_seq;
        if joined_seq % 2 == 0 {
            post(owner, room).await;
        }
    }
    let last = post(owner, room).await;
    assert!(last >= joined_seq);
    next(&mut connection, |body| (Told::of(room, &body) == Some(Told::Entry(last))).then_some(())).await;
}
