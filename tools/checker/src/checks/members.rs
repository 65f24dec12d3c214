//! Members and what they may do: the log says who is what, and nobody writes what their role does not allow.
//!
//! Who is a `reader` writes no message after the entry that says so; who is no member writes nothing. Of direct conversations,
//! which have no roles, nothing is said here.

use std::collections::BTreeMap;

use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{EntryKind, entry::Role};

use super::Findings;
use crate::{Check, LogEntry, What, index::At};

type Roles = BTreeMap<UserId, Role>;

pub(super) fn check(found: &mut Findings<'_>) {
    let mut last: BTreeMap<ConversationId, Roles> = BTreeMap::new();
    for (conversation, log) in &found.index.logs {
        let Some(mut roles) = found.index.first_roles(*conversation, log) else { continue };
        let mut changed_at = BTreeMap::new();
        for (entry, at) in log.entries.values() {
            check_entry(found, *conversation, (entry, *at), &roles, &changed_at);
            let Some(change) = entry.member else { continue };
            changed_at.insert(change.user, entry.seq);
            match change.role {
                Some(role) => roles.insert(change.user, role),
                None => roles.remove(&change.user),
            };
        }
        last.insert(*conversation, roles);
    }
    for (at, event) in found.index.events.iter().enumerate() {
        if let What::ReadRoom { conversation, members, .. } = &event.what
            && let Some(roles) = last.get(conversation).filter(|roles| *roles != members)
        {
            let summary = format!("the members are told to be {members:?}; the log makes them {roles:?}");
            found.add(Check::Members, *conversation, summary, &[at]);
        }
    }
}

fn check_entry(
    found: &mut Findings<'_>,
    conversation: ConversationId,
    (entry, at): (&LogEntry, At),
    roles: &Roles,
    changed_at: &BTreeMap<UserId, u64>,
) {
    let Some(least) = least_role(entry) else { return };
    let role = roles.get(&entry.sender);
    if role.is_some_and(|role| *role >= least) {
        return;
    }
    let who = role.map_or_else(|| "is no member".to_owned(), |role| format!("is {role}"));
    let (sender, kind, seq) = (entry.sender, entry.kind, entry.seq);
    let summary = format!("{sender} {who} and wrote a {kind} at seq {seq}");
    let seqs: Vec<_> = changed_at.get(&sender).copied().into_iter().chain([seq]).collect();
    found.add_read(Check::Members, conversation, summary, (&[at], &seqs));
}

/// Source: docs/protocol.md, section 4, "roles".
fn least_role(entry: &LogEntry) -> Option<Role> {
    match entry.kind {
        EntryKind::Message | EntryKind::Edit => Some(Role::Member),
        EntryKind::Deletion | EntryKind::Reaction | EntryKind::Unreaction => Some(Role::Reader),
        // Everybody comes and goes by themselves.
        EntryKind::Member if entry.member.is_none_or(|change| change.user == entry.sender) => None,
        EntryKind::Pin | EntryKind::Unpin | EntryKind::Settings | EntryKind::Member => Some(Role::Moderator),
    }
}
