//! The one task of a client: tells the machine what happens and does what it says.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use entrenous_model::{ConversationId, EntryId};
use entrenous_protocol::Code;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{
    Command, Cursors, EVENTS_MAX, Fate, Login, Options, Owed, SendError, Shared, Stats,
    event::Item,
    machine::{Action, ListError, Machine},
    receipts::Receipt,
    tokens::{RenewError, TokenSource},
};
use crate::{
    Api, ApiError, ClosedError, ConnectError, Credential, Socket, SocketOptions, connection,
    frame::{self, Connected},
};

/// How long the network may take to accept what is written.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// How long a goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Heads = Result<Vec<(ConversationId, u64)>, ListError>;

/// What connects the driver with the client and its handles.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) items: mpsc::Sender<Item>,
    pub(super) shared: Arc<Shared>,
    pub(super) places: Arc<Semaphore>,
    pub(super) token: watch::Sender<Arc<str>>,
    pub(super) stats: watch::Sender<Stats>,
}

pub(super) struct Driver<T> {
    machine: Machine,
    began: Instant,
    api: Api,
    socket_options: SocketOptions,
    ends: Ends,
    socket: Option<Socket>,
    opening: Option<Job<Result<(Socket, Connected), ConnectError>>>,
    /// None while it is asked.
    tokens: Option<T>,
    renewing: Option<Job<(T, Result<String, RenewError>)>>,
    listing: Option<Job<Heads>>,
    fates: HashMap<EntryId, Fate>,
    /// Events for which the channel has no room.
    items: VecDeque<Item>,
}

