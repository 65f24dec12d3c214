//! A PostgreSQL, a nats-server, replicas of the service, an identity that knows everybody but strangers, and a gateway that
//! asks.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};
use entrenous_bus::{Bus, NatsConfig, ServeOptions};
use entrenous_config::Secret;
use entrenous_local_servers::permissions::Service as NatsService;
use entrenous_message_store::{Config, MIGRATIONS, Service};
use entrenous_model::{ConversationId, DeviceId, EntryId, IdGenerator, UserId};
use entrenous_protocol::{
    Failure, Limits, NewMessage,
    entry::{ConversationKind, Encryption, MemberContent, Role},
    message::MessageFields,
    rest::{Conversation, CreateConversation, Member, MessagesFrom, Page, User, UserRole, VisibleTo},
    rpc::{
        Method,
        identity::{Users, UsersRequest},
        store::{
            AddMember, AddMemberRequest, Append, AppendMessage, AppendRequest, AppendResult, Create, CreateRequest,
            ListMembers, ListMembersRequest, MEMBERS_PAGE_MAX, Range, RangeRead, ReadRanges, ReadRangesRequest,
            RemoveMember, RemoveMemberRequest, Stored,
        },
    },
};
use entrenous_runtime::{Readiness, Shutdown, Tasks};
use entrenous_test_support::{TestNats, TestPostgres, wait_for};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(20);
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
/// Users from here on do not exist.
const STRANGERS: u128 = 1_000_000;

pub(crate) struct Fixture {
    pub(crate) gateway: Bus,
    pub(crate) nats: TestNats,
    pub(crate) postgres: TestPostgres,
    identity: Bus,
    stop: Shutdown,
}

/// A replica; stopped and found well at the end of a test by [`Replica::stop`].
pub(crate) struct Replica {
    readiness: Readiness,
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

pub(crate) async fn database() -> TestPostgres {
    let migrate = async |url: String| entrenous_db::migrate(&url, MIGRATIONS).await.map(drop);
    TestPostgres::with_schema("messaging", migrate).await.unwrap()
}

pub(crate) async fn connect(postgres: &TestPostgres) -> AsyncPgConnection {
    AsyncPgConnection::establish(&postgres.url()).await.unwrap()
}

impl Fixture {
    /// With one replica and identity.
    pub(crate) async fn start() -> (Self, Replica) {
        let fixture = Self::without_identity().await;
        fixture.serve_identity().await;
        let replica = fixture.replica().await;
        (fixture, replica)
    }

    /// With one replica and identity, on a nats-server on which everybody may hear everything.
    pub(crate) async fn start_open() -> (Self, Replica) {
        let fixture = Self::open().await;
        fixture.serve_identity().await;
        let replica = fixture.replica().await;
        (fixture, replica)
    }

    /// On a nats-server on which everybody may hear everything; nobody is there yet.
    pub(crate) async fn open() -> Self {
        Self::on(TestNats::start().await.unwrap()).await
    }

    pub(crate) async fn without_identity() -> Self {
        Self::on(TestNats::with_permissions().await.unwrap()).await
    }

    async fn on(nats: TestNats) -> Self {
        let postgres = database().await;
        let gateway = Bus::connect(&credential(&nats, NatsService::Gateway), "gateway").await.unwrap();
        let identity = Bus::connect(&credential(&nats, NatsService::Identity), "identity").await.unwrap();
        Self { gateway, nats, postgres, identity, stop: Shutdown::new() }
    }

    pub(crate) async fn serve_identity(&self) {
        let handler = async |request: UsersRequest, _| Ok(request.ids.into_iter().filter_map(known_user).collect());
        self.identity.serve::<Users, _, _>(&Tasks::new(), &self.stop, ServeOptions::default(), handler).await.unwrap();
    }

    /// Starts a replica and waits until it is ready.
    pub(crate) async fn replica(&self) -> Replica {
        Self::serve(self.build().await).await
    }

    /// A replica that does nothing more after each commit.
    pub(crate) async fn dying_replica(&self) -> Replica {
        Self::serve(self.build().await.dying_after_commits()).await
    }

    /// A replica with more settings.
    pub(crate) async fn replica_with(&self, settings: &[(&str, &str)]) -> Replica {
        Self::serve(self.build_with(settings).await).await
    }

