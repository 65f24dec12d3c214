use std::future::Future;

use entrenous_protocol::{Code, Failure, frame as server};
use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};

use super::*;

type Peer = WebSocketStream<TcpStream>;

fn id<T: From<uuid::Uuid>>(number: u128) -> T {
    uuid::Uuid::from_u128(number).into()
}

fn hello() -> Message {
    let at = serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap();
    Message::text(server::connected(id(1), id(2), id(3), 30_000, at, "1"))
}

/// A server for one connection, which also says what the upgrade request carried.
#[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
async fn serve<F: Future<Output = ()> + Send>(script: impl FnOnce(Peer, String) -> F + Send + 'static) -> Url {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut seen = String::new();
        let peer = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            seen = format!("{} {:?}", request.uri(), request.headers());
            response.headers_mut().insert("Sec-WebSocket-Protocol", "entrenous.v1".parse().unwrap());
            Ok(response)
        })
        .await
        .unwrap();
        script(peer, seen).await;
    });
    url
}

async fn connect(url: &Url) -> Result<Connection, ConnectError> {
    Connection::connect(url, &Credential::Subprotocol("t0ken".into()), SocketOptions::default()).await
}

async fn next_id(peer: &mut Peer) -> EntryId {
    let text = peer.next().await.unwrap().unwrap().into_text().unwrap();
    frame::head(&text).unwrap().id.unwrap()
}

#[tokio::test]
async fn the_token_travels_as_subprotocol_and_answers_find_their_frames() {
    let url = serve(|mut peer, seen| async move {
        assert!(seen.starts_with("/api/v1/ws "), "{seen}");
        assert!(seen.contains("entrenous.v1, bearer.t0ken"), "{seen}");
        peer.send(hello()).await.unwrap();
        let (first, second) = (next_id(&mut peer).await, next_id(&mut peer).await);
        let at = serde_json::from_str("\"2026-11-20T10:30:00.123Z\"").unwrap();
        peer.send(Message::text(Failure::new(Code::Forbidden, "no").frame(Some(second)))).await.unwrap();
        peer.send(Message::text(server::ack_entry(first, id(9), 7, at))).await.unwrap();
        peer.next().await;
    })
    .await;
    let mut connection = connect(&url).await.unwrap();
    assert_eq!(connection.connected().user_id, id(2));
    let (one, two) = (OutgoingMessage::text(id(11), "a"), OutgoingMessage::text(id(12), "b"));
    let target = Target::Conversation(id(9));
    let first = connection.handle().start_message(target, &one).await.unwrap();
    let second = connection.handle().start_message(target, &two).await.unwrap();
    assert_eq!(first.stored().await.unwrap().seq, 7);
    assert!(second.stored().await.unwrap_err().is(Code::Forbidden));
    assert!(matches!(connection.next().await.unwrap().body, Body::Error(_)));
    assert!(matches!(connection.next().await.unwrap().body, Body::Ack(Some(_))));
    connection.close().await;
}

#[tokio::test]
async fn the_close_code_ends_everything_that_waits() {
    let url = serve(|mut peer, _| async move {
        peer.send(hello()).await.unwrap();
        next_id(&mut peer).await;
        peer.close(Some(CloseFrame { code: 4400.into(), reason: "too slow".into() })).await.unwrap();
    })
    .await;
    let mut connection = connect(&url).await.unwrap();
    let error = connection.handle().ping().await.unwrap_err();
    assert!(error.is_outcome_unknown());
    assert!(matches!(error, RequestError::Closed(ClosedError { code: Some(4400), .. })), "{error:?}");
    assert!(connection.next().await.is_none());
    assert_eq!(connection.end().unwrap().reason, "too slow");
}

#[tokio::test]
async fn a_refused_token_is_told_by_its_close_code() {
    let url = serve(|mut peer, _| async move {
        peer.close(Some(CloseFrame { code: 4500.into(), reason: "token not valid".into() })).await.unwrap();
        while peer.next().await.is_some() {}
    })
    .await;
    assert!(matches!(connect(&url).await, Err(ConnectError::Closed(ClosedError { code: Some(4500), .. }))));
}

#[tokio::test]
async fn one_id_sent_twice_gets_two_answers() {
    let url = serve(|mut peer, _| async move {
        peer.send(hello()).await.unwrap();
        for _ in 0..2 {
            let id = next_id(&mut peer).await;
            peer.send(Message::text(server::ack(id))).await.unwrap();
        }
        peer.next().await;
    })
    .await;
    let connection = connect(&url).await.unwrap();
    let first = connection.handle().request(id(5), outgoing::ping(id(5))).await.unwrap();
    let second = connection.handle().request(id(5), outgoing::ping(id(5))).await.unwrap();
    assert_eq!(first.wait().await, Ok(Reply::Ack(None)));
    assert_eq!(second.wait().await, Ok(Reply::Ack(None)));
}

#[tokio::test]
async fn no_server_is_an_error_not_a_hang() {
    let url = Url::parse("http://127.0.0.1:1").unwrap();
    assert!(matches!(connect(&url).await, Err(ConnectError::Transport { .. })));
    assert!(matches!(connect(&Url::parse("file:///x").unwrap()).await, Err(ConnectError::Address { .. })));
}
