//! What a client sends.

use std::{rc::Rc, time::Duration};

use actix_ws::{AggregatedMessage, AggregatedMessageStream};
use entrenous_model::{ConversationId, EntryId, Timestamp, UserId};
use entrenous_protocol::{
    Act, CloseCode, Failure, NewMessage,
    entry::ConversationKind,
    frame::{self, ClientFrame, Rejected},
    live::Typing,
    rpc::{
        store::{
            ActRequest, AppendMessage, ConversationRequest, FrameOrigin, GetConversation, Schedule, ScheduleRequest,
            ScheduleResponse,
        },
        tracker::CursorAdvance,
    },
};
use futures::StreamExt;
use tokio::time::Instant;

use super::{Connection, clock::Clock};
use crate::{
    connection::{Mode, View, device_work::DeviceWork, handshake, outbox::Outgoing},
    presence::watching,
    sends::{MembershipChange, ReplyTo, SendResult, Sends},
    typing,
    worker::Worker,
};

/// Conversations that `unsubscribe` may name before the connection has seen them.
const VIEWS_MAX: usize = 10_000;

/// Counts frames in windows of a second.
struct Rate {
    max: u32,
    count: u32,
    since: Instant,
}

impl Rate {
    fn is_exceeded(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.count, self.since) = (0, now);
        }
        self.count += 1;
        self.count > self.max
    }
}

/// Reads until the client leaves or must be closed.
pub(super) async fn run(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    clock: &Clock,
    stream: &mut AggregatedMessageStream,
) -> CloseCode {
    let mut rate = Rate { max: worker.gateway.limits.frames_per_second, count: 0, since: Instant::now() };
    loop {
        let message = match stream.next().await {
            Some(Ok(message)) => message,
            Some(Err(error)) => return super::close_code_of(&error),
            None => return CloseCode::Normal,
        };
        clock.heard();
        if rate.is_exceeded() {
            metrics::counter!("chat_rate_limit_exceeded_total", "action_type" => "frame").increment(1);
            return CloseCode::TooManyFrames;
        }
        match message {
            AggregatedMessage::Text(text) => {
                if let Err(code) = on_text(worker, connection, clock, &text).await {
                    return code;
                }
            }
            AggregatedMessage::Binary(_) => return CloseCode::Unsupported,
            AggregatedMessage::Ping(bytes) => connection.outbox.push(Outgoing::Pong(bytes)),
            AggregatedMessage::Pong(_) => {}
            AggregatedMessage::Close(_) => return CloseCode::Normal,
        }
    }
}

async fn on_text(worker: &Rc<Worker>, connection: &Rc<Connection>, clock: &Clock, text: &str) -> Result<(), CloseCode> {
    let (id, frame) = match frame::parse(text, &worker.gateway.limits) {
        Ok(parsed) => parsed,
        Err(Rejected { id, failure }) => {
            metrics::counter!("chat_errors_total", "type" => failure.code.as_str(), "severity" => "client")
                .increment(1);
            connection.send(failure.frame(id));
            return Ok(());
        }
    };
    match frame {
        // Boxed, like all that is rare: a connection's task is as large as the largest thing that it ever awaits.
        ClientFrame::Authenticate { token } => return Box::pin(renew(worker, connection, clock, id, &token)).await,
        ClientFrame::ChatMessage { to, message, send_at } => {
            let conversation = ConversationId::direct(connection.user_id, to);
            return send(worker, connection, conversation, Some(to), *message, send_at);
        }
        ClientFrame::GroupMessage { conversation_id, message, send_at } => {
            return send(worker, connection, conversation_id, None, *message, send_at);
        }
        ClientFrame::Act { conversation_id, act } => return perform(worker, connection, id, conversation_id, *act),
        ClientFrame::JoinConversation { conversation_id } => {
            return change_membership(worker, connection, id, conversation_id, true);
        }
        ClientFrame::LeaveConversation { conversation_id } => {
            return change_membership(worker, connection, id, conversation_id, false);
        }
        ClientFrame::DeliveryReceipt { conversation_id, seq } => {
            receipt(worker, connection, id, conversation_id, (seq, 0));
        }
        ClientFrame::ReadReceipt { conversation_id, seq } => {
            receipt(worker, connection, id, conversation_id, (seq, seq));
        }
        ClientFrame::TypingIndicator { conversation_id, typing } => {
            note_typing(worker, connection, id, conversation_id, typing);
        }
        ClientFrame::StatusUpdate(choice) => {
            return connection.request_device_work(id, DeviceWork::SetStatus(choice), sends_max(worker));
        }
        ClientFrame::WatchStatus { user_ids } => match watching::watch(worker, connection, &user_ids) {
            Ok(()) => acknowledge(connection, id),
            Err(failure) => connection.send(failure.frame(id)),
        },
        ClientFrame::UnwatchStatus { user_ids } => {
            watching::unwatch(worker, connection, &user_ids);
            acknowledge(connection, id);
        }
        ClientFrame::Subscribe { conversation_ids } => {
            set_unsubscribed(connection, &conversation_ids, false);
            acknowledge(connection, id);
        }
        ClientFrame::Unsubscribe { conversation_ids } => {
            for conversation in &conversation_ids {
                if connection.knows(*conversation) {
                    worker.fanout.borrow_mut().pause(connection, *conversation);
                }
            }
            set_unsubscribed(connection, &conversation_ids, true);
            acknowledge(connection, id);
        }
        ClientFrame::DeviceMessage(batch) => {
            return connection.request_device_work(id, DeviceWork::Send(batch), sends_max(worker));
        }
        ClientFrame::DeviceMessageAck { up_to } => {
            return connection.request_device_work(id, DeviceWork::Acknowledge { up_to }, sends_max(worker));
        }
        ClientFrame::Sync(sync) => connection.request_sync(id, sync),
        ClientFrame::Ping => connection.send(frame::pong(id)),
    }
    Ok(())
}

