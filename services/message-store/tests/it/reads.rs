//! Methods `read_ranges`, `history`, `get_message` and `heads`.

use entrenous_model::ConversationId;
use entrenous_protocol::{
    Code,
    rest::CreateConversation,
    rpc::store::{
        GetMessage, GetMessageRequest, Heads, HeadsRequest, History, HistoryFilter,
        HistoryPosition::{self, After, Around, Before, Latest},
        HistoryRequest, Range, RangeRead, ReadRanges, ReadRangesRequest,
    },
};

use crate::fixture::{Fixture, group_of, into, sealed, seqs, to, user};

async fn ranges(
    fixture: &Fixture,
    reader: Option<u128>,
    ranges: &[(ConversationId, u64, u32)],
    bytes_max: usize,
) -> Vec<RangeRead> {
    let ranges = ranges.iter().map(|(conversation_id, after, limit)| Range {
        conversation_id: *conversation_id,
        after: *after,
        limit: *limit,
        leaves_after: 0,
    });
    let request = ReadRangesRequest { reader: reader.map(user), ranges: ranges.collect(), bytes_max };
    fixture.call::<ReadRanges>(&request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_read_within_their_rights_and_bounds() {
    let (fixture, replica) = Fixture::start().await;
    let (one, two) = (fixture.group(&[1, 2]).await.id, fixture.group(&[1]).await.id);
    let direct = to(2, 1, sealed("a"));
    fixture.send(direct.clone()).await;
    for _ in 0..9 {
        fixture.send(into(one, 1, sealed("a"))).await;
    }
    fixture.add(1, one, 3, None).await.unwrap();
    let unknown = ConversationId::direct(user(7), user(8));
    let asked =
        [(one, 3, 4), (unknown, 0, 9), (two, 0, 9), (one, 20, 9), (direct.conversation_id, 0, 9), (one, 9, 100)];

    let read = ranges(&fixture, None, &asked, 1 << 20).await;
    assert_eq!(read.iter().map(|read| read.is_readable).collect::<Vec<_>>(), [true, false, true, true, true, true]);
    assert_eq!(seqs(&read[0]), [4, 5, 6, 7]);
    assert!(read[0].has_more && read[0].last_seq == 11);
    assert!(seqs(&read[2]) == [1] && !read[2].has_more && seqs(&read[3]).is_empty() && !read[3].has_more);
    assert_eq!(seqs(&read[5]), [10, 11]);
    assert!(read[4].entries[0].frame.get().starts_with(r#"{"type":"chat_message""#));

    let read = ranges(&fixture, Some(3), &asked, 1 << 20).await;
    assert_eq!(read.iter().map(|read| read.is_readable).collect::<Vec<_>>(), [true, false, false, true, false, true]);
    assert_eq!((seqs(&read[0]), read[0].readable_from, read[0].has_more), (vec![11], 11, false));

    let frame = read[0].entries[0].frame.get().len();
    let few = ranges(&fixture, Some(1), &[(one, 0, 100), (two, 0, 100)], 3 * frame).await;
    assert!((1..=4).contains(&few[0].entries.len()) && few[0].has_more, "{:?}", seqs(&few[0]));
    assert!(few[1].is_readable && few[1].entries.is_empty() && few[1].has_more);
    let least = ranges(&fixture, Some(1), &[(one, 0, 100)], 0).await;
    assert!(seqs(&least[0]) == [1] && least[0].has_more);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_its_bytes() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1]).await.id;
    for _ in 0..14 {
        fixture.send(into(group, 1, sealed(&"x".repeat(48 * 1024)))).await;
    }
    let read = ranges(&fixture, Some(1), &[(group, 0, 100)], 8 << 20).await;
    let bytes: usize = read[0].entries.iter().map(|entry| entry.frame.get().len()).sum();
    assert!(bytes <= 600 * 1024 && bytes > 400 * 1024 && read[0].has_more, "{bytes}");
    let request = HistoryRequest {
        caller: user(1),
        conversation_id: group,
        position: HistoryPosition::Latest,
        limit: 100,
        filter: HistoryFilter::default(),
    };
    let page = fixture.call::<History>(&request).await.unwrap();
    assert!(page.has_more && page.items.iter().map(|item| item.get().len()).sum::<usize>() <= 512 * 1024);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_paged_both_ways() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    for _ in 0..9 {
        fixture.send(into(group, 1, sealed("a"))).await;
    }
    fixture.add(1, group, 3, None).await.unwrap();
    let last = fixture.send(into(group, 1, sealed("a"))).await;
    assert_eq!(last.seq, 12);
    let page = async |caller: u128, position, limit| {
        let request = HistoryRequest {
            caller: user(caller),
            conversation_id: group,
            position,
            limit,
            filter: HistoryFilter::default(),
        };
        let page = fixture.call::<History>(&request).await?;
        let seq = |item: &entrenous_protocol::RawValue| {
            serde_json::from_str::<serde_json::Value>(item.get()).unwrap()["seq"].as_u64().unwrap()
        };
        Ok::<_, entrenous_protocol::Failure>((
            page.items.iter().map(|item| seq(item)).collect::<Vec<_>>(),
            page.has_more,
        ))
    };
    assert_eq!(page(1, Latest, 3).await.unwrap(), (vec![12, 10, 9], true));
    assert_eq!(page(1, Before(4), 3).await.unwrap(), (vec![3, 2], false));
    assert_eq!(page(1, After(8), 2).await.unwrap(), (vec![9, 10], true));
    assert_eq!(page(1, After(10), 2).await.unwrap(), (vec![12], false));
    assert_eq!(page(1, Around(6), 5).await.unwrap(), (vec![8, 7, 6, 5, 4], true));
    assert_eq!(page(1, Around(6), 1).await.unwrap(), (vec![6], true));
    assert_eq!(page(3, Latest, 50).await.unwrap(), (vec![12], false));
    assert_eq!(page(4, Latest, 50).await.unwrap_err().code, Code::NotFound);
    assert_eq!(page(1, Latest, 101).await.unwrap_err().code, Code::Invalid);

    let open = CreateConversation { history_visible: true, ..group_of(&[]) };
    let open = fixture.create(user(1), open).await.unwrap().id;
    fixture.send(into(open, 1, sealed("a"))).await;
    fixture.add(1, open, 3, None).await.unwrap();
    assert_eq!(seqs(&fixture.log(Some(3), open).await), [1, 2, 3]);
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_is_shown_as_in_history() {
    let (fixture, replica) = Fixture::start().await;
    let group = fixture.group(&[1, 2]).await.id;
    let message = into(group, 1, sealed("a"));
    fixture.send(message.clone()).await;
    let mut reply = into(group, 2, sealed("b"));
    reply.message.thread_id = Some(message.message.id);
    fixture.send(reply).await;
    let get = async |caller, message_id| {
        let request = GetMessageRequest { caller: user(caller), conversation_id: group, message_id };
        fixture.call::<GetMessage>(&request).await
    };
    let shown: serde_json::Value = serde_json::from_str(get(2, message.message.id).await.unwrap().get()).unwrap();
    assert_eq!((shown["seq"].as_u64(), shown["thread_count"].as_u64()), (Some(2), Some(1)));
    assert_eq!((&shown["reactions"], &shown["pinned"]), (&serde_json::json!([]), &serde_json::json!(false)));
    assert_eq!(get(3, message.message.id).await.unwrap_err().code, Code::NotFound);
    let created = fixture.log(Some(1), group).await.entries[0].id;
    assert_eq!(get(1, created).await.unwrap_err().code, Code::NotFound, "no message");
    let heads = HeadsRequest { conversation_ids: vec![group, ConversationId::direct(user(7), user(8))] };
    let heads = fixture.call::<Heads>(&heads).await.unwrap();
    assert_eq!(heads.iter().map(|head| (head.conversation_id, head.last_seq)).collect::<Vec<_>>(), [(group, 3)]);
    replica.stop().await;
}
