//! The driver against a server that is scripted frame by frame, over real sockets.

use std::sync::atomic::{AtomicU64, Ordering};

use entrenous_protocol::{
    Code, Failure,
    frame::{self as server, ClientFrame, SyncFrom, SyncedConversation},
};
use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};
use url::Url;

use super::*;
use crate::ClosedError;

/// How long anything may take: late, because a busy machine is no failure.
const LIMIT: Duration = Duration::from_secs(30);

fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    uuid::Uuid::from_u128(number).into()
}

fn sent_at() -> entrenous_model::Timestamp {
    serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap()
}

fn entry(number: u128, seq: u64) -> String {
    format!(
        r#"{{"type":"group_message","id":"{0}","payload":{{"id":"{0}","conversation_id":"{1}",
        "seq":{seq},"kind":"message","sender_id":"{1}","sender_device_id":null,"content":null,"reply_to":null,
        "thread_id":null,"attachments":[],"mentions":[],"metadata":{{}},"signature":null,
        "sent_at":"2026-11-20T10:30:00.123Z","edited_at":null,"edit_count":0,"deleted":false,"expires_at":null}}}}"#,
        id::<EntryId>(number),
        id::<ConversationId>(9),
    )
}

/// One accepted connection.
struct Peer {
    stream: WebSocketStream<TcpStream>,
    token: String,
}

impl Peer {
    async fn say(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    async fn next(&mut self) -> (Option<EntryId>, ClientFrame) {
        let text = self.stream.next().await.unwrap().unwrap().into_text().unwrap();
        server::parse(&text, &Limits::default()).unwrap()
    }

    async fn close(mut self, code: u16) {
        self.stream.close(Some(CloseFrame { code: code.into(), reason: "scripted".into() })).await.unwrap();
        while self.stream.next().await.is_some_and(|read| read.is_ok()) {}
    }

    /// Takes a `sync` and says that nothing is new; gives what it asked for.
    async fn sync(&mut self) -> server::SyncRequest {
        let (at, ClientFrame::Sync(sync)) = self.next().await else { panic!("no sync") };
        self.say(server::sync_complete(at, &[], server::SyncedQueue::default())).await;
        sync
    }
}

struct Server {
    listener: TcpListener,
    url: Url,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        Self { listener, url }
    }

    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        let mut token = String::new();
        let stream = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            token = request.headers()["Authorization"].to_str().unwrap().to_owned();
            response.headers_mut().insert("Sec-WebSocket-Protocol", "entrenous.v1".parse().unwrap());
            Ok(response)
        })
        .await
        .unwrap();
        let mut peer = Peer { stream, token };
        peer.say(server::connected(id(1), id(2), id(3), 30_000, sent_at(), "1")).await;
        peer
    }

    /// Answers one upgrade, or REST call, with this; gives what was asked.
    async fn answer(&self, response: &str) -> String {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let mut length = 0;
        // Small requests: with a body they end in its brace, else in an empty line.
        while !request[..length].ends_with(b"}") && !request[..length].ends_with(b"\r\n\r\n")
            || request[..length].ends_with(b"\r\n\r\n") && request.starts_with(b"POST")
        {
            length += stream.read(&mut request[length..]).await.unwrap();
        }
        stream.write_all(response.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    }

    fn client(&self, cursors: impl CursorStore) -> Client {
        self.client_with(cursors, Options::default())
    }

    fn client_with(&self, cursors: impl CursorStore, options: Options) -> Client {
        let api = Api::new(self.url.clone()).unwrap();
        let login = Login { api, user_id: id(2), device_id: id(3), access_token: "token-0".to_owned() };
        let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(50));
        Client::start(login, Numbered::default(), cursors, Options { backoff, ..options })
    }
}

/// Tokens with growing numbers.
#[derive(Default)]
struct Numbered(AtomicU64);

impl TokenSource for Numbered {
    async fn renew(&mut self) -> Result<String, RenewError> {
        Ok(format!("token-{}", self.0.fetch_add(1, Ordering::Relaxed) + 1))
    }
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Cursors>>);

impl Kept {
    fn seq(&self) -> Option<u64> {
        self.0.lock().unwrap().seqs.get(&id(9)).copied()
    }
}

impl CursorStore for Kept {
    fn load(&mut self) -> Cursors {
        self.0.lock().unwrap().clone()
    }

    fn save(&mut self, change: CursorChange) {
        self.0.lock().unwrap().apply(change);
    }
}

/// The next event of which this makes something.
async fn next<T>(client: &mut Client, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            let event = client.next().await.expect("the client ended");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(LIMIT, found).await.expect("the event never came")
}

async fn live(client: &mut Client) {
    next(client, |event| matches!(event, Event::Status(Status::Live)).then_some(())).await;
}

async fn next_seq(client: &mut Client) -> u64 {
    next(client, |event| match event {
        Event::Entry(entry) => Some(entry.seq),
        _ => None,
    })
    .await
}

