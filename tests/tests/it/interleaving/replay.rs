//! What a log makes of a conversation, by the definition: who is in and with which role, and what became of each message. On
//! the way it is looked at whether those who wrote each entry might, at its place.

use std::collections::{BTreeMap, BTreeSet};

use entrenous_model::{EntryId, UserId};
use entrenous_protocol::{
    Entry, EntryKind,
    act::ReactionContent,
    entry::{MemberChange, MemberContent, MessageType, Role},
    rest::Message,
};

/// A conversation after a log.
#[derive(Debug, Default)]
pub(super) struct Replay {
    is_direct: bool,
    pub(super) members: BTreeMap<UserId, Standing>,
    /// Of who has left.
    last_roles: BTreeMap<UserId, Role>,
    pub(super) messages: BTreeMap<EntryId, Outcome>,
    /// How many came by themselves.
    pub(super) joins: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) role: Role,
    pub(super) joined_seq: u64,
}

/// What became of a message.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) seq: u64,
    author: UserId,
    is_control: bool,
    content: Option<String>,
    edits: Vec<(u64, EntryId)>,
    is_deleted: bool,
    reactions: BTreeMap<String, BTreeSet<UserId>>,
    pub(super) is_pinned: bool,
}

/// A message as history is to show it to somebody.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shown {
    seq: u64,
    content: Option<String>,
    edit: Option<(u64, EntryId)>,
    edit_count: usize,
    is_deleted: bool,
    /// How often each was given, and whether by the reader too.
    reactions: BTreeMap<String, (u64, bool)>,
    is_pinned: bool,
}

impl From<&Message> for Shown {
    fn from(Message { entry, state }: &Message) -> Self {
        let reactions = state.reactions.iter().map(|one| (one.reaction.clone(), (one.count, one.mine)));
        Self {
            seq: entry.seq,
            content: content_of(entry),
            edit: state.edit.map(|edit| (edit.seq, edit.id)),
            edit_count: usize::try_from(entry.edit_count).unwrap(),
            is_deleted: entry.deleted,
            reactions: reactions.collect(),
            is_pinned: state.pinned,
        }
    }
}

impl Outcome {
    pub(super) fn shown_to(&self, reader: UserId) -> Shown {
        let count = |by: &BTreeSet<UserId>| (u64::try_from(by.len()).unwrap(), by.contains(&reader));
        let reactions = self.reactions.iter().filter(|(_, by)| !by.is_empty());
        Shown {
            seq: self.seq,
            content: self.content.clone(),
            edit: self.edits.last().copied().filter(|_| !self.is_deleted),
            edit_count: self.edits.len(),
            is_deleted: self.is_deleted,
            reactions: reactions.map(|(reaction, by)| (reaction.clone(), count(by))).collect(),
            is_pinned: self.is_pinned,
        }
    }
}

impl Replay {
    /// Of a direct conversation between these, or of a group.
    pub(super) fn of(direct: &[UserId], log: &[Entry]) -> Self {
        let member = |user: &UserId| (*user, Standing { role: Role::Member, joined_seq: 1 });
        let members = direct.iter().map(member).collect();
        let mut replay = Self { is_direct: !direct.is_empty(), members, ..Self::default() };
        for (place, entry) in (1..).zip(log) {
            assert_eq!(entry.seq, place, "a log without gaps");
            replay.take(entry);
        }
        replay.check_versions(log);
        replay
    }

    fn take(&mut self, entry: &Entry) {
        if entry.kind == EntryKind::Member {
            self.take_member(entry);
            return;
        }
        let least = match entry.kind {
            EntryKind::Message | EntryKind::Edit => Role::Member,
            EntryKind::Pin | EntryKind::Unpin if !self.is_direct => Role::Moderator,
            _ => Role::Reader,
        };
        let standing = self.standing_of(entry);
        assert!(standing.role >= least, "{entry:?} by somebody who is {standing:?}");
        if entry.kind == EntryKind::Message {
            self.take_message(entry);
        } else {
            self.take_act(entry, standing);
        }
    }

    fn standing_of(&self, entry: &Entry) -> Standing {
        *self.members.get(&entry.sender_id).unwrap_or_else(|| panic!("{entry:?} by no member"))
    }

    fn take_message(&mut self, entry: &Entry) {
        let outcome = Outcome {
            seq: entry.seq,
            author: entry.sender_id,
            is_control: entry.message_type == Some(MessageType::Control),
            content: content_of(entry),
            edits: Vec::new(),
            is_deleted: false,
            reactions: BTreeMap::new(),
            is_pinned: false,
        };
        says_its_id(entry);
        assert!(self.messages.insert(entry.id, outcome).is_none(), "{entry:?} stands twice");
    }

