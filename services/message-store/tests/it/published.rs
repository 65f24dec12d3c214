//! What is told after a commit: live frames and notices, events, marks in the feed.

use entrenous_bus::{LiveEvent, LiveSubscription, subjects::EVENTS_ENTRY_APPENDED};
use entrenous_protocol::{
    entry::ConversationKind,
    event::{CloudEvent, EntryAppended},
    live::{FLAG_MEMBER, LiveKind, LiveMessage, UserNotice},
    rpc::store::{Attach, AttachRequest, Attaching},
};
use entrenous_test_support::wait_for;
use futures::StreamExt;

use crate::{
    fixture::{Fixture, connect, device, into, sealed, stored, to, user},
    function::count,
};

async fn next(live: &mut LiveSubscription, wanted: usize) -> Vec<LiveMessage> {
    let mut heard = Vec::new();
    while heard.len() < wanted {
        match live.next().await.unwrap() {
            LiveEvent::Messages(messages) => {
                heard.extend(messages.into_iter().filter(|message| message.preamble.kind != LiveKind::Beat));
            }
            LiveEvent::Interrupted => panic!("interrupted after {heard:?}"),
        }
    }
    assert_eq!(heard.len(), wanted, "{heard:?}");
    heard
}

fn notice(message: &LiveMessage) -> UserNotice {
    assert_eq!(message.preamble.kind, LiveKind::UserNotice);
    serde_json::from_slice(&message.body).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_come_in_order_after_the_notices() {
    let (fixture, replica) = Fixture::start().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let attach =
        AttachRequest { connections: vec![Attaching { user_id: user(1), device_id: device(1) }], not_after: None };
    let incarnation = fixture.call::<Attach>(&attach).await.unwrap().incarnation;
    assert!(matches!(notice(&next(&mut live, 1).await[0]), UserNotice::DeviceConnected { connection_no: 1, .. }));

    let messages = vec![to(2, 1, sealed("a")), to(2, 1, sealed("b"))];
    let id = messages[0].conversation_id;
    fixture.append(messages).await;
    let heard = next(&mut live, 4).await;
    for message in &heard[..2] {
        let joined =
            UserNotice::ConversationJoined { conversation_id: id, kind: ConversationKind::Direct, joined_seq: 1 };
        assert_eq!(notice(message), joined);
    }
    for (message, seq) in heard[2..].iter().zip(1..) {
        let preamble = &message.preamble;
        assert_eq!((preamble.kind, preamble.flags, preamble.seq), (LiveKind::Entry, 0, seq));
        assert_eq!((preamble.subject, preamble.origin, preamble.incarnation), (id.as_uuid(), 7, incarnation));
    }
    let stored = fixture.log(Some(2), id).await;
    assert_eq!(heard[2].body, stored.entries[0].frame.get().as_bytes(), "live and log are the same bytes");
    let frame: serde_json::Value = serde_json::from_slice(&heard[2].body).unwrap();
    assert_eq!(frame["meta"]["target_id"], user(2).to_string());

    let group = fixture.group(&[1, 2]).await.id;
    fixture.add(1, group, 3, None).await.unwrap();
    fixture.remove(1, group, 3).await.unwrap();
    let heard = next(&mut live, 6).await;
    let shape: Vec<_> =
        heard.iter().map(|message| (message.preamble.kind, message.preamble.flags, message.preamble.seq)).collect();
    let (noticed, member) = ((LiveKind::UserNotice, 0, 0), |seq| (LiveKind::Entry, FLAG_MEMBER, seq));
    assert_eq!(shape, [noticed, noticed, member(1), noticed, member(2), member(3)]);
    assert_eq!(heard[3].preamble.subject, user(3).as_uuid());
    let removed = fixture.log(Some(1), group).await;
    assert_eq!(heard[5].body, removed.entries[2].frame.get().as_bytes());
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_and_refusals_are_not_told() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 1, sealed("a"));
    fixture.send(message.clone()).await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let last = into(group, 2, sealed("b"));
    let results = fixture.append(vec![message.clone(), message, into(group, 3, sealed("c")), last]).await;
    assert!(stored(&results[0]).is_repeat);
    assert_eq!(next(&mut live, 1).await[0].preamble.seq, 3);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_published_and_rows_marked() {
    let (fixture, replica) = Fixture::start_open().await;
    // On the connection of the requests, so that the subscription stands before what it is to hear.
    let mut events = fixture.gateway.hear::<Vec<CloudEvent<EntryAppended>>>(EVENTS_ENTRY_APPENDED).await.unwrap();
    let group = fixture.group(&[1, 2]).await.id;
    fixture.append(vec![into(group, 1, sealed("secret")), into(group, 2, sealed("secret"))]).await;
    fixture.remove(1, group, 2).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let batch = tokio::time::timeout(crate::fixture::ANSWER_MAX, events.next()).await.unwrap().unwrap();
        assert!(!serde_json::to_string(&batch).unwrap().contains("ciphertext"));
        seen.extend(batch);
    }
    seen.sort_by_key(|event| event.data.seq);
    let numbers: Vec<_> = seen.iter().map(|event| (event.data.seq, event.data.countable_no)).collect();
    assert_eq!(numbers, [(1, 0), (2, 1), (3, 2), (4, 2)]);
    assert_eq!(seen[1].data.batch_id, seen[2].data.batch_id);
    let mut connection = connect(&fixture.postgres).await;
    wait_for("the marks", async || {
        let rows = count(&mut connection, "SELECT count(*) FROM messaging.feed").await;
        let done = count(&mut connection, "SELECT count(*) FROM messaging.feed WHERE live_done AND event_done").await;
        if (rows, done) == (3, 3) { Ok(()) } else { Err(format!("{done} of {rows}")) }
    })
    .await
    .unwrap();
    assert_eq!(
        count(&mut connection, "SELECT count(*) FROM messaging.feed_default").await,
        0,
        "partitions are made ahead"
    );
    replica.stop().await;
}