impl<T: TokenSource> Driver<T> {
    pub(super) fn new(login: Login, tokens: T, cursors: Cursors, options: Options, ends: Ends) -> Self {
        let socket_options = options.socket;
        Self {
            machine: Machine::new(login.user_id, login.device_id, cursors, options, rand::random()),
            began: Instant::now(),
            api: login.api,
            socket_options,
            ends,
            socket: None,
            opening: None,
            tokens: Some(tokens),
            renewing: None,
            listing: None,
            fates: HashMap::new(),
            items: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) {
        while self.machine.end().is_none() {
            self.step().await;
            self.act().await;
        }
        if let Some(end) = self.machine.end() {
            self.ends.shared.end.get_or_init(|| end.clone());
        }
        // In this order: who finds the queue closed finds out why.
        self.ends.places.close();
        drop(self.ends.commands);
        drop(self.fates);
        for item in self.items {
            if self.ends.items.send(item).await.is_err() {
                return;
            }
        }
    }

    /// Waits until something happens, and tells it.
    async fn step(&mut self) {
        let is_listening = self.items.len() < EVENTS_MAX;
        self.machine.set_listening(self.now(), is_listening);
        let deadline = self.machine.deadline().map(|at| self.began + at);
        tokio::select! {
            read = read(self.socket.as_mut()), if is_listening => self.on_read(read),
            () = sleep_until(deadline.unwrap_or(self.began)), if deadline.is_some() => self.machine.on_time(self.now()),
            command = self.ends.commands.recv() => self.obey(command.unwrap_or(Command::Close)),
            () = self.ends.shared.has_owed.notified() => {
                let Owed { receipts, device_messages_up_to } = self.ends.shared.take_owed();
                for ((conversation, kind), seq) in receipts {
                    self.machine.owe_receipt(self.now(), Receipt { kind, conversation, seq });
                }
                if device_messages_up_to > 0 {
                    self.machine.acknowledge_device_messages(self.now(), device_messages_up_to);
                }
            }
            () = wait_for_room(&self.ends.items), if !self.items.is_empty() => {
                for item in std::mem::take(&mut self.items) {
                    self.tell(item);
                }
            }
            opened = finish(&mut self.opening) => match opened {
                Ok((socket, connected)) => {
                    self.socket = Some(socket);
                    self.machine.on_opened(self.now(), connected);
                }
                Err(error) => self.machine.on_open_failed(self.now(), error),
            },
            (tokens, token) = finish(&mut self.renewing) => {
                self.tokens = Some(tokens);
                if let Ok(token) = &token {
                    self.ends.token.send_replace(Arc::from(token.as_str()));
                }
                self.machine.on_token(self.now(), token);
            }
            heads = finish(&mut self.listing) => self.machine.on_heads(self.now(), heads),
        }
    }

    fn on_read(&mut self, read: Result<Utf8Bytes, ClosedError>) {
        let now = self.now();
        let frame = read.map(|text| frame::parse(&text));
        match frame {
            Ok(Ok(frame)) => self.machine.on_frame(now, frame),
            Ok(Err(error)) => {
                self.socket = None;
                self.machine.on_closed(now, ClosedError { code: None, reason: error.to_string() });
            }
            Err(end) => {
                self.socket = None;
                self.machine.on_closed(now, end);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let now = self.now();
        match command {
            Command::Send { draft, id, text, fate } => match self.fates.entry(id) {
                // Who no longer waits does not mind, here and below.
                hash_map::Entry::Occupied(_) => drop(fate.sender.send(Err(SendError::Duplicate { id }))),
                hash_map::Entry::Vacant(entry) => {
                    entry.insert(fate);
                    self.machine.send(now, draft, id, text);
                }
            },
            Command::Reconnect => self.machine.reconnect(now),
            Command::Close => self.machine.close(),
        }
    }

    /// Does what the machine says.
    async fn act(&mut self) {
        loop {
            let mut has_written = false;
            while let Some(action) = self.machine.next_action() {
                has_written |= matches!(action, Action::Transmit(_));
                self.do_one(action).await;
            }
            if !has_written {
                break;
            }
            // Should it fail, more is to be done.
            self.write(None).await;
        }
        let stats = self.machine.stats();
        self.ends.stats.send_if_modified(|known| std::mem::replace(known, stats) != stats);
    }

    async fn do_one(&mut self, action: Action) {
        match action {
            Action::Transmit(text) => self.write(Some(text)).await,
            Action::Tell(item) => self.tell(*item),
            Action::Resolve(id, result) => {
                if let Some(fate) = self.fates.remove(&id) {
                    drop(fate.sender.send(result));
                }
            }
            Action::Open => self.opening = Some(self.open()),
            Action::Drop => self.socket = None,
            Action::Close => {
                if let Some(mut socket) = self.socket.take() {
                    // A network that takes nothing needs no goodbye.
                    drop(timeout(GOODBYE_MAX, socket.close()).await);
                }
            }
            Action::RenewToken => self.renew(),
            Action::ListHeads => {
                let api = self.api.with_token(&self.ends.token.borrow());
                self.listing = Some(Box::pin(list_heads(api)));
            }
        }
    }

    /// Queues a text for writing, or writes what is queued.
    async fn write(&mut self, text: Option<Utf8Bytes>) {
        let Some(socket) = &mut self.socket else { return };
        let writing = async {
            match text {
                Some(text) => socket.feed(text).await,
                None => socket.flush().await,
            }
        };
        let late = || ClosedError { code: None, reason: "the network takes nothing".to_owned() };
        let written = timeout(WRITE_MAX, writing).await.unwrap_or_else(|_| Err(late()));
        if let Err(end) = written {
            self.lose(end).await;
        }
    }

    /// A write failed: the server may have said why before it closed.
    async fn lose(&mut self, mut end: ClosedError) {
        if let Some(mut socket) = self.socket.take() {
            while let Ok(read) = timeout(Duration::ZERO, socket.next()).await {
                match read.map(|text| frame::parse(&text)) {
                    Ok(Ok(frame)) => self.machine.on_frame(self.now(), frame),
                    Ok(Err(_)) => break,
                    Err(closed) => {
                        end = closed;
                        break;
                    }
                }
            }
        }
        self.machine.on_closed(self.now(), end);
    }

    fn tell(&mut self, item: Item) {
        if !self.items.is_empty() {
            return self.items.push_back(item);
        }
        // Where nobody takes events any more the commands say so too.
        if let Err(mpsc::error::TrySendError::Full(item)) = self.ends.items.try_send(item) {
            self.items.push_back(item);
        }
    }

    fn open(&self) -> Job<Result<(Socket, Connected), ConnectError>> {
        let credential = Credential::Header(self.ends.token.borrow().to_string());
        let (base, options) = (self.api.base().clone(), self.socket_options);
        Box::pin(async move { connection::open(&base, &credential, options).await })
    }

    fn renew(&mut self) {
        // The machine asks for one at a time.
        if let Some(mut tokens) = self.tokens.take() {
            self.renewing = Some(Box::pin(async move {
                let token = tokens.renew().await;
                (tokens, token)
            }));
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

/// Returns too when nobody takes the events any more: then the commands end as well.
async fn wait_for_room(items: &mpsc::Sender<Item>) {
    drop(items.reserve().await);
}

async fn read(socket: Option<&mut Socket>) -> Result<Utf8Bytes, ClosedError> {
    match socket {
        Some(socket) => socket.next().await,
        None => pending().await,
    }
}

/// Waits for a job and takes it away; for ever where there is none.
async fn finish<T>(job: &mut Option<Job<T>>) -> T {
    let done = match job {
        Some(job) => job.await,
        None => pending().await,
    };
    *job = None;
    done
}

async fn list_heads(api: Api) -> Heads {
    let mut heads = Vec::new();
    let mut cursor = None;
    loop {
        let page = api.conversations(cursor.as_deref()).await.map_err(|error| list_error(&error))?;
        heads.extend(page.items.iter().map(|conversation| (conversation.id, conversation.last_seq)));
        cursor = page.next;
        if !page.has_more || cursor.is_none() {
            return Ok(heads);
        }
    }
}

fn list_error(error: &ApiError) -> ListError {
    ListError { is_token: error.is(Code::TokenExpired) || error.is(Code::Unauthenticated) }
}