fn room() -> Target {
    Target::Conversation(id(9))
}

#[tokio::test]
async fn a_message_survives_a_break_and_the_cursor_is_given_again() {
    let (server, kept) = (Server::start().await, Kept::default());
    let mut client = server.client(kept.clone());
    let script = async {
        let mut peer = server.accept().await;
        assert!(peer.sync().await.cursors.is_empty());
        peer.say(entry(50, 4)).await;
        let (first, _) = peer.next().await;
        drop(peer);
        let mut peer = server.accept().await;
        assert_eq!(peer.sync().await.cursors, [(id(9), 4)].into());
        let (again, frame) = peer.next().await;
        assert!(matches!(frame, ClientFrame::GroupMessage { .. }), "{frame:?}");
        assert_eq!(first, again, "the same id");
        peer.say(server::ack_entry(again.unwrap(), id(9), 5, sent_at())).await;
        peer
    };
    let user = async {
        live(&mut client).await;
        assert_eq!(next_seq(&mut client).await, 4);
        assert_eq!(kept.seq(), None, "not dealt with yet");
        let message = OutgoingMessage::text(id(70), "x");
        let sent = client.handle().queue(room(), &message).await.unwrap();
        let twice = client.handle().send(room(), &message).await;
        assert!(matches!(twice, Err(SendError::Duplicate { .. })), "{twice:?}");
        live(&mut client).await;
        let in_place = next(&mut client, |event| match event {
            Event::Acknowledged { in_place, .. } => Some(in_place),
            _ => None,
        })
        .await;
        assert!(in_place);
        assert_eq!(sent.wait().await.unwrap().seq, 5);
    };
    let (peer, ()) = tokio::join!(script, user);
    assert_eq!(kept.seq(), Some(4));
    assert_eq!(client.handle().stats().repeats, 1);
    drop(peer);
    client.close().await;
}

#[tokio::test]
async fn receipts_follow_what_was_dealt_with() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let mut peer = server.accept().await;
    peer.sync().await;
    for seq in 1..=3 {
        peer.say(entry(50 + u128::from(seq), seq)).await;
    }
    for seq in 1..=3 {
        assert_eq!(next_seq(&mut client).await, seq);
    }
    let receipt = async { peer.next().await };
    let user = async { while client.next().await.is_some() {} };
    let told = tokio::select! {
        (_, frame) = receipt => frame,
        () = user => panic!("the client ended"),
    };
    // Gathered: one for all three, or, on a busy machine, an earlier one first.
    assert!(matches!(told, ClientFrame::DeliveryReceipt { seq: 1..=3, .. }), "{told:?}");
}

#[tokio::test]
async fn tokens_are_renewed_on_the_connection_and_before_the_next_one() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let mut peer = server.accept().await;
    assert_eq!(peer.token, "Bearer token-0");
    peer.say(server::token_expiring(60_000)).await;
    let mut frames = Vec::new();
    while frames.len() < 2 {
        let (at, frame) = peer.next().await;
        peer.say(match &frame {
            ClientFrame::Sync(_) => server::sync_complete(at, &[], server::SyncedQueue::default()),
            _ => server::ack(at.unwrap()),
        })
        .await;
        frames.push(frame);
    }
    assert!(frames.iter().any(|frame| matches!(frame, ClientFrame::Authenticate { token } if token == "token-1")));
    assert_eq!(&*client.handle().access_token(), "token-1");
    peer.close(4401).await;
    let mut peer = server.accept().await;
    assert_eq!(peer.token, "Bearer token-2");
    peer.sync().await;
    live(&mut client).await;
    live(&mut client).await;
    client.close().await;
}

#[tokio::test]
async fn a_final_verdict_ends_the_client_and_says_so_to_all() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let handle = client.handle().clone();
    let mut peer = server.accept().await;
    peer.sync().await;
    live(&mut client).await;
    let message = OutgoingMessage::text(id(70), "x");
    let sent = handle.queue(room(), &message).await.unwrap();
    peer.next().await;
    peer.close(4509).await;
    let end = next(&mut client, |event| match event {
        Event::Status(Status::Ended(end)) => Some(end),
        _ => None,
    })
    .await;
    assert!(matches!(end, End::NotWanted(ClosedError { code: Some(4509), .. })), "{end:?}");
    assert!(matches!(sent.wait().await, Err(SendError::Ended(End::NotWanted(_)))));
    assert!(client.next().await.is_none());
    assert!(matches!(handle.send(room(), &message).await, Err(SendError::Ended(End::NotWanted(_)))));
    assert!(matches!(handle.end(), Some(End::NotWanted(_))) && handle.reconnect().await.is_err());
}

