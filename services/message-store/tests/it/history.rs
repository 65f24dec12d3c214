//! What history shows of much: filters, windows, threads.

use diesel_async::SimpleAsyncConnection;
use entrenous_model::{ConversationId, Timestamp};
use entrenous_protocol::{
    Code, Failure, NewMessage,
    entry::MessageType,
    rest::Page,
    rpc::store::{
        History, HistoryFilter,
        HistoryPosition::{self, After, Around, Before, Latest},
        HistoryRequest,
    },
};
use serde_json::Value;

use crate::fixture::{Fixture, connect, into, sealed, user};

/// The seqs of a page, and where the next one begins.
async fn page(
    fixture: &Fixture,
    conversation_id: ConversationId,
    position: HistoryPosition,
    limit: u32,
    filter: HistoryFilter,
) -> Result<(Vec<u64>, Option<u64>), Failure> {
    let request = HistoryRequest { caller: user(2), conversation_id, position, limit, filter };
    let Page { items, has_more, next } = fixture.call::<History>(&request).await?;
    assert_eq!(has_more, next.is_some());
    let seq = |item: &entrenous_protocol::RawValue| {
        serde_json::from_str::<Value>(item.get()).unwrap()["seq"].as_u64().unwrap()
    };
    Ok((items.iter().map(|item| seq(item)).collect(), next.map(|next| next.parse().unwrap())))
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_what_they_name() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let media = || NewMessage { message_type: MessageType::Media, ..sealed("m") };
    let messages = [(1, sealed("2")), (2, sealed("3")), (1, media()), (2, media()), (1, sealed("6"))];
    fixture.append(messages.into_iter().map(|(sender, message)| into(group, sender, message)).collect()).await;
    let mut connection = connect(&fixture.postgres).await;
    let spread = "UPDATE messaging.log SET sent_at = '2026-01-01T00:00:00Z'::timestamptz + seq * interval '1 hour'";
    connection.batch_execute(spread).await.unwrap();
    let at = |hour: u32, milli: u32| {
        let text = format!("2026-01-01T{hour:02}:00:00.{milli:03}Z");
        Some(Timestamp::from(text.parse::<chrono::DateTime<chrono::Utc>>().unwrap()))
    };
    let of = |sender: u128| HistoryFilter { sender_id: Some(user(sender)), ..HistoryFilter::default() };
    let between = |from, to| HistoryFilter { from, to, ..HistoryFilter::default() };
    let media = HistoryFilter { message_type: Some(MessageType::Media), ..HistoryFilter::default() };
    for (position, filter, wanted) in [
        (Latest, of(1), vec![6, 4, 2]),
        (After(2), of(1), vec![4, 6]),
        (Latest, media, vec![5, 4]),
        (Latest, HistoryFilter { sender_id: Some(user(2)), ..media }, vec![5]),
        (Latest, between(at(3, 0), at(5, 0)), vec![5, 4, 3]),
        (After(0), between(at(3, 1), at(5, 0)), vec![4, 5]),
        (Before(5), between(at(3, 0), None), vec![4, 3]),
        (Around(4), between(None, at(5, 0)), vec![5, 4, 3, 2]),
        (Latest, between(at(7, 0), None), vec![]),
        (Latest, between(at(5, 0), at(3, 0)), vec![]),
    ] {
        let (seqs, next) = page(&fixture, group, position, 50, filter).await.unwrap();
        assert_eq!((&seqs, next), (&wanted, None), "{position:?} {filter:?}");
    }
    assert_eq!(page(&fixture, group, Latest, 2, of(1)).await.unwrap(), (vec![6, 4], Some(4)));
    assert_eq!(page(&fixture, group, Before(4), 2, of(1)).await.unwrap(), (vec![2], None));
    replica.stop().await;
}

/// A page looks at so many entries, and tells where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn messages_among_very_many_others_are_reached_page_after_page() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.append(vec![into(group, 1, sealed("2")), into(group, 1, sealed("3"))]).await;
    let mut connection = connect(&fixture.postgres).await;
    let fill = "INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, countable_no, sent_at)
                SELECT h.conversation_id, n, gen_random_uuid(), 'reaction', h.conversation_id, 2, h.last_entry_at
                FROM messaging.heads h, generate_series(4, 12000) n;
                UPDATE messaging.heads SET last_seq = 12000";
    connection.batch_execute(fill).await.unwrap();
    fixture.append(vec![into(group, 2, sealed("12001"))]).await;
    let none = HistoryFilter::default();
    assert_eq!(page(&fixture, group, Latest, 50, none).await.unwrap(), (vec![12_001], Some(7_002)));
    assert_eq!(page(&fixture, group, Before(7_002), 50, none).await.unwrap(), (vec![], Some(2_002)));
    assert_eq!(page(&fixture, group, Before(2_002), 50, none).await.unwrap(), (vec![3, 2], None));
    assert_eq!(page(&fixture, group, After(0), 50, none).await.unwrap(), (vec![2, 3], Some(5_000)));
    assert_eq!(page(&fixture, group, After(10_000), 50, none).await.unwrap(), (vec![12_001], None));
    assert_eq!(page(&fixture, group, After(u64::MAX), 50, none).await.unwrap(), (vec![], None));
    let of_two = HistoryFilter { sender_id: Some(user(2)), ..none };
    assert_eq!(page(&fixture, group, Latest, 50, of_two).await.unwrap(), (vec![12_001], Some(7_002)));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_list_their_replies() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let root = into(group, 1, sealed("root"));
    let lonely = into(group, 1, sealed("lonely"));
    fixture.append(vec![root.clone(), lonely.clone()]).await;
    let reply = |_| into(group, 2, NewMessage { thread_id: Some(root.message.id), ..sealed("reply") });
    fixture.append((0..3).map(reply).collect()).await;
    let thread = |id| HistoryFilter { thread_id: Some(id), ..HistoryFilter::default() };
    let (of_root, of_lonely) = (thread(root.message.id), thread(lonely.message.id));
    assert_eq!(page(&fixture, group, After(0), 50, of_root).await.unwrap(), (vec![4, 5, 6], None));
    assert_eq!(page(&fixture, group, After(4), 1, of_root).await.unwrap(), (vec![5], Some(5)));
    assert_eq!(page(&fixture, group, Before(6), 50, of_root).await.unwrap(), (vec![5, 4], None));
    assert_eq!(page(&fixture, group, After(0), 50, of_lonely).await.unwrap(), (vec![], None));
    let unknown = thread(into(group, 1, sealed("never sent")).message.id);
    assert_eq!(page(&fixture, group, After(0), 50, unknown).await.unwrap_err().code, Code::NotFound);
    replica.stop().await;
}
