//! Hot statements reach their tables by keys, and stay prepared.

use std::time::Duration;

use diesel::{QueryableByName, sql_query, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use entrenous_model::{Clock, ConversationId, IdGenerator, SystemClock};
use entrenous_protocol::{
    NewMessage,
    rpc::store::{
        Attaching, CancelScheduled, CancelScheduledRequest, CheckConnections, CheckConnectionsRequest,
        ConversationRequest, GetConversation, History, HistoryFilter, HistoryPosition, HistoryRequest,
        ListConversations, ListConversationsRequest, ListScheduled, ListScheduledRequest, ReadBlocked,
        ReadBlockedRequest, ReadMemberships, ReadMembershipsRequest, ReadVisible, ReadVisibleRequest, Schedule,
        ScheduleRequest, Search, SearchRequest, SyncingDevice,
    },
};

use entrenous_test_support::wait_for;

use crate::{
    fixture::{Fixture, clear, connect, device, into, sealed, to, user},
    function::count,
};

#[derive(QueryableByName)]
struct Seen {
    #[diesel(sql_type = Text)]
    seen: String,
}

/// Everything that the service does often, with much around it: no table is read from end to end.
#[tokio::test(flavor = "multi_thread")]
async fn no_hot_statement_reads_a_whole_table() {
    let (fixture, replica) = Fixture::start().await;
    replica.stop().await;
    let mut connection = connect(&fixture.postgres).await;
    connection.batch_execute(MANY).await.unwrap();
    connection.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let before = scans(&mut connection).await;
    let replica = fixture.replica().await;
    let group = fixture.group(&[1, 2]).await.id;
    fixture.manage_rooms().await;
    let clear_group = fixture.clear_group(&[1, 2]).await;
    for _ in 0..8 {
        fixture.append(vec![into(group, 1, sealed("a")), into(group, 2, sealed("a"))]).await;
        fixture.log(Some(1), group).await;
        let request = HistoryRequest {
            caller: user(1),
            conversation_id: group,
            position: HistoryPosition::Latest,
            limit: 50,
            filter: HistoryFilter::default(),
        };
        fixture.call::<History>(&request).await.unwrap();
        let sent_at = fixture.send(into(clear_group, 1, clear("a word"))).await.sent_at;
        let thread_id = Some(IdGenerator.next());
        let reply = NewMessage { thread_id, mentions: vec![user(2)], ..clear("a reply") };
        fixture.send(into(clear_group, 2, reply)).await;
        let (from, sender_id) = (Some(sent_at), Some(user(1)));
        let filter = HistoryFilter { from, to: from, sender_id, ..HistoryFilter::default() };
        fixture.call::<History>(&HistoryRequest { filter, ..request }).await.unwrap();
        let position = HistoryPosition::After(0);
        fixture.call::<History>(&HistoryRequest { filter, position, ..request }).await.unwrap();
        let filter = HistoryFilter { thread_id, ..HistoryFilter::default() };
        let request = HistoryRequest { conversation_id: clear_group, filter, position, ..request };
        fixture.call::<History>(&request).await.unwrap();
        let (caller, query, conversation_id) = (user(1), "word".to_owned(), None);
        let request =
            SearchRequest { caller, query, conversation_id, sender_id, from, to: from, cursor: None, limit: 50 };
        assert_eq!(fixture.call::<Search>(&request).await.unwrap().items.len(), 1);
        let syncing =
            |number, has_cursors| SyncingDevice { user_id: user(number), device_id: device(number), has_cursors };
        let request = ReadMembershipsRequest { devices: vec![syncing(1, false), syncing(2, true), syncing(9, false)] };
        fixture.call::<ReadMemberships>(&request).await.unwrap();
        let attaching = |number| Attaching { user_id: user(number), device_id: device(number) };
        let request = CheckConnectionsRequest { connections: vec![attaching(1), attaching(2), attaching(9)] };
        fixture.call::<CheckConnections>(&request).await.unwrap();
        let request = ListConversationsRequest { caller: user(1), cursor: None, limit: 20 };
        fixture.call::<ListConversations>(&request).await.unwrap();
        fixture.append(vec![to(2, 1, sealed("a")), to(1, 2, sealed("a"))]).await;
        let request = ReadVisibleRequest { viewer: user(1), user_ids: vec![user(1), user(2), user(9)] };
        fixture.call::<ReadVisible>(&request).await.unwrap();
        let request = ReadBlockedRequest { user_id: user(1), conversation_id: group };
        fixture.call::<ReadBlocked>(&request).await.unwrap();
        let request = ConversationRequest { caller: user(1), conversation_id: group };
        fixture.call::<GetConversation>(&request).await.unwrap();
        schedule_and_cancel(&fixture, group).await;
    }
    replica.stop().await;
    assert_eq!(scans(&mut connection).await, before);
}

async fn schedule_and_cancel(fixture: &Fixture, group: ConversationId) {
    let message = into(group, 1, sealed("a"));
    let message_id = message.message.id;
    let send_at = SystemClock.now() + Duration::from_secs(3_600);
    fixture.call::<Schedule>(&ScheduleRequest { message, send_at }).await.unwrap();
    let request = ListScheduledRequest { caller: user(1), cursor: None, limit: 10 };
    fixture.call::<ListScheduled>(&request).await.unwrap();
    fixture.call::<CancelScheduled>(&CancelScheduledRequest { caller: user(1), message_id }).await.unwrap();
}

/// Sequential scans by table, once every other connection has reported what it did, which it does at its end.
async fn scans(connection: &mut AsyncPgConnection) -> Vec<String> {
    let others = "SELECT count(*) FROM pg_stat_activity \
                  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    wait_for("the other connections to end", async || match count(connection, others).await {
        0 => Ok(()),
        left => Err(left.to_string()),
    })
    .await
    .unwrap();
    let query = "SELECT relname || ' ' || seq_scan AS seen FROM pg_stat_user_tables WHERE schemaname = 'messaging' \
                 AND relname IN ('log', 'heads', 'members', 'conversations', 'mentions', 'user_versions', 'privacy', \
                                 'blocks', 'scheduled', 'bans', 'invites', 'public_channels', 'audit', 'search', \
                                 'threads') ORDER BY 1";
    sql_query(query).load::<Seen>(connection).await.unwrap().into_iter().map(|row| row.seen).collect()
}

