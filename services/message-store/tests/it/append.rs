//! Method `append` over the bus.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{ConversationId, Timestamp};
use entrenous_protocol::{
    Code,
    rpc::store::{Append, AppendMessage, AppendRequest, AppendResult},
};

use crate::fixture::{
    Fixture, connect, device, ids, into, new_message, refused, sealed, seqs, stored, stranger, to, user,
};

#[tokio::test(flavor = "multi_thread")]
async fn direct_conversations_are_made_at_need() {
    let (fixture, replica) = Fixture::start().await;
    let messages = vec![to(2, 1, sealed("a")), to(1, 2, sealed("b")), to(3, 1, sealed("c")), to(2, 1, sealed("d"))];
    let results = fixture.append(messages.clone()).await;
    assert_eq!(results.iter().map(|result| stored(result).seq).collect::<Vec<_>>(), [1, 2, 1, 3]);
    let log = fixture.log(Some(2), ConversationId::direct(user(1), user(2))).await;
    assert_eq!(ids(&log), [messages[0].message.id, messages[1].message.id, messages[3].message.id]);

    let again = fixture.append(messages).await;
    assert!(again.iter().all(|result| stored(result).is_repeat));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_direct_message_is_refused_alone() {
    let (fixture, replica) = Fixture::start().await;
    let wrong_id = AppendMessage { conversation_id: ConversationId::direct(user(1), user(3)), ..to(2, 1, sealed("a")) };
    let clear = to(4, 1, new_message(r#"{"content":{"text":"a"}}"#));
    let results = fixture
        .append(vec![to(1, 1, sealed("a")), wrong_id, to(stranger(), 1, sealed("a")), clear, to(2, 1, sealed("b"))])
        .await;
    let codes: Vec<_> = results[..4].iter().map(refused).collect();
    assert_eq!(codes, [Code::Invalid, Code::Invalid, Code::NotFound, Code::Invalid]);
    assert_eq!(stored(&results[4]).seq, 1);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_comes_too_late_is_not_stored() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 1, sealed("a"));
    let append = async |not_after| {
        let request = AppendRequest { messages: vec![message.clone()], not_after };
        fixture.call::<Append>(&request).await.unwrap()
    };
    // By the clock that the store told, whatever clock the caller has.
    let earlier = AppendRequest { messages: vec![into(group, 2, sealed("b"))], not_after: None };
    let told = fixture.call::<Append>(&earlier).await.unwrap().at.unwrap();
    let late = append(Some(told)).await;
    assert_eq!((refused(&late.results[0]), late.at), (Code::Unavailable, None));
    let in_time = Timestamp::from(told.as_datetime() + chrono::TimeDelta::minutes(1));
    let answer = append(Some(in_time)).await;
    assert_eq!((stored(&answer.results[0]).seq, stored(&answer.results[0]).is_repeat), (3, false));
    assert!(answer.at.unwrap() >= told);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_within_a_batch_are_one_message() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let first = into(group, 1, sealed("a"));
    let mut other = into(group, 1, sealed("b"));
    other.message.id = first.message.id;
    let foreign = AppendMessage { sender_id: user(9), ..first.clone() };
    let next = into(group, 1, sealed("c"));
    let results = fixture.append(vec![first.clone(), first.clone(), other, foreign, next.clone(), first.clone()]).await;
    assert_eq!((stored(&results[0]).seq, stored(&results[0]).is_repeat), (2, false));
    assert_eq!((stored(&results[1]).seq, stored(&results[1]).is_repeat), (2, true));
    assert_eq!((refused(&results[2]), refused(&results[3])), (Code::IdConflict, Code::NotFound));
    assert_eq!((stored(&results[4]).seq, stored(&results[5]).seq), (3, 2));
    assert_eq!(ids(&fixture.log(Some(1), group).await)[1..], [first.message.id, next.message.id]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_poisoned_message_does_not_stop_the_batch() {
    let (fixture, replica) = Fixture::start().await;
    let (good, bad) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id);
    let poison = format!("UPDATE messaging.conversations SET retention_seconds = 1000000000000000 WHERE id = '{bad}'");
    connect(&fixture.postgres).await.batch_execute(&poison).await.unwrap();
    let messages: Vec<_> = (0..60).map(|n| into(if n == 41 { bad } else { good }, 1, sealed("a"))).collect();
    let results = fixture.append(messages.clone()).await;
    assert_eq!(refused(&results[41]), Code::Internal);
    let log = fixture.log(Some(1), good).await;
    let expected: Vec<_> =
        messages.iter().filter(|message| message.conversation_id == good).map(|m| m.message.id).collect();
    assert_eq!(ids(&log)[1..], expected);
    assert_eq!(seqs(&fixture.log(Some(1), bad).await), [1]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_conversation_is_busy_and_its_neighbours_are_not() {
    let (fixture, replica) = Fixture::start().await;
    let (locked, free) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id);
    let mut holder = connect(&fixture.postgres).await;
    let lock = format!("BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{locked}' FOR UPDATE");
    holder.batch_execute(&lock).await.unwrap();
    let message = into(locked, 1, sealed("a"));
    let results = fixture.append(vec![message.clone(), into(free, 1, sealed("b")), message.clone()]).await;
    assert_eq!((&results[0], &results[2]), (&AppendResult::Busy, &AppendResult::Busy));
    assert_eq!(stored(&results[1]).seq, 2);
    assert_eq!(fixture.append_one(message.clone()).await, AppendResult::Busy);
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(stored(&fixture.append_one(message).await).seq, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_a_busy_message_does_not_overtake_it() {
    let (fixture, replica) = Fixture::start().await;
    let (locked, free) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1, 2]).await.id);
    let first = into(locked, 1, sealed("a"));
    let mut other = into(locked, 1, sealed("b"));
    // Takes a call of its own, which comes after the lock has gone.
    other.message.id = first.message.id;
    let batch = vec![first, into(free, 1, sealed("c")), other, into(locked, 1, sealed("d"))];
    let mut holder = connect(&fixture.postgres).await;
    let lock = format!("BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{locked}' FOR UPDATE");
    holder.batch_execute(&lock).await.unwrap();
    let release = async {
        while seqs(&fixture.log(Some(1), free).await).len() < 2 {}
        holder.batch_execute("ROLLBACK").await.unwrap();
    };
    let (results, ()) = tokio::join!(fixture.append(batch), release);
    assert_eq!(stored(&results[1]).seq, 2);
    assert!([0, 2, 3].iter().all(|at| results[*at] == AppendResult::Busy), "{results:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_message_comes_back() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let (one, two) = (user(2), user(1));
    let signature = "A".repeat(86) + "==";
    let json = format!(
        r#"{{"content":{{"scheme":"mls","ciphertext":"aGk=","epoch":3}},"message_type":"media","reply_to":"{one}",
        "thread_id":"{two}","attachments":["{two}","{one}"],"mentions":["{one}","{two}"],"metadata":{{"b":1,"a":[]}},
        "signature":"{signature}"}}"#
    );
    let message = into(group, 1, new_message(&json));
    let stored = fixture.send(message.clone()).await;
    let log = fixture.log(Some(2), group).await;
    let entry = crate::fixture::payload(&log.entries[1].frame);
    let new = &message.message;
    assert_eq!((entry.id, entry.seq, entry.sent_at), (new.id, stored.seq, stored.sent_at));
    assert_eq!((entry.sender_id, entry.sender_device_id), (user(1), Some(device(1))));
    assert_eq!((entry.reply_to, entry.thread_id), (new.reply_to, new.thread_id));
    assert_eq!((&entry.attachments, &entry.mentions), (&new.attachments, &new.mentions));
    assert_eq!((entry.metadata.get(), entry.content.unwrap().get()), (new.metadata.get(), new.content.get()));
    assert_eq!(entry.signature, new.signature);
    replica.stop().await;
}
