//! Receipts of people: which entries they covered, when, and who is told.

use diesel::{QueryableByName, sql_query, sql_types::BigInt};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use entrenous_bus::{LiveEvent, LiveSubscription};
use entrenous_protocol::{
    Code, Failure,
    live::{LiveKind, Receipt, ReceiptKind, UserNotice},
    rpc::tracker::{
        AdvanceCursors, AdvanceCursorsRequest, CursorAdvance, EntryReceipt, EntryReceipts, EntryReceiptsRequest,
        ReadCursors, ReadCursorsRequest,
    },
};
use entrenous_runtime::Shutdown;
use entrenous_test_support::wait_for;
use uuid::Uuid;

use crate::fixture::{AUTHOR, Fixture, LARGE, device, moved, read, user};

async fn of_entry(fixture: &Fixture, conversation: u128, seq: u64, users: &[u128]) -> Vec<EntryReceipt> {
    let request = EntryReceiptsRequest {
        conversation_id: Uuid::from_u128(conversation).into(),
        seq,
        user_ids: users.iter().copied().map(user).collect(),
    };
    fixture.gateway.call::<EntryReceipts>(&request, std::time::Duration::from_secs(10)).await.unwrap()
}

async fn read_seqs(fixture: &Fixture, number: u128, conversations: &[u128]) -> Result<Vec<u64>, Failure> {
    let conversation_ids = conversations.iter().map(|number| Uuid::from_u128(*number).into()).collect();
    let request = ReadCursorsRequest { user_id: user(number), conversation_ids };
    fixture.gateway.call::<ReadCursors>(&request, std::time::Duration::from_secs(10)).await
}

/// The next receipts that users are told, with who is told.
async fn told(live: &mut LiveSubscription, wanted: usize) -> Vec<(u128, Receipt)> {
    let mut heard = Vec::new();
    while heard.len() < wanted {
        match live.next().await.unwrap() {
            LiveEvent::Messages(messages) => {
                let notices = messages.into_iter().filter(|message| message.preamble.kind == LiveKind::UserNotice);
                heard.extend(notices.map(|message| match serde_json::from_slice(&message.body).unwrap() {
                    UserNotice::Receipt(receipt) => (message.preamble.subject.as_u128(), receipt),
                    other => panic!("{other:?}"),
                }));
            }
            LiveEvent::Interrupted => panic!("interrupted"),
        }
    }
    heard
}

