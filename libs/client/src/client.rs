//! A client that stays: it connects, catches up, comes back after every break, and loses neither its place in a
//! conversation nor a message that it was given to send.
//!
//! What to do on what is decided by `machine`, without clock or I/O; `driver` is the one task that does it.

pub mod cursors;
mod device_queue;
mod driver;
pub mod event;
mod machine;
mod outbox;
mod pace;
mod places;
mod receipts;
pub mod tokens;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use entrenous_model::{ConversationId, DeviceId, EntryId, IdGenerator, UserId};
use entrenous_protocol::{
    Limits,
    device_message::NewDeviceMessage,
    live::ReceiptKind,
    rest::{LoginDevice, Tokens},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use self::{driver::Driver, event::Item, machine::Draft};
use crate::{Api, ApiError, Backoff, OutgoingMessage, SocketOptions, Target, frame::Stored, outgoing};

pub use self::{
    cursors::{CursorChange, CursorStore, Cursors, MemoryCursors},
    event::{End, Event, SendError, Stats, Status, Violation},
    tokens::{RefreshingTokens, RenewError, TokenSource},
};

/// Messages that wait for their `ack`, sent or not; then [`Handle::queue`] waits.
const MESSAGES_MAX: usize = 1_000;
/// Events that wait to be taken; then nothing more is read, and a server that has too much to say closes with 4400,
/// after which this client comes back and catches up.
const EVENTS_MAX: usize = 1_024;
const COMMANDS_MAX: usize = 64;

/// Who is signed in where.
#[derive(Debug, Clone)]
pub struct Login {
    /// The server. A token that it may have is not used.
    pub api: Api,
    /// The user.
    pub user_id: UserId,
    /// On which device. A device has one live connection, the newest.
    pub device_id: DeviceId,
    /// An access token; one that has ended is renewed.
    pub access_token: String,
}

impl Login {
    /// From the answer to a login or refresh.
    pub fn new(api: &Api, tokens: &Tokens) -> Self {
        Self {
            api: api.clone(),
            user_id: tokens.user.id,
            device_id: tokens.device_id,
            access_token: tokens.access_token.clone(),
        }
    }
}

/// Where conversations begin that this client has no cursor for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Begin {
    /// After what this device has acknowledged with delivery receipts; a new device where it was added.
    #[default]
    Acknowledged,
    /// At their heads when the client first connects. Conversations that begin later come whole.
    Now,
    /// At the first entry that the user may read.
    Start,
}

/// Who tells the server what is on this device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Receipts {
    /// The client, when the event after an entry is asked for.
    #[default]
    Automatic,
    /// The program, by [`Handle::acknowledge_delivery`].
    Manual,
}

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where conversations without a cursor begin.
    pub begin: Begin,
    /// Who sends delivery receipts.
    pub receipts: Receipts,
    /// The server's limits, as `GET /api/v1/limits` tells them; the protocol's defaults where nothing is set.
    pub limits: Limits,
    /// Waits between attempts to connect.
    pub backoff: Backoff,
    /// Without it every wait is as long as it may be, so that many clients come back at the same moment: for load tests.
    pub has_jitter: bool,
    /// A connection that was live for so long ends the back-off.
    pub stable_after: Duration,
    /// Entries a conversation in one `sync`; absent: the server's default.
    pub sync_limit: Option<u32>,
    /// Sizes and waits of the connection.
    pub socket: SocketOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            begin: Begin::default(),
            receipts: Receipts::default(),
            limits: Limits::default(),
            backoff: Backoff::default(),
            has_jitter: true,
            stable_after: Duration::from_secs(10),
            sync_limit: None,
            socket: SocketOptions::default(),
        }
    }
}

/// A client that stays until it is closed, dropped, or told by the server not to come back.
pub struct Client {
    handle: Handle,
    items: mpsc::Receiver<Item>,
    cursors: Box<dyn CursorStore>,
    receipts: Receipts,
    /// Of the event that the user deals with now.
    undealt: Option<Item>,
    driver: JoinHandle<()>,
}

/// Prints nothing of tokens and messages.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("handle", &self.handle).finish_non_exhaustive()
    }
}

/// Sends for a client; cheap to clone.
#[derive(Clone)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    token: watch::Receiver<Arc<str>>,
    stats: watch::Receiver<Stats>,
}

/// Prints nothing of tokens.
impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &*self.stats.borrow()).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Shared {
    end: OnceLock<End>,
    /// Not yet told to the driver.
    owed: Mutex<Owed>,
    has_owed: Notify,
    frame_bytes_max: usize,
}

