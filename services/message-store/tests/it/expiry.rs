//! What disappears.

use diesel_async::SimpleAsyncConnection;
use entrenous_protocol::rpc::store::{ReadCursor, ReadUnread, ReadUnreadRequest};
use entrenous_test_support::wait_for;

use crate::{
    fixture::{Fixture, clear, connect, into, payload, user},
    function::count,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_erased_for_good() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.clear_group(&[1, 2]).await;
    let mut connection = connect(&fixture.postgres).await;
    let retain = format!("UPDATE messaging.conversations SET retention_seconds = 3600 WHERE id = '{group}'");
    connection.batch_execute(&retain).await.unwrap();
    let messages: Vec<_> = ["a", "b", "c"].iter().map(|text| into(group, 1, clear(text))).collect();
    let results = fixture.append(messages.clone()).await;
    assert!(results.iter().all(|result| crate::fixture::stored(result).expires_at.is_some()));
    let unread = async || {
        let cursors = vec![ReadCursor { conversation_id: group, read_seq: 0 }];
        let request = ReadUnreadRequest { user_id: user(2), cursors };
        fixture.call::<ReadUnread>(&request).await.unwrap()[0].unread_count
    };
    assert_eq!(unread().await, 3);
    // Its time comes for two of them.
    connection.batch_execute("UPDATE messaging.log SET expires_at = now() WHERE seq IN (2, 4)").await.unwrap();
    let mut looking = connect(&fixture.postgres).await;
    let erased = "SELECT count(*) FROM messaging.log WHERE deleted AND content IS NULL AND seq IN (2, 4)";
    wait_for("the job to erase it", async || match count(&mut looking, erased).await {
        2 => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
    assert_eq!(unread().await, 1);
    assert_eq!(count(&mut connection, "SELECT count(*) FROM messaging.search").await, 1);
    let log = fixture.log(Some(2), group).await;
    let entries: Vec<_> = log.entries.iter().map(|entry| payload(&entry.frame)).collect();
    assert_eq!(entries.iter().map(|entry| entry.deleted).collect::<Vec<_>>(), [false, true, false, true]);
    // A repeat of what is gone gets the first answer.
    assert_eq!(crate::fixture::stored(&fixture.append_one(messages[0].clone()).await).seq, 2);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_a_conversation_is_not_waited_for() {
    let (fixture, replica) = Fixture::start().await;
    let (one, two) = (fixture.clear_group(&[1, 2]).await, fixture.clear_group(&[1, 2]).await);
    fixture.append((0..6).map(|number| into(if number % 2 == 0 { one } else { two }, 1, clear("a"))).collect()).await;
    replica.stop().await;
    let (mut holder, mut eraser) = (connect(&fixture.postgres).await, connect(&fixture.postgres).await);
    let expired = "UPDATE messaging.log SET expires_at = now() WHERE kind = 'message'";
    holder.batch_execute(expired).await.unwrap();
    let lock = format!("BEGIN; SELECT FROM messaging.heads WHERE conversation_id = '{one}' FOR NO KEY UPDATE");
    holder.batch_execute(&lock).await.unwrap();
    assert_eq!(count(&mut eraser, "SELECT due * 100 + erased AS count FROM messaging.erase_expired(100)").await, 603);
    assert_eq!(count(&mut eraser, "SELECT due * 100 + erased AS count FROM messaging.erase_expired(2)").await, 200);
    holder.batch_execute("COMMIT").await.unwrap();
    assert_eq!(count(&mut eraser, "SELECT due * 100 + erased AS count FROM messaging.erase_expired(2)").await, 202);
    assert_eq!(count(&mut eraser, "SELECT due * 100 + erased AS count FROM messaging.erase_expired(100)").await, 101);
    assert_eq!(count(&mut eraser, "SELECT due * 100 + erased AS count FROM messaging.erase_expired(100)").await, 0);
}