const MANY: &str = "
    INSERT INTO messaging.conversations (id, kind, max_members, member_count, created_by)
    SELECT ('10000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'group', 10, 1, gen_random_uuid()
    FROM generate_series(1, 3000) n;
    INSERT INTO messaging.heads (conversation_id, last_seq) SELECT id, 10 FROM messaging.conversations;
    INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at)
    SELECT id, gen_random_uuid(), 'member', 1, now() FROM messaging.conversations;
    INSERT INTO messaging.log (conversation_id, seq, id, kind, sender_id, message_type, content, countable_no, sent_at)
    SELECT id, n, gen_random_uuid(), 'message', id, 'text', '{}', n, now() FROM messaging.conversations, generate_series(1, 10) n;
    INSERT INTO messaging.mentions SELECT gen_random_uuid(), id, 1 FROM messaging.conversations;
    INSERT INTO messaging.user_versions SELECT user_id, 1 FROM messaging.members;
    INSERT INTO messaging.privacy SELECT user_id, 1, 'contacts', 'contacts', true FROM messaging.members;
    INSERT INTO messaging.blocks SELECT user_id, gen_random_uuid() FROM messaging.members;
    INSERT INTO messaging.scheduled (sender_id, id, conversation_id, sender_device_id, message, send_at, due_at, created_at)
    SELECT gen_random_uuid(), gen_random_uuid(), id, id, '{}', now() + interval '1 day', now() + interval '1 day', now()
    FROM messaging.conversations;
    ANALYZE messaging.scheduled;
    INSERT INTO messaging.bans SELECT id, gen_random_uuid(), gen_random_uuid(), now() FROM messaging.conversations;
    INSERT INTO messaging.invites (id, conversation_id, token_digest, created_by, created_at)
    SELECT gen_random_uuid(), id, sha256(id::text::bytea), gen_random_uuid(), now() FROM messaging.conversations;
    INSERT INTO messaging.public_channels SELECT id, random() * 1000, array_to_tsvector(ARRAY['common', id::text]) FROM messaging.conversations;
    INSERT INTO messaging.audit (id, actor_id, action, conversation_id)
    SELECT gen_random_uuid(), id, 'x', id FROM messaging.conversations;
    ANALYZE messaging.bans, messaging.invites, messaging.public_channels, messaging.audit;
    INSERT INTO messaging.search
    SELECT conversation_id, seq, id, sender_id, sent_at, NULL, to_tsvector('simple', 'a word') FROM messaging.log;
    INSERT INTO messaging.threads SELECT conversation_id, id, 1 FROM messaging.log;
    ANALYZE messaging.conversations, messaging.heads, messaging.members, messaging.log, messaging.mentions,
        messaging.user_versions, messaging.privacy, messaging.blocks, messaging.search, messaging.threads;
";