/// What the program has said to have, and to have read: one number each.
#[derive(Debug, Default)]
struct Owed {
    receipts: HashMap<(ConversationId, ReceiptKind), u64>,
    device_messages_up_to: u64,
}

#[derive(Debug)]
enum Command {
    Send { draft: Draft, id: EntryId, text: Utf8Bytes, fate: Fate },
    Reconnect,
    Close,
}

/// Who waits for a message, and its place in the queue.
#[derive(Debug)]
struct Fate {
    sender: oneshot::Sender<Result<Option<Stored>, SendError>>,
    _place: OwnedSemaphorePermit,
}

/// The answer to a message that waits or is under way.
#[derive(Debug)]
pub struct PendingSend {
    fate: oneshot::Receiver<Result<Option<Stored>, SendError>>,
    shared: Arc<Shared>,
}

impl Client {
    /// Signs in by password and starts, with cursors in memory.
    ///
    /// # Errors
    /// When the server refuses the login.
    pub async fn sign_in(
        api: &Api,
        username: &str,
        password: &str,
        device: LoginDevice,
        options: Options,
    ) -> Result<Self, ApiError> {
        let tokens = api.login(username, password, device).await?;
        let source = RefreshingTokens::new(api.clone(), tokens.refresh_token.clone());
        Ok(Self::start(Login::new(api, &tokens), source, MemoryCursors, options))
    }

    /// Starts with a login. The connection comes about in the background, on the tokio runtime of the caller.
    pub fn start(login: Login, tokens: impl TokenSource, mut cursors: impl CursorStore, options: Options) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let (item_queue, items) = mpsc::channel(EVENTS_MAX);
        let (token_sender, token) = watch::channel(Arc::from(login.access_token.as_str()));
        let (stats_sender, stats) = watch::channel(Stats::default());
        let shared = Arc::new(Shared { frame_bytes_max: options.limits.frame_bytes, ..Shared::default() });
        let places = Arc::new(Semaphore::new(MESSAGES_MAX));
        let handle = Handle { commands, places, shared, token, stats };
        let receipts = options.receipts;
        let driver = Driver::new(
            login,
            tokens,
            cursors.load(),
            options,
            driver::Ends {
                commands: command_queue,
                items: item_queue,
                shared: Arc::clone(&handle.shared),
                places: Arc::clone(&handle.places),
                token: token_sender,
                stats: stats_sender,
            },
        );
        let driver = tokio::spawn(driver.run());
        Self { handle, items, cursors: Box::new(cursors), receipts, undealt: None, driver }
    }

    /// Something to send with that can be cloned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The next event; none after [`Status::Ended`]. Asking for it says that the one before has been dealt with: its
    /// cursor is kept and, with [`Receipts::Automatic`], its delivery receipt is sent.
    ///
    /// Entries of a conversation come in the order of their seqs, each once, over all connections. Somebody must take
    /// the events: when 1,024 wait, nothing more is read.
    ///
    /// # Cancellation
    /// Safe: nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            self.settle();
            let item = self.items.recv().await?;
            let event = item.event.clone();
            self.undealt = Some(item);
            if event.is_some() {
                return event;
            }
        }
    }

    /// The event before has been dealt with.
    fn settle(&mut self) {
        let Some(item) = self.undealt.take() else { return };
        if let (Some(Event::Entry(entry)), Receipts::Automatic) = (&item.event, self.receipts) {
            self.handle.acknowledge_delivery(entry.conversation_id, entry.seq);
        }
        if let Some(change) = item.change {
            self.cursors.save(change);
        }
    }

    /// Says goodbye and waits until the connection has ended. Messages that were not acknowledged end in
    /// [`SendError::Ended`]; events that were not taken are lost, and their cursors not kept.
    pub async fn close(mut self) {
        // The driver may have ended by itself.
        drop(self.handle.commands.send(Command::Close).await);
        self.items.close();
        drop((&mut self.driver).await);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.handle.shared.end.get_or_init(|| End::Closed);
        self.handle.places.close();
        self.driver.abort();
    }
}

impl Handle {
    /// Takes a message on its way, where 1,000 wait only when one of them is through. It survives every break, is
    /// repeated with the same id until the server has decided, and leaves in the order of these calls in its
    /// conversation.
    ///
    /// # Errors
    /// When the client has ended, or the message is too large for a frame.
    ///
    /// # Cancellation
    /// Safe: a call that is given up has no effect.
    pub async fn queue(&self, target: Target, message: &OutgoingMessage) -> Result<PendingSend, SendError> {
        self.queue_frame(Draft::Message(target), message.id, message.frame(target)).await
    }

