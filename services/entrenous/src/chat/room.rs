//! Where to talk: the conversation and the names of its people.

use std::collections::HashMap;

use anyhow::Context;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::{ConversationKind, Encryption},
    rest::{Conversation, CreateConversation, Profile},
};

use super::account::Account;

/// A conversation without encryption.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) conversation: Conversation,
    names: HashMap<UserId, String>,
}

impl Room {
    /// The direct conversation with one person; created without encryption if there is none yet.
    pub(super) async fn direct(account: &Account, name: &str) -> anyhow::Result<Self> {
        let peer = find(account, name).await?;
        let conversation = create(account, ConversationKind::Direct, None, vec![peer.id]).await?;
        Self::open(account, conversation, vec![peer]).await
    }

    /// A new group without encryption.
    pub(super) async fn new_group(account: &Account, title: &str, names: &[String]) -> anyhow::Result<Self> {
        let mut members = Vec::new();
        for name in names {
            members.push(find(account, name).await?);
        }
        let ids = members.iter().map(|member| member.id).collect();
        let conversation = create(account, ConversationKind::Group, Some(title.to_owned()), ids).await?;
        Self::open(account, conversation, members).await
    }

    /// A conversation that there is.
    pub(super) async fn existing(account: &Account, id: ConversationId) -> anyhow::Result<Self> {
        let conversation = account.api().conversation(id).await.with_context(|| format!("cannot open {id}"))?;
        Self::open(account, conversation, Vec::new()).await
    }

    async fn open(account: &Account, conversation: Conversation, known: Vec<Profile>) -> anyhow::Result<Self> {
        anyhow::ensure!(
            conversation.encryption == Encryption::None,
            "this conversation is encrypted end to end and this client does not encrypt: use a client that does \
             (or --new-group TITLE --members NAME for an unencrypted one)"
        );
        let mut room = Self { conversation, names: HashMap::new() };
        for profile in known.into_iter().chain(room.conversation.peer.clone()) {
            room.names.insert(profile.id, profile.username);
        }
        room.names.insert(account.user_id(), account.api().me().await?.username);
        Ok(room)
    }

    pub(super) fn id(&self) -> ConversationId {
        self.conversation.id
    }

    /// Somebody's name; asks the server once for each.
    pub(super) async fn name(&mut self, account: &Account, user_id: UserId) -> String {
        if let Some(name) = self.names.get(&user_id) {
            return name.clone();
        }
        match account.api().user(user_id).await {
            Ok(profile) => self.names.entry(user_id).or_insert(profile.username).clone(),
            // A name that cannot be had now is asked for again next time.
            Err(_) => user_id.to_string(),
        }
    }

    /// What the person should know before they type.
    pub(super) fn banner(&self) -> String {
        let title = match (&self.conversation.title, &self.conversation.peer) {
            (Some(title), _) => format!("group {title}"),
            (None, Some(peer)) => format!("with {}", peer.username),
            (None, None) => "direct conversation".to_owned(),
        };
        format!(
            "{title} ({})\nThis client does not encrypt: the server can read what is written here. Times are UTC.\n\
             /who  /history [n]  /quit",
            self.id()
        )
    }
}

async fn find(account: &Account, name: &str) -> anyhow::Result<Profile> {
    account.api().user_by_name(name).await?.with_context(|| format!("there is no user named {name}"))
}

async fn create(
    account: &Account,
    kind: ConversationKind,
    title: Option<String>,
    members: Vec<UserId>,
) -> anyhow::Result<Conversation> {
    let conversation =
        CreateConversation { encryption: Encryption::None, title, members, ..CreateConversation::of(kind) };
    account.api().create_conversation(&conversation).await.context("cannot begin the conversation")
}