    async fn build(&self) -> Service {
        self.build_with(&[]).await
    }

    async fn build_with(&self, settings: &[(&str, &str)]) -> Service {
        let pairs = [
            ("DATABASE_URL", self.postgres.url()),
            ("DATABASE_CONNECTIONS_MAX", "8".to_owned()),
            ("ENTRY_DIGEST_KEY", KEY.to_owned()),
            ("GROUP_MEMBERS_MAX", "8".to_owned()),
            ("CHANNEL_MEMBERS_MAX", "400".to_owned()),
            ("CONVERSATIONS_PER_USER_MAX", "5".to_owned()),
            ("SCHEDULED_MESSAGES_MAX", "8".to_owned()),
            ("NATS_URL", self.nats.url()),
            ("NATS_USER", NatsService::MessageStore.name().to_owned()),
            ("NATS_PASSWORD", TestNats::password(NatsService::MessageStore)),
        ];
        let more = settings.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let pairs: Vec<_> = pairs.into_iter().chain(more).map(|(name, value)| (name.to_owned(), value)).collect();
        let config: Config = entrenous_config::from_pairs(&pairs).unwrap();
        Service::build(&config).await.unwrap()
    }

    async fn serve(service: Service) -> Replica {
        let (readiness, shutdown) = (service.readiness(), Shutdown::new());
        let task = tokio::spawn(service.serve(shutdown.clone()));
        let replica = Replica { readiness, shutdown, task };
        replica.becomes_ready(true).await;
        replica
    }

    pub(crate) async fn call<M: Method>(&self, request: &M::Request) -> Result<M::Response, Failure> {
        self.gateway.call::<M>(request, ANSWER_MAX).await
    }

    pub(crate) async fn append(&self, messages: Vec<AppendMessage>) -> Vec<AppendResult> {
        self.call::<Append>(&AppendRequest { messages, not_after: None }).await.unwrap().results
    }

    pub(crate) async fn append_one(&self, message: AppendMessage) -> AppendResult {
        self.append(vec![message]).await.pop().unwrap()
    }

    pub(crate) async fn send(&self, message: AppendMessage) -> Stored {
        stored(&self.append_one(message).await)
    }

    /// A group of this user and others, made by the first.
    pub(crate) async fn group(&self, users: &[u128]) -> Conversation {
        self.create(user(users[0]), group_of(&users[1..])).await.unwrap()
    }

    /// A group in clear text of this user and others.
    pub(crate) async fn clear_group(&self, users: &[u128]) -> ConversationId {
        let group = CreateConversation { encryption: Encryption::None, ..group_of(&users[1..]) };
        self.create(user(users[0]), group).await.unwrap().id
    }

    pub(crate) async fn create(
        &self,
        caller: UserId,
        conversation: CreateConversation,
    ) -> Result<Conversation, Failure> {
        self.call::<Create>(&CreateRequest { caller, conversation }).await.map(|created| created.conversation)
    }

    pub(crate) async fn add(
        &self,
        caller: u128,
        conversation_id: ConversationId,
        added: u128,
        role: Option<Role>,
    ) -> Result<Member, Failure> {
        let request = AddMemberRequest { caller: user(caller), conversation_id, user_id: user(added), role };
        self.call::<AddMember>(&request).await
    }

    pub(crate) async fn remove(
        &self,
        caller: u128,
        conversation_id: ConversationId,
        removed: u128,
    ) -> Result<(), Failure> {
        let request =
            RemoveMemberRequest { caller: user(caller), conversation_id, user_id: user(removed), frame: None };
        self.call::<RemoveMember>(&request).await.map(drop)
    }

    /// The first page of the members.
    pub(crate) async fn members(&self, caller: u128, conversation_id: ConversationId) -> Result<Page<Member>, Failure> {
        let request =
            ListMembersRequest { caller: user(caller), conversation_id, after: None, limit: MEMBERS_PAGE_MAX };
        self.call::<ListMembers>(&request).await
    }