/// User 1,001's second device.
fn on_second(advance: CursorAdvance) -> CursorAdvance {
    CursorAdvance { device_id: device(500), ..advance }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_entry_has_its_time_whatever_the_order_of_the_receipts() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    for batch in [
        vec![moved(1, 1, 3)],
        vec![read(1, 1, 2), moved(1, 1, 2)],
        vec![on_second(moved(1, 1, 5))],
        vec![moved(1, 1, 4), read(1, 1, 1)],
        vec![on_second(read(1, 1, 5)), moved(1, 1, 3)],
    ] {
        fixture.advance(batch).await.unwrap();
    }
    let mut times = Vec::new();
    for seq in 1..=6 {
        let [one, nobody] = of_entry(&fixture, 1, seq, &[1_001, 9]).await[..] else { panic!("two were asked for") };
        assert!(!nobody.is_delivered && nobody.read_at.is_none());
        assert_eq!((one.is_delivered, one.is_read), (seq <= 5, seq <= 5), "{seq}");
        assert_eq!((one.delivered_at.is_some(), one.read_at.is_some()), (seq <= 5, seq <= 5), "{seq}");
        times.push((one.delivered_at, one.read_at));
    }
    assert!(times[..3].iter().all(|time| time.0 == times[0].0), "delivered together");
    assert!(times[3].0 == times[4].0 && times[3].0 > times[0].0, "later, on the other device");
    assert!(times[0].1 == times[1].1 && times[2].1 == times[4].1 && times[2].1 > times[0].1);
    assert_eq!(read_seqs(&fixture, 1_001, &[2, 1]).await.unwrap(), [0, 5]);
    assert_eq!(overlaps(&fixture).await, 0);
    replica.stop().await;
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// Entries that two ranges of one person and kind cover.
async fn overlaps(fixture: &Fixture) -> i64 {
    let mut connection = AsyncPgConnection::establish(&fixture.postgres.url()).await.unwrap();
    let query = "SELECT count(*) AS count FROM delivery.receipts a JOIN delivery.receipts b \
                 USING (conversation_id, user_id, kind) WHERE a.to_seq < b.to_seq AND a.to_seq >= b.from_seq";
    sql_query(query).get_result::<Count>(&mut connection).await.unwrap().count
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_never_overlap_with_two_replicas_and_two_devices() {
    let fixture = Fixture::start().await;
    let replicas = [fixture.replica().await, fixture.replica().await];
    let requests = (1..=60_u64).map(|step| {
        let seq = step * 37 % 61;
        let advance = if seq.is_multiple_of(3) { read(1, 1, seq) } else { moved(1, 1, seq) };
        let advance = if step.is_multiple_of(2) { on_second(advance) } else { advance };
        fixture.advance(vec![advance, moved(2, 1, seq)])
    });
    for answer in futures::future::join_all(requests).await {
        answer.unwrap();
    }
    assert_eq!(overlaps(&fixture).await, 0);
    for seq in 1..=60 {
        let found = of_entry(&fixture, 1, seq, &[1_001, 1_002]).await;
        assert!(found.iter().all(|one| one.is_delivered && one.delivered_at.is_some()), "{seq}: {found:?}");
        assert_eq!((found[0].is_read, found[0].read_at.is_some()), (true, true), "{seq}");
    }
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn authors_and_own_devices_are_told_once() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.advance(vec![moved(1, 1, 3)]).await.unwrap();
    // Nothing new of the person: a second device, repeats, receipts that come late.
    fixture.advance(vec![on_second(moved(1, 1, 3)), moved(1, 1, 2)]).await.unwrap();
    fixture.advance(vec![on_second(read(1, 1, 4))]).await.unwrap();
    let mut heard = told(&mut live, 6).await;
    heard.sort_by_key(|(user, receipt)| (*user, receipt.seq, receipt.kind == ReceiptKind::Read));
    let shape: Vec<_> = heard
        .iter()
        .map(|(who, receipt)| (*who, receipt.kind, receipt.seq, receipt.device_id.map(|id| id.as_uuid().as_u128())))
        .collect();
    let (delivered, read_kind) = (ReceiptKind::Delivered, ReceiptKind::Read);
    assert_eq!(
        shape,
        [
            (AUTHOR, delivered, 3, None),
            (AUTHOR, delivered, 4, None),
            (AUTHOR, read_kind, 4, None),
            (1_001, delivered, 3, Some(1)),
            (1_001, delivered, 4, Some(500)),
            (1_001, read_kind, 4, Some(500)),
        ]
    );
    assert!(heard.iter().all(|(_, receipt)| receipt.user_id == user(1_001)));
    // Who sends has read what was before; their own devices know.
    let sent = CursorAdvance { sent_seq: 9, ..moved(1, 1, 0) };
    fixture.advance(vec![sent, moved(2, 1, 1)]).await.unwrap();
    let heard = told(&mut live, 4).await;
    let own: Vec<_> =
        heard.iter().filter(|(who, _)| *who != AUTHOR).map(|(who, receipt)| (*who, receipt.seq)).collect();
    assert_eq!(own, [(1_002, 1)], "{heard:?}");
    assert!(heard.iter().any(|(who, receipt)| (*who, receipt.kind, receipt.seq) == (AUTHOR, read_kind, 9)));
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn among_many_members_receipts_are_counted_and_not_told() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    fixture.advance(vec![read(1, LARGE, 3)]).await.unwrap();
    let [one] = of_entry(&fixture, LARGE, 3, &[1_001]).await[..] else { panic!("one was asked for") };
    assert_eq!((one.is_read, one.read_at, one.delivered_at), (true, None, None));
    let heard = told(&mut live, 2).await;
    assert!(heard.iter().all(|(who, _)| *who == 1_001), "the own devices alone: {heard:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_message_store_receipts_wait() {
    let mut fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    fixture.stop.trigger();
    let refused = async || match fixture.advance(vec![read(1, 1, 3)]).await {
        Err(failure) => Ok(failure.code),
        Ok(()) => Err("it was answered"),
    };
    assert_eq!(wait_for("the store to be away", refused).await.unwrap(), Code::Unavailable);
    fixture.stop = Shutdown::new();
    fixture.serve_store().await;
    fixture.advance(vec![read(1, 2, 3)]).await.unwrap();
    assert_eq!(read_seqs(&fixture, 1_001, &[2]).await.unwrap(), [3]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_after_the_caller_gave_up_is_told() {
    let fixture = Fixture::start().await;
    let replica = fixture.replica().await;
    let mut live = fixture.gateway.subscribe_live().await.unwrap();
    let mut other = AsyncPgConnection::establish(&fixture.postgres.url()).await.unwrap();
    sql_query("BEGIN").execute(&mut other).await.unwrap();
    sql_query("LOCK TABLE delivery.user_cursors IN EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let request = AdvanceCursorsRequest { cursors: vec![moved(1, 1, 3)] };
    let asked = fixture.gateway.call_once::<AdvanceCursors>(&request, std::time::Duration::from_millis(500)).await;
    assert_eq!(asked.unwrap_err().code, Code::Unavailable);
    sql_query("COMMIT").execute(&mut other).await.unwrap();
    let told = told(&mut live, 2).await;
    assert!(told.iter().any(|(who, receipt)| *who == AUTHOR && receipt.seq == 3), "{told:?}");
    replica.stop().await;
}
