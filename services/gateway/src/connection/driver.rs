//! Moves one connection's frames: reads, writes, replays and clocks run side by side in one task, so that a socket that
//! nobody reads from never keeps the gateway from reading it.

mod clock;
mod inbound;

use std::{io, rc::Rc, time::Duration};

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseReason, ProtocolError, Session};
use entrenous_auth::Claims;
use entrenous_model::EntryId;
use entrenous_protocol::{CloseCode, frame};
use futures::StreamExt;
use tokio::time::Instant;

use super::{
    Connection, device_queue, device_work, handshake,
    outbox::{Outbox, Outgoing},
    sync,
};
use crate::{WRITE_BUFFER_BYTES, presence::watching, typing, worker::Worker};
use clock::Clock;

/// How long one frame may take to leave.
const WRITE_MAX: Duration = Duration::from_secs(30);
/// How long what waits may take to leave before the close frame.
const FLUSH_MAX: Duration = Duration::from_secs(5);
/// How long the close frame may take to leave, and the client to answer it.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long the store may be away when a connection begins.
const ATTACH_MAX: Duration = Duration::from_secs(8);
const ATTACH_RETRY: Duration = Duration::from_millis(250);

/// Takes a connection from its upgrade to its end.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut session: Session,
    mut stream: AggregatedMessageStream,
    token: Option<String>,
) {
    let authenticated = Box::pin(handshake::authenticate(&worker.gateway, &mut session, &mut stream, token)).await;
    let code = match authenticated {
        Ok((claims, id)) => attached(&worker, &session, &mut stream, &claims, id).await,
        Err(code) => code,
    };
    end(session, stream, code).await;
}

/// Says goodbye: a close frame, then a moment for the client to answer it.
async fn end(session: Session, mut stream: AggregatedMessageStream, code: CloseCode) {
    metrics::counter!("chat_websocket_closes_total", "code" => code.number().to_string()).increment(1);
    let reason = CloseReason { code: code.number().into(), description: Some(code.reason().to_owned()) };
    let reason = (code != CloseCode::Normal).then_some(reason);
    // A client that is gone or does not read misses its close frame.
    if let Ok(Ok(())) = tokio::time::timeout(CLOSE_MAX, session.close(reason)).await {
        let is_answer = |message| matches!(message, Some(Err(_) | Ok(AggregatedMessage::Close(_))) | None);
        let answered = async { while !is_answer(stream.next().await) {} };
        let _ = tokio::time::timeout(CLOSE_MAX, answered).await;
    }
}

/// Removes the connection from everything, however its task ends.
struct Registration {
    worker: Rc<Worker>,
    connection: Rc<Connection>,
    since: Instant,
}

impl Registration {
    fn new(worker: &Rc<Worker>, connection: &Rc<Connection>) -> Self {
        worker.fanout.borrow_mut().add_connection(connection);
        worker.gateway.presence.connected(connection.user_id, connection.id);
        metrics::counter!("chat_websocket_connections_total").increment(1);
        metrics::gauge!("chat_websocket_connections_active").increment(1);
        Self { worker: Rc::clone(worker), connection: Rc::clone(connection), since: Instant::now() }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.worker.fanout.borrow_mut().remove_connection(&self.connection);
        typing::tell(&self.worker.gateway, self.worker.typists.borrow_mut().leave(self.connection.origin));
        watching::leave(&self.worker, &self.connection);
        self.worker.gateway.presence.disconnected(self.connection.user_id, self.connection.id);
        metrics::gauge!("chat_websocket_connections_active").decrement(1);
        metrics::histogram!("chat_websocket_connection_duration_seconds").record(self.since.elapsed());
    }
}