    fn take_act(&mut self, entry: &Entry, standing: Standing) {
        let target = self.messages.get_mut(&entry.target_id.unwrap()).unwrap();
        assert!(target.seq >= standing.joined_seq, "{entry:?} about what its maker may not read");
        assert!(!target.is_deleted && !target.is_control, "{entry:?} about what cannot be spoken of");
        match entry.kind {
            EntryKind::Edit => {
                assert_eq!(entry.sender_id, target.author, "{entry:?} of another's message");
                says_its_id(entry);
                target.edits.push((entry.seq, entry.id));
                target.content = content_of(entry);
            }
            EntryKind::Deletion => {
                let is_allowed = entry.sender_id == target.author || standing.role >= Role::Moderator;
                assert!(is_allowed && (!self.is_direct || entry.sender_id == target.author), "{entry:?}");
                target.is_deleted = true;
                target.is_pinned = false;
                target.content = None;
                target.reactions.clear();
            }
            EntryKind::Reaction | EntryKind::Unreaction => target.take_reaction(entry),
            EntryKind::Pin | EntryKind::Unpin => {
                let is_pin = entry.kind == EntryKind::Pin;
                assert_ne!(target.is_pinned, is_pin, "{entry:?} changes nothing");
                target.is_pinned = is_pin;
            }
            EntryKind::Message | EntryKind::Member | EntryKind::Settings => panic!("{entry:?}"),
        }
    }

    fn take_member(&mut self, entry: &Entry) {
        let content: MemberContent = serde_json::from_str(entry.content.as_ref().unwrap().get()).unwrap();
        let MemberContent { user_id, change, role, by, members } = content;
        let before = self.members.get(&user_id).copied();
        if change == MemberChange::Created {
            assert_eq!(entry.seq, 1);
            let joined_seq = 1;
            self.members.extend(members.into_iter().map(|one| (one, Standing { role: Role::Member, joined_seq })));
            self.members.insert(user_id, Standing { role: Role::Owner, joined_seq });
            return;
        }
        assert_eq!(entry.sender_id, by);
        let is_by_oneself = matches!(change, MemberChange::Joined | MemberChange::Left);
        assert_eq!(is_by_oneself, by == user_id, "{entry:?}");
        assert!(is_by_oneself || self.standing_of(entry).role >= Role::Moderator, "{entry:?} by who may not");
        assert_eq!(before.is_some(), !matches!(change, MemberChange::Joined | MemberChange::Added), "{entry:?}");
        if !change.leaves_a_member() {
            let left = self.members.remove(&user_id).unwrap();
            self.last_roles.insert(user_id, left.role);
            return;
        }
        let role = role.unwrap();
        let joined_seq = before.map_or(entry.seq, |before| before.joined_seq);
        if change == MemberChange::Joined {
            let last = self.last_roles.get(&user_id).copied();
            assert_eq!(role, last.unwrap_or(Role::Member).min(Role::Member), "{entry:?} of who was {last:?}");
            self.joins += 1;
        }
        self.members.insert(user_id, Standing { role, joined_seq });
    }

    /// What the log says of itself: what was deleted is empty, and what was edited names the newest edit.
    fn check_versions(&self, log: &[Entry]) {
        for entry in log {
            let (about, is_about) = match entry.kind {
                EntryKind::Message => (entry.id, true),
                EntryKind::Edit | EntryKind::Reaction | EntryKind::Unreaction => (entry.target_id.unwrap(), true),
                _ => (entry.id, false),
            };
            if !is_about {
                assert!(!entry.deleted, "{entry:?}");
                continue;
            }
            let outcome = &self.messages[&about];
            assert_eq!(entry.deleted, outcome.is_deleted, "{entry:?}");
            assert_eq!(entry.content.is_none(), outcome.is_deleted, "{entry:?}");
            let newest = outcome.edits.last().map(|(seq, _)| *seq).filter(|seq| *seq > entry.seq);
            if matches!(entry.kind, EntryKind::Message | EntryKind::Edit) && !outcome.is_deleted {
                assert_eq!(entry.superseded_by, newest, "{entry:?}");
            }
        }
    }
}

impl Outcome {
    /// What was said about a message that is erased by now says nothing any more.
    fn take_reaction(&mut self, entry: &Entry) {
        let Some(content) = &entry.content else {
            assert!(entry.deleted, "{entry:?}");
            return;
        };
        let ReactionContent { reaction } = serde_json::from_str(content.get()).unwrap();
        let by = self.reactions.entry(reaction).or_default();
        let is_new =
            if entry.kind == EntryKind::Reaction { by.insert(entry.sender_id) } else { by.remove(&entry.sender_id) };
        assert!(is_new, "{entry:?} changes nothing");
    }
}

fn content_of(entry: &Entry) -> Option<String> {
    entry.content.as_ref().map(|content| content.get().to_owned())
}

/// All messages and edits here say their own id.
fn says_its_id(entry: &Entry) {
    let is_said = content_of(entry).is_none_or(|content| content.contains(&entry.id.to_string()));
    assert!(is_said, "{entry:?} says what another one said");
}
