//! Clear text on its way into a log; slow mode, mentions, threads.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code, NewMessage,
    rpc::store::{
        AddDevice, AddDeviceRequest, AppendMessage, AppendResult, ReadMemberships, ReadMembershipsRequest,
        SyncingDevice,
    },
};

use crate::{
    fixture::{Fixture, clear, connect, device, into, payload, refused, sealed, stored, user},
    function::count,
};

fn fields(result: &AppendResult) -> Vec<&str> {
    match result {
        AppendResult::Refused(failure) => failure.errors.iter().map(|error| error.field.as_str()).collect(),
        other => panic!("{other:?}"),
    }
}

/// The text at a seq, as the log has it.
async fn text_at(fixture: &Fixture, conversation: ConversationId, seq: u64) -> String {
    let log = fixture.log(Some(1), conversation).await;
    let entry = log.entries.iter().find(|entry| entry.seq == seq).unwrap();
    let content: serde_json::Value = serde_json::from_str(payload(&entry.frame).content.unwrap().get()).unwrap();
    content["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_what_the_checks_left_and_the_id_stands_for_what_was_sent() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    let sent = into(group, 1, clear("<b>hi</b> e\u{301}"));
    let result = stored(&fixture.append_one(sent.clone()).await);
    assert_eq!((result.seq, result.may_differ), (2, true));
    assert_eq!(text_at(&fixture, group, 2).await, "hi \u{e9}");

    let repeat = stored(&fixture.append_one(sent.clone()).await);
    assert_eq!((repeat.seq, repeat.is_repeat, repeat.may_differ), (2, true, true));
    let other = NewMessage { id: sent.message.id, ..clear("hi \u{e9}") };
    assert_eq!(refused(&fixture.append_one(into(group, 1, other)).await), Code::IdConflict);
    let plain = stored(&fixture.append_one(into(group, 2, clear("1 < 2"))).await);
    assert_eq!((plain.seq, plain.may_differ), (3, false));

    let results = fixture.append(vec![into(group, 1, clear("<br>")), into(group, 1, clear("a\u{7}"))]).await;
    assert!(results.iter().all(|result| fields(result) == ["content.text"]), "{results:?}");
    // Who is no member is told nothing of what would be said of the text.
    assert_eq!(refused(&fixture.append_one(into(group, 3, clear("<br>"))).await), Code::NotFound);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertext_is_looked_at_by_nobody() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let settings = [("CLEAR_TEXT_FLOOD_MAX", "1"), ("CLEAR_TEXT_REPEATS_MAX", "1"), ("CLEAR_TEXT_WORDS", "bad")];
    let replica = fixture.replica_with(&settings).await;
    let group = fixture.group(&[1, 2]).await.id;
    let results = fixture.append((0..5).map(|_| into(group, 1, sealed("<b>bad</b>"))).collect()).await;
    assert!(results.iter().all(|result| !stored(result).may_differ));
    // Clear text does not belong here: that is what it is told, and not what is wrong with it.
    for text in ["bad", "<br>", "fine"] {
        assert_eq!(fields(&fixture.append_one(into(group, 1, clear(text))).await), ["content"]);
    }
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_much_is_refused() {
    let fixture = Fixture::without_identity().await;
    fixture.serve_identity().await;
    let settings = [
        ("CLEAR_TEXT_FLOOD_MAX", "4"),
        ("CLEAR_TEXT_FLOOD_SECONDS", "3600"),
        ("CLEAR_TEXT_REPEATS_MAX", "2"),
        ("CLEAR_TEXT_REPEATS_SECONDS", "3600"),
    ];
    let replica = fixture.replica_with(&settings).await;
    let group = fixture.clear_group(&[1, 2]).await;
    let first = into(group, 2, clear("<i>buy</i>"));
    // Counted in the batch as in the log, and by what would be stored.
    let results = fixture.append(vec![first.clone(), into(group, 2, clear("buy")), into(group, 2, clear("buy"))]).await;
    assert_eq!((stored(&results[0]).seq, stored(&results[1]).seq), (2, 3));
    assert_eq!(fields(&results[2]), ["content.text"]);
    assert_eq!(fields(&fixture.append_one(into(group, 2, clear("buy"))).await), ["content.text"]);
    fixture.append(vec![into(group, 2, clear("a")), into(group, 2, clear("b"))]).await;
    let AppendResult::Refused(flood) = fixture.append_one(into(group, 2, clear("c"))).await else { panic!() };
    assert_eq!(flood.code, Code::RateLimited);
    assert!((3_590_000..=3_600_000).contains(&flood.retry_after_ms.unwrap()), "{flood:?}");
    // Repeats are told what they were told; others are not concerned.
    assert_eq!(stored(&fixture.append_one(first).await).seq, 2);
    assert_eq!(stored(&fixture.append_one(into(group, 1, clear("buy"))).await).seq, 6);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_mode_slows_members_down() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2, 3]).await.id;
    let mut connection = connect(&fixture.postgres).await;
    let slow = format!("UPDATE messaging.conversations SET slow_mode_seconds = 60 WHERE id = '{group}'");
    connection.batch_execute(&slow).await.unwrap();
    let control = || {
        let content = sealed("c");
        NewMessage { message_type: entrenous_protocol::entry::MessageType::Control, ..content }
    };
    let messages: Vec<AppendMessage> = vec![
        into(group, 2, control()),
        into(group, 2, sealed("a")),
        into(group, 2, sealed("b")),
        into(group, 3, sealed("c")),
        into(group, 1, sealed("d")),
        into(group, 1, sealed("e")),
        into(group, 2, control()),
    ];
    let results = fixture.append(messages.clone()).await;
    let AppendResult::Refused(slowed) = &results[2] else { panic!("{results:?}") };
    assert_eq!((slowed.code, slowed.retry_after_ms), (Code::RateLimited, Some(60_000)));
    let seqs: Vec<_> = [0, 1, 3, 4, 5, 6].iter().map(|place| stored(&results[*place]).seq).collect();
    assert_eq!(seqs, [2, 3, 4, 5, 6, 7]);
    // By the log too; a repeat is none.
    let results = fixture.append(vec![messages[1].clone(), into(group, 2, sealed("f"))]).await;
    assert_eq!(stored(&results[0]).seq, 3);
    let AppendResult::Refused(slowed) = &results[1] else { panic!("{results:?}") };
    assert!((1..=60_000).contains(&slowed.retry_after_ms.unwrap()), "{slowed:?}");
    let earlier = "UPDATE messaging.log SET sent_at = sent_at - interval '61 seconds'";
    connection.batch_execute(earlier).await.unwrap();
    assert_eq!(stored(&fixture.append_one(into(group, 2, sealed("g"))).await).seq, 8);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_are_mentioned() {
    let (fixture, replica) = Fixture::start().await;
    let known = AddDeviceRequest { user_id: user(1), device_id: device(1) };
    fixture.call::<AddDevice>(&known).await.unwrap();
    let group = fixture.group(&[1, 2]).await.id;
    let mentioning = |users: &[u128]| NewMessage { mentions: users.iter().copied().map(user).collect(), ..sealed("a") };
    fixture.remove(1, group, 2).await.unwrap();
    let results = fixture
        .append(vec![
            into(group, 1, mentioning(&[1])),
            into(group, 1, mentioning(&[1, 2])),
            into(group, 1, mentioning(&[])),
        ])
        .await;
    assert_eq!((stored(&results[0]).seq, stored(&results[2]).seq), (3, 4));
    assert_eq!(fields(&results[1]), ["mentions"]);
    let device = SyncingDevice { user_id: user(1), device_id: device(1), has_cursors: true };
    let request = ReadMembershipsRequest { devices: vec![device] };
    let memberships = fixture.call::<ReadMemberships>(&request).await.unwrap();
    assert_eq!(memberships[0].conversations[0].last_mention_seq, 3);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_are_counted_once_each() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let root = into(group, 1, sealed("root"));
    fixture.send(root.clone()).await;
    let reply = || into(group, 2, NewMessage { thread_id: Some(root.message.id), ..sealed("reply") });
    let replies = vec![reply(), reply(), into(group, 1, sealed("no reply"))];
    fixture.append(replies.clone()).await;
    // A repeat does not count again.
    fixture.append(vec![replies[0].clone(), reply()]).await;
    let mut connection = connect(&fixture.postgres).await;
    let counted = "SELECT reply_count AS count FROM messaging.threads";
    assert_eq!(count(&mut connection, counted).await, 3);
    let erased = replies[0].message.id;
    for _ in 0..2 {
        let erase = format!("SELECT messaging.erase('{group}', ARRAY['{erased}']::uuid[])");
        connection.batch_execute(&erase).await.unwrap();
        assert_eq!(count(&mut connection, counted).await, 2);
    }
    replica.stop().await;
}
