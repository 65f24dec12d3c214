//! What `identity` knows.

use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use entrenous_bus::Deadline;
use entrenous_model::UserId;
use entrenous_protocol::{
    Failure,
    rest::{Conversation, Profile},
    rpc::identity::{USERS_MAX, Users, UsersRequest},
};

use super::{Context, IDENTITY_MAX};

/// How long a page of conversations waits for the names of the people in it.
const NAMES_MAX: Duration = Duration::from_millis(500);

impl Context {
    /// Those of these users that exist.
    pub(super) async fn existing_users(&self, ids: &[UserId], deadline: Deadline) -> Result<AHashSet<UserId>, Failure> {
        let mut existing = AHashSet::with_capacity(ids.len());
        for ids in ids.chunks(USERS_MAX) {
            let request = UsersRequest { ids: ids.to_vec() };
            let users = self.bus.call::<Users>(&request, deadline.remaining().min(IDENTITY_MAX)).await?;
            existing.extend(users.into_iter().map(|user| user.id));
        }
        Ok(existing)
    }

    /// Fails with `not_found` unless all these users exist.
    pub(super) async fn check_users(&self, ids: &[UserId], deadline: Deadline) -> Result<(), Failure> {
        if ids.is_empty() {
            return Ok(());
        }
        let existing = self.existing_users(ids, deadline).await?;
        if ids.iter().all(|id| existing.contains(id)) {
            return Ok(());
        }
        Err(Failure::new(entrenous_protocol::Code::NotFound, "no such user"))
    }

    /// Fills in the other person of direct conversations; left out while `identity` is away.
    pub(super) async fn name_peers(&self, conversations: &mut [(Conversation, Option<UserId>)], deadline: Deadline) {
        let ids: AHashSet<UserId> = conversations.iter().filter_map(|(_, peer)| *peer).collect();
        if ids.is_empty() {
            return;
        }
        let request = UsersRequest { ids: ids.into_iter().take(USERS_MAX).collect() };
        let users = match self.bus.call::<Users>(&request, deadline.remaining().min(NAMES_MAX)).await {
            Ok(users) => users,
            Err(error) => {
                tracing::debug!(%error, "conversations are shown without names");
                return;
            }
        };
        let profiles: AHashMap<UserId, Profile> = users.into_iter().map(|user| (user.id, user.into())).collect();
        for (conversation, peer) in conversations {
            conversation.peer = peer.and_then(|peer| profiles.get(&peer).cloned());
        }
    }
}