    async fn queue_frame(&self, draft: Draft, id: EntryId, text: String) -> Result<PendingSend, SendError> {
        let text = Utf8Bytes::from(text);
        let (bytes, bytes_max) = (text.len(), self.shared.frame_bytes_max);
        if bytes > bytes_max {
            return Err(SendError::TooLarge { bytes, bytes_max });
        }
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| self.shared.ended())?;
        let (sender, fate) = oneshot::channel();
        let fate_of = Fate { sender, _place: place };
        let command = Command::Send { draft, id, text, fate: fate_of };
        self.commands.send(command).await.map_err(|_| self.shared.ended())?;
        Ok(PendingSend { fate, shared: Arc::clone(&self.shared) })
    }

    /// Sends a message and waits until its fate is known.
    ///
    /// # Errors
    /// When the server refuses for good, or the client ends first.
    ///
    /// # Cancellation
    /// A call that is given up leaves the message on its way.
    pub async fn send(&self, target: Target, message: &OutgoingMessage) -> Result<Stored, SendError> {
        self.queue(target, message).await?.wait().await
    }

    /// Sends messages to devices, all or none, and waits until their fate is known; on its way they are as every message
    /// is. A program that repeats them later must use the same ids. With `complete_for` the server refuses what misses a
    /// device of this user (`devices_mismatch`).
    ///
    /// # Errors
    /// As [`Handle::send`].
    ///
    /// # Cancellation
    /// A call that is given up leaves the messages on their way.
    pub async fn send_device_messages(
        &self,
        messages: &[NewDeviceMessage],
        complete_for: Option<UserId>,
    ) -> Result<(), SendError> {
        let id = IdGenerator.next();
        let text = outgoing::device_message(id, messages, complete_for);
        let PendingSend { fate, shared } = self.queue_frame(Draft::DeviceMessages, id, text).await?;
        fate.await.unwrap_or_else(|_| Err(shared.ended())).map(drop)
    }

    /// Says that the device messages up to this seq are kept on this device; not more than were told. Said again until the
    /// server has forgotten them.
    pub fn acknowledge_device_messages(&self, up_to: u64) {
        let mut owed = self.shared.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.device_messages_up_to = up_to.max(owed.device_messages_up_to);
        drop(owed);
        self.shared.has_owed.notify_one();
    }

    /// Says that everything up to `seq` is on this device: for [`Receipts::Manual`]. Receipts are gathered, and told
    /// again until the server has them.
    pub fn acknowledge_delivery(&self, conversation_id: ConversationId, seq: u64) {
        self.owe(conversation_id, ReceiptKind::Delivered, seq);
    }

    /// Says that everything up to `seq` was read, and so is on this device. Told as [`Handle::acknowledge_delivery`].
    pub fn acknowledge_read(&self, conversation_id: ConversationId, seq: u64) {
        self.owe(conversation_id, ReceiptKind::Read, seq);
    }

    fn owe(&self, conversation_id: ConversationId, kind: ReceiptKind, seq: u64) {
        let mut owed = self.shared.owed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = owed.receipts.entry((conversation_id, kind)).or_default();
        *known = seq.max(*known);
        drop(owed);
        self.shared.has_owed.notify_one();
    }

    /// Breaks the connection off and comes back as after any break; where there is none, tries at once. For programs
    /// that learn that the network is another one.
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn reconnect(&self) -> Result<(), End> {
        self.commands.send(Command::Reconnect).await.map_err(|_| self.shared.end())
    }

    /// The newest access token: for REST.
    pub fn access_token(&self) -> Arc<str> {
        Arc::clone(&self.token.borrow())
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    /// How the client ended; none while it stays.
    pub fn end(&self) -> Option<End> {
        self.shared.end.get().cloned()
    }
}

impl Shared {
    fn end(&self) -> End {
        self.end.get().cloned().unwrap_or(End::Closed)
    }

    fn ended(&self) -> SendError {
        SendError::Ended(self.end())
    }

    fn take_owed(&self) -> Owed {
        std::mem::take(&mut *self.owed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PendingSend {
    /// Waits until the message's fate is known, over as many connections as it takes.
    ///
    /// # Errors
    /// When the server refuses for good, the id waits already, or the client ends first.
    pub async fn wait(self) -> Result<Stored, SendError> {
        let fate = self.fate.await.unwrap_or_else(|_| Err(self.shared.ended()))?;
        // What is sent into a conversation is acknowledged with its place.
        fate.ok_or_else(|| self.shared.ended())
    }
}

#[cfg(test)]
mod tests;
