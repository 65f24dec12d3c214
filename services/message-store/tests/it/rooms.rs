//! Groups and channels: settings, roles, bans, invites, joins, and their end.

mod bans;
mod deletion;
mod invites;
mod joins;
mod matrix;
mod roles;
mod settings;

use entrenous_model::{ConversationId, EntryId, UserId};
use entrenous_protocol::{
    Code, EntryKind, Failure,
    entry::Role,
    rest::{Conversation, ConversationPatch, CreateConversation, Invite, Member, NewInvite},
    rpc::store::{
        BanMember, ConversationRequest, CreateInvite, CreateInviteRequest, FrameOrigin, GetConversation, Join, JoinBy,
        JoinRequest, ListBans, ListInvites, ListMembersRequest, MemberRequest, MembershipChanged, SetOwnSettings,
        SetOwnSettingsRequest, SetRole, SetRoleRequest, UpdateConversation, UpdateConversationRequest,
    },
};
use serde_json::{Map, Value, json};

use crate::{
    fixture::{Fixture, channel_of, device, payload, user},
    function::count,
};

fn patch(value: Value) -> ConversationPatch {
    serde_json::from_value(value).unwrap()
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> Code {
    outcome.unwrap_err().code
}

impl Fixture {
    async fn update(&self, caller: u128, id: ConversationId, change: Value) -> Result<Conversation, Failure> {
        let request = UpdateConversationRequest { caller: user(caller), conversation_id: id, patch: patch(change) };
        self.call::<UpdateConversation>(&request).await
    }

    async fn get(&self, caller: u128, conversation_id: ConversationId) -> Result<Conversation, Failure> {
        self.call::<GetConversation>(&ConversationRequest { caller: user(caller), conversation_id }).await
    }

    async fn give(
        &self,
        caller: u128,
        conversation_id: ConversationId,
        number: u128,
        role: Role,
    ) -> Result<Member, Failure> {
        let request = SetRoleRequest { caller: user(caller), conversation_id, user_id: user(number), role };
        self.call::<SetRole>(&request).await
    }

    async fn ban(&self, caller: u128, conversation_id: ConversationId, number: u128) -> Result<(), Failure> {
        let request = MemberRequest { caller: user(caller), conversation_id, user_id: user(number) };
        self.call::<BanMember>(&request).await.map(drop)
    }

    async fn invite(
        &self,
        caller: u128,
        conversation_id: ConversationId,
        invite: NewInvite,
    ) -> Result<Invite, Failure> {
        let request = CreateInviteRequest { caller: user(caller), conversation_id, invite };
        self.call::<CreateInvite>(&request).await
    }

    async fn join(&self, caller: u128, conversation_id: ConversationId) -> Result<MembershipChanged, Failure> {
        self.enter(user(caller), JoinBy::Conversation(conversation_id)).await
    }

    async fn join_by(&self, caller: u128, token: &str) -> Result<MembershipChanged, Failure> {
        self.enter(user(caller), JoinBy::Invite(token.to_owned())).await
    }

    async fn enter(&self, caller: UserId, by: JoinBy) -> Result<MembershipChanged, Failure> {
        self.call::<Join>(&JoinRequest { caller, by, frame: None }).await
    }

    /// The kinds of the entries of a log and what they say.
    async fn said(&self, conversation_id: ConversationId) -> Vec<(EntryKind, Value)> {
        let log = self.log(None, conversation_id).await;
        let entries = log.entries.iter().map(|entry| payload(&entry.frame));
        entries.map(|entry| (entry.kind, serde_json::from_str(entry.content.unwrap().get()).unwrap())).collect()
    }

    /// How often something was audited.
    async fn audited(&self, action: &str) -> i64 {
        let query = format!("SELECT count(*) FROM messaging.audit WHERE action = '{action}'");
        count(&mut crate::fixture::connect(&self.postgres).await, &query).await
    }

    /// Everything that people do with groups and channels, often enough that statements are planned for good.
    pub(crate) async fn manage_rooms(&self) {
        let public = CreateConversation { is_public: true, ..channel_of(&[]) };
        let room = self.create(user(3), public).await.unwrap().id;
        let token = self.invite(3, room, NewInvite::default()).await.unwrap().token.unwrap();
        for number in 0..8 {
            self.update(3, room, json!({"title": format!("title {number}")})).await.unwrap();
            self.join(4, room).await.unwrap();
            self.give(3, room, 4, if number % 2 == 0 { Role::Reader } else { Role::Member }).await.unwrap();
            self.remove(4, room, 4).await.unwrap();
            self.join_by(4, &token).await.unwrap();
            self.ban(3, room, 4).await.unwrap();
            self.unban(3, room, 4).await.unwrap();
            for query in [None, Some("titl"), Some("comm"), Some("nowhere")] {
                self.found(4, query).await;
            }
            let own = SetOwnSettingsRequest { caller: user(3), conversation_id: room, settings: Map::new() };
            self.call::<SetOwnSettings>(&own).await.unwrap();
            self.invite(3, room, NewInvite::default()).await.unwrap();
            let asked = ConversationRequest { caller: user(3), conversation_id: room };
            self.call::<ListInvites>(&asked).await.unwrap();
            let request = ListMembersRequest { caller: user(3), conversation_id: room, after: None, limit: 10 };
            self.call::<ListBans>(&request).await.unwrap();
        }
        self.delete(3, room).await.unwrap();
        self.delete(3, room).await.unwrap();
    }

    async fn execute(&self, statement: &str) {
        use diesel_async::SimpleAsyncConnection;
        crate::fixture::connect(&self.postgres).await.batch_execute(statement).await.unwrap();
    }
}

/// A frame of a user's first device.
fn frame_of(number: u128, entry_id: EntryId) -> FrameOrigin {
    FrameOrigin { entry_id, device_id: device(number), origin: 7 }
}
