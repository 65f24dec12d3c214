//! `messaging.append` alone: batches of messages through one connection to a private PostgreSQL that waits for no disk.
//!
//! The tables tell wall time, the lines after them the processor time of the PostgreSQL backend.
#![expect(clippy::expect_used, reason = "a benchmark that cannot be prepared ends")]

use std::{
    io::Write,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use divan::{Bencher, counter::ItemsCount};
use entrenous_message_store::{
    MIGRATIONS,
    store::append::{Append, append},
};
use entrenous_test_support::TestPostgres;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Conversations that the messages go to in turn.
const CONVERSATIONS: u128 = 64;
/// Bytes of the content of each message.
const CONTENT_BYTES: usize = 600;
const SENDER: Uuid = Uuid::from_u128(1);
const DEVICE: Uuid = Uuid::from_u128(2);
/// Milliseconds that a call may take.
const BUDGET_MS: i32 = 30_000;

/// Calls before anything is measured: the backend plans and caches.
const WARM_UP_CALLS: usize = 20;

/// Lines about the processor time, told at the end.
static PROCESSOR_TIMES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn main() {
    divan::main();
    let lines = PROCESSOR_TIMES.lock().unwrap_or_else(PoisonError::into_inner);
    // Nobody reads where stdout is gone.
    writeln!(std::io::stdout(), "processor time of the PostgreSQL backend\n{}", lines.join("\n")).unwrap_or_default();
}

#[divan::bench(args = [1, 16, 64, 256], sample_count = 100, sample_size = 1)]
fn append_batch(bencher: Bencher<'_, '_>, messages: u32) {
    let runtime = Runtime::new().expect("a runtime");
    let mut store = runtime.block_on(Store::start()).expect("a PostgreSQL");
    let content = format!("{{\"ciphertext\":\"{}\"}}", "A".repeat(CONTENT_BYTES));
    let mut stored = 0_u32;
    let mut call = |store: &mut Store| {
        let ids: Vec<u128> = (0..messages).map(|place| u128::from(stored + place)).collect();
        stored += messages;
        let appended = runtime.block_on(append(&mut store.connection, batch(&ids, content.as_bytes())));
        let appended = appended.expect("an append");
        assert!(appended.iter().all(|row| row.outcome == "stored"), "{appended:?}");
    };
    (0..WARM_UP_CALLS).for_each(|_| call(&mut store));
    let (before, mut calls) = (store.processor_time(), 0_u32);
    bencher.counter(ItemsCount::new(messages)).bench_local(|| {
        calls += 1;
        call(&mut store);
    });
    let us = store.processor_time().saturating_sub(before).as_secs_f64() * 1e6;
    let (call, message) = (us / f64::from(calls), us / f64::from(calls * messages));
    PROCESSOR_TIMES
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(format!("{messages:>4} messages a call: {call:>6.0} µs a call, {message:>5.1} µs a message"));
}

fn batch<'a>(ids: &[u128], content: &'a [u8]) -> Append<'a> {
    let count = ids.len();
    Append {
        not_after: None,
        batch_id: Uuid::from_u128(rand::random()),
        budget_ms: BUDGET_MS,
        wait_ms: 0,
        conversation_ids: ids.iter().map(|id| conversation(id % CONVERSATIONS)).collect(),
        ids: ids.iter().map(|id| Uuid::from_u128(*id)).collect(),
        sender_ids: vec![SENDER; count],
        device_ids: vec![DEVICE; count],
        message_types: vec!["text"; count],
        contents: vec![content; count],
        sealed: vec![true; count],
        digests: vec![&[7; 32]; count],
        reply_tos: Vec::new(),
        thread_ids: Vec::new(),
        attachments: Vec::new(),
        mentions: Vec::new(),
        metadatas: Vec::new(),
        signatures: Vec::new(),
    }
}

fn conversation(number: u128) -> Uuid {
    Uuid::from_u128(0xc0_0000 + number)
}

/// A PostgreSQL with groups, and one connection to it.
struct Store {
    connection: AsyncPgConnection,
    backend_pid: i32,
    _postgres: TestPostgres,
}

#[derive(QueryableByName)]
struct Backend {
    #[diesel(sql_type = sql_types::Integer)]
    pid: i32,
}

impl Store {
    async fn start() -> anyhow::Result<Self> {
        let migrate = async |url: String| Ok(entrenous_db::migrate(&url, MIGRATIONS).await.map(drop)?);
        let postgres = TestPostgres::with_schema("messaging", migrate).await?;
        let mut connection = AsyncPgConnection::establish(&postgres.url()).await?;
        for number in 0..CONVERSATIONS {
            let id = conversation(number);
            let rows = format!(
                "INSERT INTO messaging.conversations (id, kind, max_members, member_count, created_by) \
                 VALUES ('{id}', 'group', 10, 1, '{SENDER}'); \
                 INSERT INTO messaging.heads (conversation_id) VALUES ('{id}'); \
                 INSERT INTO messaging.members (conversation_id, user_id, role, joined_seq, joined_at) \
                 VALUES ('{id}', '{SENDER}', 'owner', 1, now());"
            );
            connection.batch_execute(&rows).await?;
        }
        let backend: Backend = sql_query("SELECT pg_backend_pid() AS pid").get_result(&mut connection).await?;
        Ok(Self { connection, backend_pid: backend.pid, _postgres: postgres })
    }

    /// What the backend has used. Source: the kernel's Documentation/scheduler/sched-stats.rst: nanoseconds on a processor.
    fn processor_time(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.backend_pid)).unwrap_or_default();
        let nanoseconds = text.split_whitespace().next().and_then(|number| number.parse().ok());
        Duration::from_nanos(nanoseconds.unwrap_or_default())
    }
}
