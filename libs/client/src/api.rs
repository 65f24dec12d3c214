//! The REST calls.

use std::{fmt, sync::Arc, time::Duration};

use entrenous_model::{ConversationId, DeviceId, EntryId, UserId};
use entrenous_protocol::{
    Act, Entry, Limits,
    act::{NewEdit, Reaction},
    entry::Role,
    rest::{
        AddMember, Conversation, ConversationPatch, CreateConversation, Device, Invite, Login, LoginDevice, MarkRead,
        Member, MemberPatch, Message, MessageReaction, MessageReceipts, NewInvite, Page, Profile, ProfilePatch,
        PublicChannel, Refresh, Register, Tokens, UnreadEntries, User,
    },
    status::{OwnStatus, StatusChoice, UserStatus},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header::RETRY_AFTER};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use url::Url;

use crate::{ApiError, OutgoingMessage, Refusal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The REST calls of one server, as one login or as nobody; cheap to clone.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: Url,
    token: Option<Arc<str>>,
}

/// Prints the server, never the token.
impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// Which part of the history is asked for; cursors are seqs.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct HistoryPage {
    /// Messages before this one, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Messages after this one, oldest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Messages around this one, newest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub around: Option<u64>,
    /// 1 to 100; 50 where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

impl Api {
    /// The server at `base` (`http://…` or `https://…`), as nobody.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(base: Url) -> Result<Self, ApiError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, base, token: None })
    }

    /// The same server with this access token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// Another server (or gateway) with the same token and HTTP connections.
    #[must_use]
    pub fn with_base(&self, base: Url) -> Self {
        Self { base, ..self.clone() }
    }

    /// The server's address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The access token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Makes an account.
    ///
    /// # Errors
    /// As every call: refused by the server, or no usable answer.
    pub async fn register(&self, username: &str, password: &str, display_name: Option<&str>) -> Result<User, ApiError> {
        let body = Register {
            username: username.to_owned(),
            password: password.to_owned(),
            email: None,
            display_name: display_name.map(str::to_owned),
        };
        json(self.request(Method::POST, "auth/register").json(&body)).await
    }

    /// Signs in on a device: a known one, or a new one where the id is absent.
    ///
    /// # Errors
    /// As every call.
    pub async fn login(&self, username: &str, password: &str, device: LoginDevice) -> Result<Tokens, ApiError> {
        let body = Login { username: username.to_owned(), password: password.to_owned(), device };
        json(self.request(Method::POST, "auth/login").json(&body)).await
    }

    /// Exchanges a refresh token, which is spent, for a new pair.
    ///
    /// # Errors
    /// As every call.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ApiError> {
        let body = Refresh { refresh_token: refresh_token.to_owned() };
        json(self.request(Method::POST, "auth/refresh").json(&body)).await
    }

    /// Ends this login and its connections.
    ///
    /// # Errors
    /// As every call.
    pub async fn logout(&self) -> Result<(), ApiError> {
        empty(self.request(Method::POST, "auth/logout")).await
    }

    /// One's own profile.
    ///
    /// # Errors
    /// As every call.
    pub async fn me(&self) -> Result<User, ApiError> {
        json(self.request(Method::GET, "users/me")).await
    }

    /// Changes one's own profile.
    ///
    /// # Errors
    /// As every call.
    pub async fn update_me(&self, patch: &ProfilePatch) -> Result<User, ApiError> {
        json(self.request(Method::PATCH, "users/me").json(patch)).await
    }

    /// Blocks somebody, or no longer.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_blocked(&self, user_id: UserId, is_blocked: bool) -> Result<(), ApiError> {
        empty(self.request(put_or_delete(is_blocked), &format!("users/{user_id}/block"))).await
    }

    /// Follows somebody, or no longer.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_followed(&self, user_id: UserId, is_followed: bool) -> Result<(), ApiError> {
        empty(self.request(put_or_delete(is_followed), &format!("users/{user_id}/follow"))).await
    }

    /// Somebody's public profile.
    ///
    /// # Errors
    /// As every call.
    pub async fn user(&self, user_id: UserId) -> Result<Profile, ApiError> {
        json(self.request(Method::GET, &format!("users/{user_id}"))).await
    }

    /// Somebody's public profile by name; none where nobody has it.
    ///
    /// # Errors
    /// As every call.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<Profile>, ApiError> {
        let request = self.request(Method::GET, "users").query(&[("username", username)]);
        json::<Page<Profile>>(request).await.map(|page| page.items.into_iter().next())
    }

    /// One's own devices.
    ///
    /// # Errors
    /// As every call.
    pub async fn devices(&self) -> Result<Page<Device>, ApiError> {
        json(self.request(Method::GET, "devices")).await
    }

    /// Removes a device: its logins and connections end.
    ///
    /// # Errors
    /// As every call.
    pub async fn remove_device(&self, device_id: DeviceId) -> Result<(), ApiError> {
        empty(self.request(Method::DELETE, &format!("devices/{device_id}"))).await
    }

    /// Begins a conversation; a direct one that exists already is returned as it is.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_conversation(&self, conversation: &CreateConversation) -> Result<Conversation, ApiError> {
        json(self.request(Method::POST, "conversations").json(conversation)).await
    }

    /// A conversation as the caller sees it.
    ///
    /// # Errors
    /// As every call.
    pub async fn conversation(&self, conversation_id: ConversationId) -> Result<Conversation, ApiError> {
        json(self.request(Method::GET, &format!("conversations/{conversation_id}"))).await
    }

    /// One's own conversations, latest activity first; `cursor` is the `next` of the page before.
    ///
    /// # Errors
    /// As every call.
    pub async fn conversations(&self, cursor: Option<&str>) -> Result<Page<Conversation>, ApiError> {
        let request = self.request(Method::GET, "conversations");
        json(match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        })
        .await
    }

    /// The members of a conversation by id, from a page's `next` on. Of a channel only moderators and owners see them.
    ///
    /// # Errors
    /// As every call.
    pub async fn members(
        &self,
        conversation_id: ConversationId,
        cursor: Option<&str>,
    ) -> Result<Page<Member>, ApiError> {
        let request = self.request(Method::GET, &format!("conversations/{conversation_id}/members"));
        json(match cursor {
            Some(cursor) => request.query(&[("cursor", cursor)]),
            None => request,
        })
        .await
    }

    /// Adds a member.
    ///
    /// # Errors
    /// As every call.
    pub async fn add_member(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        role: Option<Role>,
    ) -> Result<Member, ApiError> {
        let request = self.request(Method::POST, &format!("conversations/{conversation_id}/members"));
        json(request.json(&AddMember { user_id, role })).await
    }

    /// Removes a member, or leaves (with one's own id).
    ///
    /// # Errors
    /// As every call.
    pub async fn remove_member(&self, conversation_id: ConversationId, user_id: UserId) -> Result<(), ApiError> {
        empty(self.request(Method::DELETE, &format!("conversations/{conversation_id}/members/{user_id}"))).await
    }

    /// Gives a member another role.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_role(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        role: Role,
    ) -> Result<Member, ApiError> {
        self.update_member(conversation_id, user_id, &MemberPatch { role: Some(role), settings: None }).await
    }

    /// Merges into one's own settings of a conversation: a key that is absent stays, `null` removes it.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_own_settings(
        &self,
        conversation_id: ConversationId,
        own_id: UserId,
        settings: Map<String, Value>,
    ) -> Result<Member, ApiError> {
        self.update_member(conversation_id, own_id, &MemberPatch { role: None, settings: Some(settings) }).await
    }

    async fn update_member(
        &self,
        conversation_id: ConversationId,
        user_id: UserId,
        patch: &MemberPatch,
    ) -> Result<Member, ApiError> {
        let request = self.request(Method::PATCH, &format!("conversations/{conversation_id}/members/{user_id}"));
        json(request.json(patch)).await
    }

    /// Changes the settings of a conversation.
    ///
    /// # Errors
    /// As every call.
    pub async fn update_conversation(
        &self,
        conversation_id: ConversationId,
        patch: &ConversationPatch,
    ) -> Result<Conversation, ApiError> {
        json(self.request(Method::PATCH, &format!("conversations/{conversation_id}")).json(patch)).await
    }

    /// Deletes a group or channel for everyone.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete_conversation(&self, conversation_id: ConversationId) -> Result<(), ApiError> {
        empty(self.request(Method::DELETE, &format!("conversations/{conversation_id}"))).await
    }

    /// Joins a public group or channel.
    ///
    /// # Errors
    /// As every call.
    pub async fn join(&self, conversation_id: ConversationId) -> Result<Conversation, ApiError> {
        json(self.request(Method::POST, &format!("conversations/{conversation_id}/join"))).await
    }

    /// Public channels with these words, or all, the largest first; `cursor` is the `next` of the page before.
    ///
    /// # Errors
    /// As every call.
    pub async fn channels(&self, query: Option<&str>, cursor: Option<&str>) -> Result<Page<PublicChannel>, ApiError> {
        let asked = [("query", query), ("cursor", cursor)];
        let asked: Vec<_> = asked.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        json(self.request(Method::GET, "channels").query(&asked)).await
    }

    /// Makes a link that lets people in.
    ///
    /// # Errors
    /// As every call.
    pub async fn create_invite(&self, conversation_id: ConversationId, invite: &NewInvite) -> Result<Invite, ApiError> {
        json(self.request(Method::POST, &format!("conversations/{conversation_id}/invites")).json(invite)).await
    }

    /// Joins by the token of an invite.
    ///
    /// # Errors
    /// As every call.
    pub async fn join_by_invite(&self, token: &str) -> Result<Conversation, ApiError> {
        json(self.request(Method::POST, &format!("invites/{token}/join"))).await
    }

    /// Removes somebody, if they are there, and keeps them out.
    ///
    /// # Errors
    /// As every call.
    pub async fn ban(&self, conversation_id: ConversationId, user_id: UserId) -> Result<(), ApiError> {
        empty(self.request(Method::PUT, &format!("conversations/{conversation_id}/bans/{user_id}"))).await
    }

    /// Lets somebody come back.
    ///
    /// # Errors
    /// As every call.
    pub async fn unban(&self, conversation_id: ConversationId, user_id: UserId) -> Result<(), ApiError> {
        empty(self.request(Method::DELETE, &format!("conversations/{conversation_id}/bans/{user_id}"))).await
    }

    /// Sends a message into a conversation.
    ///
    /// # Errors
    /// As every call. Where the outcome is unknown, repeat it with the same id.
    pub async fn send_message(
        &self,
        conversation_id: ConversationId,
        message: &OutgoingMessage,
    ) -> Result<Entry, ApiError> {
        let request = self.request(Method::POST, &format!("conversations/{conversation_id}/messages"));
        json(request.json(message)).await
    }

    /// Does something with a message; `id` is that of the entry of an edit.
    ///
    /// # Errors
    /// As every call. Where the outcome is unknown, repeat it with the same id.
    pub async fn act(&self, conversation_id: ConversationId, id: EntryId, act: &Act) -> Result<(), ApiError> {
        let message_id = act.message_id();
        let message = format!("conversations/{conversation_id}/messages/{message_id}");
        let reaction = |reaction: &Reaction| {
            let reaction = utf8_percent_encode(&reaction.reaction, NON_ALPHANUMERIC);
            format!("{message}/reactions/{reaction}")
        };
        let pin = format!("conversations/{conversation_id}/pins/{message_id}");
        let request = match act {
            Act::Edit(NewEdit { content, metadata, signature, .. }) => {
                let body =
                    serde_json::json!({"id": id, "content": content, "metadata": metadata, "signature": signature});
                self.request(Method::PATCH, &message).json(&body)
            }
            Act::Delete { scope, .. } => self.request(Method::DELETE, &message).query(&[("scope", scope)]),
            Act::React(to) => self.request(Method::PUT, &reaction(to)),
            Act::Unreact(to) => self.request(Method::DELETE, &reaction(to)),
            Act::Pin { .. } => self.request(Method::PUT, &pin),
            Act::Unpin { .. } => self.request(Method::DELETE, &pin),
        };
        empty(request).await
    }

    /// A message with everything that was done with it.
    ///
    /// # Errors
    /// As every call.
    pub async fn message(&self, conversation_id: ConversationId, message_id: EntryId) -> Result<Message, ApiError> {
        json(self.request(Method::GET, &format!("conversations/{conversation_id}/messages/{message_id}"))).await
    }

    /// Who reacted to a message.
    ///
    /// # Errors
    /// As every call.
    pub async fn reactions(
        &self,
        conversation_id: ConversationId,
        message_id: EntryId,
    ) -> Result<Page<MessageReaction>, ApiError> {
        let path = format!("conversations/{conversation_id}/messages/{message_id}/reactions");
        json(self.request(Method::GET, &path)).await
    }

    /// The pinned messages, latest pin first.
    ///
    /// # Errors
    /// As every call.
    pub async fn pins(&self, conversation_id: ConversationId) -> Result<Page<Message>, ApiError> {
        json(self.request(Method::GET, &format!("conversations/{conversation_id}/pins"))).await
    }

    /// What this device has not acknowledged, the most urgent first.
    ///
    /// # Errors
    /// As every call.
    pub async fn undelivered(&self, limit: u32) -> Result<Page<Entry>, ApiError> {
        json(self.request(Method::GET, "messages/undelivered").query(&[("limit", limit)])).await
    }

    /// How many messages of others are unread, and which.
    ///
    /// # Errors
    /// As every call.
    pub async fn unread(&self, conversation_id: ConversationId) -> Result<UnreadEntries, ApiError> {
        json(self.request(Method::GET, &format!("conversations/{conversation_id}/unread"))).await
    }

    /// A user's status: `offline` without a time of whom one may not see.
    ///
    /// # Errors
    /// As every call.
    pub async fn status(&self, user_id: UserId) -> Result<UserStatus, ApiError> {
        json(self.request(Method::GET, &format!("users/{user_id}/status"))).await
    }

    /// The status of those whom one follows.
    ///
    /// # Errors
    /// As every call.
    pub async fn following_status(&self) -> Result<Page<UserStatus>, ApiError> {
        json(self.request(Method::GET, "users/following/status")).await
    }

    /// One's own status: as others see it, and what was chosen.
    ///
    /// # Errors
    /// As every call.
    pub async fn own_status(&self) -> Result<OwnStatus, ApiError> {
        json(self.request(Method::GET, "users/me/status")).await
    }

    /// Chooses what to show while one is there.
    ///
    /// # Errors
    /// As every call.
    pub async fn set_status(&self, choice: &StatusChoice) -> Result<OwnStatus, ApiError> {
        json(self.request(Method::PUT, "users/me/status").json(choice)).await
    }

    /// Says that everything up to a message is read.
    ///
    /// # Errors
    /// As every call.
    pub async fn mark_read(&self, read: &MarkRead) -> Result<(), ApiError> {
        empty(self.request(Method::POST, "messages/read").json(read)).await
    }

    /// Whom a message has reached, and who has read it.
    ///
    /// # Errors
    /// As every call.
    pub async fn receipts(
        &self,
        conversation_id: ConversationId,
        message_id: EntryId,
    ) -> Result<MessageReceipts, ApiError> {
        let path = format!("conversations/{conversation_id}/messages/{message_id}/receipts");
        json(self.request(Method::GET, &path)).await
    }

    /// The messages of a conversation, newest first (`after`: oldest first).
    ///
    /// # Errors
    /// As every call.
    pub async fn history(&self, conversation_id: ConversationId, page: HistoryPage) -> Result<Page<Entry>, ApiError> {
        let request = self.request(Method::GET, &format!("conversations/{conversation_id}/messages"));
        json(request.query(&page)).await
    }

    /// One page of the raw log, oldest first, from after the seq.
    ///
    /// # Errors
    /// As every call.
    pub async fn log(&self, conversation_id: ConversationId, after: u64, limit: u32) -> Result<Page<Entry>, ApiError> {
        let request = self.request(Method::GET, &format!("conversations/{conversation_id}/log"));
        json(request.query(&[("after", after), ("limit", limit.into())])).await
    }

    /// The limits in force.
    ///
    /// # Errors
    /// As every call.
    pub async fn limits(&self) -> Result<Limits, ApiError> {
        json(self.request(Method::GET, "limits")).await
    }

    /// A request to a path below `/api/v1/`, with the token: for calls that have no method here.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("/api/v1/{path}"));
        let request = self.http.request(method, url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

fn put_or_delete(is_so: bool) -> Method {
    if is_so { Method::PUT } else { Method::DELETE }
}

/// Sends a request and reads the answer's body.
///
/// # Errors
/// When the server refuses or the answer is not usable.
pub async fn json<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, ApiError> {
    let (status, body) = success(request).await?;
    serde_json::from_slice(&body).map_err(|source| ApiError::Unexpected { status: status.as_u16(), source })
}

/// Sends a request whose answer has no body.
///
/// # Errors
/// When the server refuses or no answer comes.
pub async fn empty(request: RequestBuilder) -> Result<(), ApiError> {
    success(request).await.map(drop)
}

async fn success(request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), ApiError> {
    let response = request.send().await?;
    let (status, retry_after) = (response.status(), retry_after(&response));
    let body = response.bytes().await?.to_vec();
    if status.is_success() {
        Ok((status, body))
    } else {
        Err(ApiError::Refused(Box::new(Refusal::from_problem(status.as_u16(), &body, retry_after))))
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests;