#[tokio::test]
async fn refusals_go_to_the_sender_and_too_large_ones_never_leave() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let mut peer = server.accept().await;
    peer.sync().await;
    live(&mut client).await;
    let large = OutgoingMessage::text(id(71), "x".repeat(200_000));
    assert!(matches!(client.handle().send(room(), &large).await, Err(SendError::TooLarge { .. })));
    let message = OutgoingMessage::text(id(70), "x");
    let sent = client.handle().queue(room(), &message).await.unwrap();
    let (at, _) = peer.next().await;
    assert_eq!(at, Some(id(70)));
    peer.say(Failure::new(Code::Forbidden, "no").frame(at)).await;
    assert!(matches!(sent.wait().await, Err(SendError::Refused(refusal)) if refusal.is(Code::Forbidden)));
}

#[tokio::test]
async fn a_server_that_is_not_ready_is_tried_again_and_a_wrong_address_is_not() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    server.answer("HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n").await;
    server.accept().await.sync().await;
    live(&mut client).await;
    assert_eq!(client.handle().stats().attempts, 2);
    drop(client);
    let mut lost = server.client(MemoryCursors);
    server.answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    next(&mut lost, |event| matches!(event, Event::Status(Status::Ended(End::NoServer(_)))).then_some(())).await;
}

#[tokio::test]
async fn now_begins_at_the_heads_of_all_conversations() {
    let (server, kept) = (Server::start().await, Kept::default());
    let options = Options { begin: Begin::Now, ..Options::default() };
    let mut client = server.client_with(kept.clone(), options);
    let mut peer = server.accept().await;
    server.answer(&json("200 OK", r#"{"items":[],"has_more":false}"#)).await;
    assert_eq!(peer.sync().await.from, Some(SyncFrom::Start));
    live(&mut client).await;
    let saved = kept.0.lock().unwrap().clone();
    assert_eq!(saved, Cursors { incarnation: Some("1".to_owned()), seqs: HashMap::new() });
}

#[tokio::test]
async fn a_user_who_takes_nothing_loses_nothing() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let mut peer = server.accept().await;
    let (at, _) = peer.next().await;
    let count = 5_000;
    let listed = SyncedConversation {
        conversation_id: id(9),
        first_seq: 1,
        starts_at: 1,
        last_seq: count,
        sent_up_to: count,
        has_more: false,
    };
    let peer = tokio::spawn(async move {
        for seq in 1..=count {
            peer.stream.feed(Message::text(entry(u128::from(seq) + 1_000, seq))).await.unwrap();
        }
        peer.say(server::sync_complete(at, &[listed], server::SyncedQueue::default())).await;
        peer
    });
    for seq in 1..=count {
        assert_eq!(next_seq(&mut client).await, seq);
    }
    live(&mut client).await;
    assert_eq!(client.handle().stats().connections, 1);
    drop(peer.await.unwrap());
}

#[tokio::test]
async fn reconnecting_on_demand_gives_another_connection() {
    let server = Server::start().await;
    let mut client = server.client(MemoryCursors);
    let mut first = server.accept().await;
    first.sync().await;
    live(&mut client).await;
    client.handle().reconnect().await.unwrap();
    while first.stream.next().await.is_some_and(|read| read.is_ok()) {}
    let mut second = server.accept().await;
    second.sync().await;
    live(&mut client).await;
    assert_eq!(client.handle().stats().connections, 2);
}

fn json(status: &str, body: &str) -> String {
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    format!("{head}Connection: close\r\n\r\n{body}")
}

#[tokio::test]
async fn a_lost_answer_to_a_refresh_is_asked_for_again_with_the_same_token() {
    let server = Server::start().await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let api = Api::new(server.url.clone()).unwrap();
    let mut tokens =
        RefreshingTokens::new(api, "first").keeping(move |pair| keep.lock().unwrap().push(pair.refresh_token.clone()));
    let user = r#"{"id":"01900000-0000-7000-8000-000000000002","username":"alice","display_name":null,"role":"user",
        "created_at":"2026-11-20T10:30:00.123Z"}"#;
    let pair = format!(
        r#"{{"access_token":"a","refresh_token":"second","token_type":"Bearer","expires_in":900,"user":{user},
        "device_id":"01900000-0000-7000-8000-000000000003"}}"#
    );
    let script = async {
        let mut asked = Vec::new();
        for answer in [String::new(), json("200 OK", &pair), json("401 Unauthorized", r#"{"code":"unauthenticated"}"#)]
        {
            asked.push(server.answer(&answer).await);
        }
        asked
    };
    let user = async {
        assert_eq!(tokens.renew().await.unwrap(), "a");
        assert!(matches!(tokens.renew().await, Err(RenewError::LoginEnded { .. })));
    };
    let (asked, ()) = tokio::join!(script, user);
    let presented: Vec<_> = asked.iter().map(|request| request.contains(r#""first""#)).collect();
    assert_eq!(presented, [true, true, false], "{asked:?}");
    assert_eq!(*kept.lock().unwrap(), ["second"]);
}