fn sends_max(worker: &Worker) -> usize {
    worker.gateway.limits.sends_awaiting_ack
}

fn acknowledge(connection: &Connection, id: Option<EntryId>) {
    if let Some(id) = id {
        connection.send(frame::ack(id));
    }
}

/// A fresh token on a connection that goes on. It must speak for the same user and device.
async fn renew(
    worker: &Worker,
    connection: &Connection,
    clock: &Clock,
    id: Option<EntryId>,
    token: &str,
) -> Result<(), CloseCode> {
    match worker.gateway.authenticate(token).await {
        Ok(claims) if claims.sub == connection.user_id && claims.device_id == connection.device_id => {
            connection.login_id.set(claims.sid);
            clock.renew(&worker.gateway, claims.exp);
            acknowledge(connection, id);
            Ok(())
        }
        Ok(_) => Err(CloseCode::TokenInvalid),
        Err(failure) => match handshake::close_code_of(&failure) {
            CloseCode::Restart => {
                connection.send(failure.frame(id));
                Ok(())
            }
            code => Err(code),
        },
    }
}

fn send(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    conversation_id: ConversationId,
    direct_with: Option<UserId>,
    message: NewMessage,
    send_at: Option<Timestamp>,
) -> Result<(), CloseCode> {
    check_window(worker, connection)?;
    let id = message.id;
    let bytes = f64::from(u32::try_from(message.content.get().len()).unwrap_or(u32::MAX));
    let kind = if direct_with.is_some() { "chat_message" } else { "group_message" };
    metrics::counter!("chat_messages_received_total", "type" => kind).increment(1);
    metrics::histogram!("chat_message_size_bytes", "type" => kind).record(bytes);
    connection.note_send(id, conversation_id);
    let message = AppendMessage {
        conversation_id,
        direct_with,
        sender_id: connection.user_id,
        sender_device_id: connection.device_id,
        origin: connection.origin,
        message,
        trace: None,
    };
    match send_at {
        Some(send_at) => {
            let scheduling = schedule(Rc::clone(worker), Rc::clone(connection), message, send_at);
            drop(actix_web::rt::spawn(scheduling));
        }
        None => hand_over(worker, connection, Some(id), |sends, reply| sends.submit(message, reply)),
    }
    Ok(())
}

/// Has a message kept until its time. One that is due is sent as any other, after what was sent meanwhile.
async fn schedule(worker: Rc<Worker>, connection: Rc<Connection>, message: AppendMessage, send_at: Timestamp) {
    let (id, conversation_id) = (message.message.id, message.conversation_id);
    let request = ScheduleRequest { message, send_at };
    let result = match worker.gateway.call::<Schedule>(&request).await {
        Ok(ScheduleResponse::Due) => {
            let submit = |sends: &Sends, reply| sends.submit(request.message, reply);
            return hand_over(&worker, &connection, Some(id), submit);
        }
        Ok(ScheduleResponse::Sent { stored, .. }) => Ok(Some(stored)),
        Ok(ScheduleResponse::Kept(_)) => Ok(None),
        Err(failure) => Err(failure),
    };
    let origin = connection.origin;
    worker.on_sent(&SendResult { origin, conversation_id, id: Some(id), is_counted: false, result });
}

/// Something done with a message.
fn perform(
    worker: &Worker,
    connection: &Connection,
    id: Option<EntryId>,
    conversation_id: ConversationId,
    act: Act,
) -> Result<(), CloseCode> {
    let request = ActRequest {
        conversation_id,
        caller: connection.user_id,
        device_id: connection.device_id,
        origin: connection.origin,
        id: id.unwrap_or_else(|| worker.gateway.ids.next()),
        act,
        not_after: None,
    };
    submit(worker, connection, id, conversation_id, |sends, reply| sends.submit_act(request, reply))
}

