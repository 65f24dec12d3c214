//! Methods `add_member` and `remove_member`.

use entrenous_protocol::{
    Code,
    entry::{
        MemberChange::{Added, Created, Left, Removed},
        Role,
    },
    rpc::store::{AppendResult, ReadMemberships, ReadMembershipsRequest, SyncingDevice},
};
use tokio::task::JoinSet;

use crate::fixture::{Fixture, device, into, member_content, payload, refused, sealed, seqs, stranger, to, user};

#[tokio::test(flavor = "multi_thread")]
async fn members_come_go_and_come_back() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.send(into(group, 1, sealed("before"))).await;
    let added = fixture.add(1, group, 3, None).await.unwrap();
    assert_eq!((added.user_id, added.role, added.joined_seq), (user(3), Role::Member, 3));
    assert_eq!(fixture.add(1, group, 3, Some(Role::Reader)).await.unwrap(), added, "twice: the same");
    fixture.send(into(group, 3, sealed("with"))).await;
    assert_eq!(seqs(&fixture.log(Some(3), group).await), [3, 4]);

    fixture.remove(1, group, 3).await.unwrap();
    fixture.remove(1, group, 3).await.unwrap();
    fixture.send(into(group, 1, sealed("without"))).await;
    assert!(!fixture.log(Some(3), group).await.is_readable);
    assert_eq!(refused(&fixture.append_one(into(group, 3, sealed("no"))).await), Code::NotFound);

    let back = fixture.add(1, group, 3, Some(Role::Reader)).await.unwrap();
    assert_eq!((back.joined_seq, back.role), (7, Role::Reader));
    assert_eq!(seqs(&fixture.log(Some(3), group).await), [7]);
    assert_eq!(refused(&fixture.append_one(into(group, 3, sealed("no"))).await), Code::Forbidden);
    fixture.remove(3, group, 3).await.unwrap();
    fixture.remove(3, group, 3).await.unwrap();

    let log = fixture.log(Some(1), group).await;
    let changes: Vec<_> = [0, 2, 4, 6, 7].map(|at| member_content(&payload(&log.entries[at].frame)).change).into();
    assert_eq!(changes, [Created, Added, Removed, Added, Left]);
    assert_eq!(log.last_seq, 8);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_say_who_may() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let code = |outcome: Result<_, entrenous_protocol::Failure>| outcome.map(|_| ()).unwrap_err().code;
    fixture.add(1, group, 3, Some(Role::Moderator)).await.unwrap();
    assert_eq!(code(fixture.add(2, group, 4, None).await), Code::Forbidden);
    assert_eq!(code(fixture.add(3, group, 4, Some(Role::Owner)).await), Code::Forbidden);
    assert_eq!(code(fixture.add(5, group, 4, None).await), Code::NotFound);
    assert_eq!(code(fixture.add(1, group, stranger(), None).await), Code::NotFound);
    fixture.add(3, group, 4, None).await.unwrap();

    let gone = async |caller, target| fixture.remove(caller, group, target).await.map_err(|failure| failure.code);
    assert_eq!(gone(2, 4).await, Err(Code::Forbidden));
    assert_eq!(gone(3, 1).await, Err(Code::Forbidden));
    assert_eq!(gone(1, 6).await, Err(Code::NotFound));
    assert_eq!(gone(6, 2).await, Err(Code::NotFound));
    assert_eq!(gone(1, 1).await, Err(Code::Conflict));
    assert_eq!(gone(3, 4).await, Ok(()));
    assert_eq!(gone(2, 2).await, Ok(()));
    assert_eq!(gone(1, 3).await, Ok(()));
    assert_eq!(gone(1, 1).await, Ok(()), "alone");

    let direct = to(2, 1, sealed("a"));
    fixture.send(direct.clone()).await;
    assert_eq!(code(fixture.add(1, direct.conversation_id, 3, None).await), Code::Forbidden);
    let left = fixture.remove(1, direct.conversation_id, 1).await;
    assert_eq!(left.unwrap_err().code, Code::Forbidden);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3, 4, 5, 6, 7]).await.id;
    fixture.add(1, group, 8, None).await.unwrap();
    let full = fixture.add(1, group, 9, None).await.unwrap_err();
    assert_eq!(full.code, Code::TooLarge);
    assert!(full.detail.contains("group_members"), "{full}");
    for _ in 0..5 {
        fixture.group(&[9]).await;
    }
    fixture.remove(1, group, 2).await.unwrap();
    let busy = fixture.add(1, group, 9, None).await.unwrap_err();
    assert!(busy.detail.contains("conversations_per_user"), "{busy}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_and_messages_share_one_order() {
    let (fixture, replica) = Fixture::start().await;
    let second = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    let sending = async {
        for _ in 0..100 {
            let message = into(group, 2, sealed("a"));
            while fixture.append_one(message.clone()).await == AppendResult::Busy {}
        }
    };
    let changing = async {
        for _ in 0..25 {
            let joined_seq = fixture.add(1, group, 3, None).await.unwrap().joined_seq;
            assert_eq!(fixture.log(Some(3), group).await.readable_from, joined_seq);
            fixture.remove(1, group, 3).await.unwrap();
        }
    };
    tokio::join!(sending, changing);
    let log = fixture.log(None, group).await;
    assert!(seqs(&log).into_iter().eq(1..=151), "{:?}", seqs(&log));
    let request = ReadMembershipsRequest {
        devices: vec![SyncingDevice { user_id: user(3), device_id: device(3), has_cursors: false }],
    };
    assert_eq!(fixture.call::<ReadMemberships>(&request).await.unwrap()[0].membership_version, 50);
    second.stop().await;
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_owners_always_stays() {
    let (fixture, replica) = Fixture::start().await;
    for _ in 0..3 {
        let group = fixture.group(&[1, 2]).await.id;
        fixture.add(1, group, 3, Some(Role::Owner)).await.unwrap();
        let mut leaving = JoinSet::new();
        for owner in [1, 3] {
            let bus = fixture.gateway.clone();
            leaving.spawn(async move {
                let request = entrenous_protocol::rpc::store::RemoveMemberRequest {
                    caller: user(owner),
                    conversation_id: group,
                    user_id: user(owner),
                    frame: None,
                };
                bus.call::<entrenous_protocol::rpc::store::RemoveMember>(&request, crate::fixture::ANSWER_MAX)
                    .await
                    .is_ok()
            });
        }
        let left = leaving.join_all().await;
        assert_eq!(left.iter().filter(|left| **left).count(), 1, "{left:?}");
        fixture.remove(2, group, 2).await.unwrap();
    }
    replica.stop().await;
}