async fn attached(
    worker: &Rc<Worker>,
    session: &Session,
    stream: &mut AggregatedMessageStream,
    claims: &Claims,
    authenticate_id: Option<EntryId>,
) -> CloseCode {
    let gateway = &worker.gateway;
    let outbox = Outbox::new(gateway.config.outbox_frames_max, gateway.config.outbox_bytes());
    let connection = Connection::new(gateway.ids.next(), claims.sub, claims.device_id, claims.sid, outbox);
    // Registered before anything is read, so that nothing that happens meanwhile is missed.
    let _registration = Registration::new(worker, &connection);
    if gateway.is_revoked(claims.sid) {
        return CloseCode::LoginEnded;
    }
    let Some(incarnation) = Box::pin(attach(worker, &connection)).await else { return CloseCode::Restart };
    connection.greet(frame::connected(
        connection.id,
        connection.user_id,
        connection.device_id,
        gateway.limits.heartbeat_interval_ms,
        entrenous_model::Clock::now(&gateway.clock),
        &format!("{incarnation:016x}"),
    ));
    if let Some(id) = authenticate_id {
        connection.send(frame::ack(id));
    }
    if gateway.is_degraded() {
        connection.send(frame::degraded(true));
    }
    let clock = Clock::new(gateway, claims.exp);
    tokio::select! {
        code = inbound::run(worker, &connection, &clock, stream) => flush(session, &connection, code).await,
        code = write(session, &connection) => code,
        code = clock.run(gateway, &connection) => flush(session, &connection, code).await,
        code = sync::run(worker, &connection) => code,
        code = device_queue::run(worker, &connection) => code,
        code = device_work::run(worker, &connection) => code,
    }
}

/// Tells the store of the connection; gives the incarnation.
async fn attach(worker: &Worker, connection: &Connection) -> Option<u64> {
    let attached = async {
        loop {
            match worker.gateway.store.attach(connection.device()).await {
                Ok(attached) => return attached,
                Err(_) => tokio::time::sleep(ATTACH_RETRY).await,
            }
        }
    };
    let attached = tokio::time::timeout(ATTACH_MAX, attached).await.ok()?;
    connection.note_connection_no(attached.connection_no, true);
    Some(attached.incarnation)
}

/// Writes what waits until the end is asked for and nothing waits any more, or the client is too slow.
async fn write(session: &Session, connection: &Connection) -> CloseCode {
    let mut session = session.clone();
    let mut gathered = 0;
    loop {
        let Some(frame) = connection.outbox.next().await else {
            return connection.outbox.close_code().unwrap_or(CloseCode::Normal);
        };
        let bytes = frame.bytes();
        gathered += bytes;
        if gathered > WRITE_BUFFER_BYTES {
            // The HTTP server's turn: it writes what it was given, in one piece, through a buffer of that size.
            tokio::task::yield_now().await;
            gathered = bytes;
        }
        let written = async {
            match frame {
                Outgoing::Text(text) => session.text(text).await,
                Outgoing::Ping => session.ping(b"").await,
                Outgoing::Pong(bytes) => session.pong(&bytes).await,
            }
        };
        let max = if connection.outbox.close_code().is_some() { FLUSH_MAX } else { WRITE_MAX };
        tokio::select! {
            written = tokio::time::timeout(max, written) => match written {
                Ok(Ok(())) => connection.outbox.written(bytes),
                Ok(Err(_)) => return CloseCode::Normal,
                Err(_) => return CloseCode::TooSlow,
            },
            () = too_slow(connection) => return CloseCode::TooSlow,
        }
    }
}

async fn too_slow(connection: &Connection) {
    if connection.outbox.closing().await != CloseCode::TooSlow {
        std::future::pending::<()>().await;
    }
}

/// Writes what still waits before the connection ends for another reason than its writer's.
async fn flush(session: &Session, connection: &Connection, code: CloseCode) -> CloseCode {
    connection.close(code);
    if code != CloseCode::Normal {
        let _ = tokio::time::timeout(FLUSH_MAX, write(session, connection)).await;
    }
    code
}

/// What RFC 6455 wants to be said to a client that broke it.
pub(crate) fn close_code_of(error: &ProtocolError) -> CloseCode {
    match error {
        ProtocolError::Overflow => CloseCode::TooLarge,
        ProtocolError::Io(error) if error.kind() == io::ErrorKind::InvalidData => CloseCode::InvalidText,
        ProtocolError::Io(error) if error.to_string().contains("continuation size") => CloseCode::TooLarge,
        ProtocolError::Io(_) => CloseCode::Normal,
        _ => CloseCode::ProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<A, B, C, D, F: Future>(_task: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// It is what an idle connection costs of ours; the rest is the socket's and the HTTP server's.
    #[test]
    fn a_connections_task_is_small() {
        let size = size_of_task(run);
        assert!(size <= 4 * 1024, "{size} bytes");
    }
}