/// The user comes into a conversation, or leaves it.
fn change_membership(
    worker: &Worker,
    connection: &Connection,
    id: Option<EntryId>,
    conversation_id: ConversationId,
    is_join: bool,
) -> Result<(), CloseCode> {
    let entry_id = id.unwrap_or_else(|| worker.gateway.ids.next());
    let frame = FrameOrigin { entry_id, device_id: connection.device_id, origin: connection.origin };
    let change = MembershipChange { conversation_id, user_id: connection.user_id, is_join, frame };
    submit(worker, connection, id, conversation_id, |sends, reply| sends.submit_membership(change, reply))
}

/// Puts something on its way; it comes after what this connection sent into the conversation before it.
fn submit(
    worker: &Worker,
    connection: &Connection,
    id: Option<EntryId>,
    conversation_id: ConversationId,
    submit: impl FnOnce(&Sends, ReplyTo) -> Result<(), Failure>,
) -> Result<(), CloseCode> {
    check_window(worker, connection)?;
    if let Some(id) = id {
        connection.note_send(id, conversation_id);
    }
    hand_over(worker, connection, id, submit);
    Ok(())
}

fn hand_over(
    worker: &Worker,
    connection: &Connection,
    id: Option<EntryId>,
    submit: impl FnOnce(&Sends, ReplyTo) -> Result<(), Failure>,
) {
    let reply = ReplyTo::Connection { worker: worker.events.clone(), origin: connection.origin, id };
    if let Err(failure) = submit(&worker.gateway.sends, reply) {
        if let Some(id) = id {
            connection.forget_send(id);
        }
        connection.send(failure.frame(id));
    }
}

/// So many may await their ack, and no more.
fn check_window(worker: &Worker, connection: &Connection) -> Result<(), CloseCode> {
    if connection.pending_count() >= sends_max(worker) {
        metrics::counter!("chat_rate_limit_exceeded_total", "action_type" => "send").increment(1);
        return Err(CloseCode::TooManyFrames);
    }
    Ok(())
}

/// Notes how far the device and the user are (delivered, read), cut to the head. A conversation that is not live on this
/// connection is asked for.
fn receipt(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    id: Option<EntryId>,
    conversation_id: ConversationId,
    (delivered_seq, read_seq): (u64, u64),
) {
    let head = worker.fanout.borrow().head(conversation_id).filter(|_| connection.mode(conversation_id) == Mode::Live);
    let note = move |worker: &Worker, connection: &Connection, head: u64| {
        worker.gateway.receipts.note(CursorAdvance {
            user_id: connection.user_id,
            device_id: connection.device_id,
            conversation_id,
            delivered_seq: delivered_seq.min(head),
            read_seq: read_seq.min(head),
            sent_seq: 0,
        });
        acknowledge(connection, id);
    };
    if let Some(head) = head {
        note(worker, connection, head);
        return;
    }
    let (worker, connection) = (Rc::clone(worker), Rc::clone(connection));
    actix_web::rt::spawn(async move {
        let request = ConversationRequest { caller: connection.user_id, conversation_id };
        match worker.gateway.call::<GetConversation>(&request).await {
            Ok(conversation) => note(&worker, &connection, conversation.last_seq),
            Err(failure) => connection.send(failure.frame(id)),
        }
    });
}

/// Typing where the user is a member: told to nobody in channels. What is not live on this connection is asked for.
fn note_typing(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    id: Option<EntryId>,
    conversation_id: ConversationId,
    typing: bool,
) {
    let note = move |worker: &Worker, connection: &Connection| {
        let said = Typing { conversation_id, user_id: connection.user_id, typing };
        let told = worker.typists.borrow_mut().note(connection.origin, said, Instant::now());
        typing::tell(&worker.gateway, told.into_iter().collect());
        acknowledge(connection, id);
    };
    if connection.mode(conversation_id) == Mode::Live {
        if worker.fanout.borrow().is_channel(conversation_id) {
            acknowledge(connection, id);
        } else {
            note(worker, connection);
        }
        return;
    }
    let (worker, connection) = (Rc::clone(worker), Rc::clone(connection));
    actix_web::rt::spawn(async move {
        let request = ConversationRequest { caller: connection.user_id, conversation_id };
        match worker.gateway.call::<GetConversation>(&request).await {
            Ok(found) if found.kind == ConversationKind::Channel => acknowledge(&connection, id),
            // Who has left meanwhile types no more.
            Ok(_) if worker.fanout.borrow().connection(connection.origin).is_some() => note(&worker, &connection),
            Ok(_) => {}
            Err(failure) => connection.send(failure.frame(id)),
        }
    });
}

fn set_unsubscribed(connection: &Connection, conversations: &[ConversationId], is_unsubscribed: bool) {
    let mut views = connection.views.borrow_mut();
    for conversation in conversations {
        if let Some(view) = views.get_mut(conversation) {
            view.is_unsubscribed = is_unsubscribed;
        } else if is_unsubscribed && views.len() < VIEWS_MAX {
            views.insert(*conversation, View { mode: Mode::Paused, is_unsubscribed, last_sent: 0 });
        }
    }
}