    /// The log as a reader sees it.
    pub(crate) async fn log(&self, reader: Option<u128>, conversation_id: ConversationId) -> RangeRead {
        let request = ReadRangesRequest {
            reader: reader.map(user),
            ranges: vec![Range { conversation_id, after: 0, limit: 1_000, leaves_after: 0 }],
            bytes_max: 8 << 20,
        };
        self.call::<ReadRanges>(&request).await.unwrap().pop().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.trigger();
    }
}

impl Replica {
    pub(crate) async fn becomes_ready(&self, is_wanted: bool) {
        let is_so = async || {
            let checks = self.readiness.checks();
            if checks.values().all(|is_good| *is_good) == is_wanted { Ok(()) } else { Err(format!("{checks:?}")) }
        };
        wait_for("the readiness to change", is_so).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

pub(crate) fn credential(nats: &TestNats, service: NatsService) -> NatsConfig {
    NatsConfig {
        nats_url: nats.url(),
        nats_user: Some(service.name().to_owned()),
        nats_password: Some(Secret::new(TestNats::password(service))),
    }
}

fn known_user(id: UserId) -> Option<User> {
    (id.as_uuid().as_u128() < STRANGERS).then(|| User {
        id,
        username: format!("user{}", id.as_uuid().as_u128()),
        display_name: None,
        email: None,
        role: UserRole::User,
        created_at: chrono::DateTime::UNIX_EPOCH.into(),
        presence_visible_to: VisibleTo::default(),
        messages_from: MessagesFrom::default(),
    })
}

pub(crate) fn user(number: u128) -> UserId {
    Uuid::from_u128(number).into()
}

/// The first device of a user.
pub(crate) fn device(number: u128) -> DeviceId {
    Uuid::from_u128((1 << 64) + number).into()
}

pub(crate) fn stranger() -> u128 {
    STRANGERS
}

pub(crate) fn group_of(others: &[u128]) -> CreateConversation {
    CreateConversation {
        title: Some("title".to_owned()),
        members: others.iter().copied().map(user).collect(),
        ..CreateConversation::of(ConversationKind::Group)
    }
}

/// A channel of others besides its maker.
pub(crate) fn channel_of(others: &[u128]) -> CreateConversation {
    CreateConversation { kind: ConversationKind::Channel, ..group_of(others) }
}

pub(crate) fn new_message(json: &str) -> NewMessage {
    let fields: MessageFields = serde_json::from_str(json).unwrap();
    fields.check(IdGenerator.next(), &Limits::default()).unwrap()
}

/// A message in clear text.
pub(crate) fn clear(text: &str) -> NewMessage {
    new_message(&serde_json::json!({"content": {"text": text}}).to_string())
}

pub(crate) fn sealed(ciphertext: &str) -> NewMessage {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let ciphertext = STANDARD.encode(ciphertext);
    new_message(&format!(r#"{{"content":{{"scheme":"mls","ciphertext":"{ciphertext}"}}}}"#))
}

/// A message of a user's first device into a conversation.
pub(crate) fn into(conversation_id: ConversationId, sender: u128, message: NewMessage) -> AppendMessage {
    AppendMessage {
        conversation_id,
        direct_with: None,
        sender_id: user(sender),
        sender_device_id: device(sender),
        origin: 7,
        message,
        trace: None,
    }
}

/// A message of a user's first device to another user.
pub(crate) fn to(other: u128, sender: u128, message: NewMessage) -> AppendMessage {
    let conversation_id = ConversationId::direct(user(sender), user(other));
    AppendMessage { direct_with: Some(user(other)), ..into(conversation_id, sender, message) }
}

pub(crate) fn stored(result: &AppendResult) -> Stored {
    match result {
        AppendResult::Stored(stored) => *stored,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn refused(result: &AppendResult) -> entrenous_protocol::Code {
    match result {
        AppendResult::Refused(failure) => failure.code,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn seqs(read: &RangeRead) -> Vec<u64> {
    read.entries.iter().map(|entry| entry.seq).collect()
}

pub(crate) fn ids(read: &RangeRead) -> Vec<EntryId> {
    read.entries.iter().map(|entry| entry.id).collect()
}

pub(crate) fn payload(frame: &entrenous_protocol::RawValue) -> entrenous_protocol::Entry {
    serde_json::from_str(entrenous_protocol::entry::frame_payload(frame).unwrap().get()).unwrap()
}

pub(crate) fn member_content(entry: &entrenous_protocol::Entry) -> MemberContent {
    serde_json::from_str(entry.content.as_ref().unwrap().get()).unwrap()
}
