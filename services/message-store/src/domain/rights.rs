//! Who may do what in a conversation: the one table. Source: docs/protocol.md, section 4, "roles". Posting alone
//! is judged by `messaging.append`, inside its statement.

use entrenous_protocol::{
    Code, Failure,
    entry::{ConversationKind, Role},
    rest::Posting,
};

/// What people do in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    React,
    EditOwn {
        posting: Posting,
    },
    DeleteOthers,
    Pin,
    AddMember,
    Ban,
    /// Makes, lists and takes back invites.
    Invite,
    /// Settings but those below.
    ChangeSettings,
    ChangeRetention,
    /// How many may come, and whether everybody may.
    ChangeReach,
    DeleteConversation,
}

/// The least role that may do it; none: nobody may.
pub(crate) const fn least_role(kind: ConversationKind, action: Action) -> Option<Role> {
    use Action::{
        AddMember, Ban, ChangeReach, ChangeRetention, ChangeSettings, DeleteConversation, DeleteOthers, EditOwn,
        Invite, Pin, React,
    };
    match (kind, action) {
        (_, React) => Some(Role::Reader),
        // Whoever may post.
        (ConversationKind::Channel, EditOwn { posting: Posting::Moderators }) => Some(Role::Moderator),
        // Messages that disappear are usual between two people: each of them may say so.
        (_, EditOwn { .. }) | (ConversationKind::Direct, Pin | ChangeRetention) => Some(Role::Member),
        (ConversationKind::Direct, _) => None,
        (_, DeleteOthers | Pin | AddMember | Ban | Invite | ChangeSettings | ChangeRetention) => Some(Role::Moderator),
        (_, ChangeReach | DeleteConversation) => Some(Role::Owner),
    }
}

/// Whether somebody with this role may do it.
pub(crate) fn may(kind: ConversationKind, role: Role, action: Action) -> Result<(), Failure> {
    match least_role(kind, action) {
        Some(least) if role >= least => Ok(()),
        Some(_) => Err(Failure::new(Code::Forbidden, "the role does not allow this")),
        None => Err(Failure::new(Code::Forbidden, "nobody does this in such a conversation")),
    }
}

/// Whether `caller` may add somebody with a role.
pub(crate) fn may_add(kind: ConversationKind, caller: Role, given: Role) -> Result<(), Failure> {
    may(kind, caller, Action::AddMember)?;
    if given > caller {
        return Err(Failure::new(Code::Forbidden, "the role is above one's own"));
    }
    Ok(())
}

/// The role of who comes by themselves: who was muted does not come out of it by leaving.
pub(crate) fn role_of_joining(before: Option<Role>) -> Role {
    before.map_or(Role::Member, |before| before.min(Role::Member))
}

/// Whether somebody with this role sees who the members are, and is told of changes: in channels only who looks after them.
pub(crate) fn sees_members(kind: ConversationKind, role: Role) -> bool {
    kind != ConversationKind::Channel || role >= Role::Moderator
}

/// The limit on the number of members, as `GET /api/v1/limits` names it.
pub(crate) const fn limit_name(kind: ConversationKind) -> &'static str {
    match kind {
        ConversationKind::Channel => "channel_members",
        ConversationKind::Direct | ConversationKind::Group => "group_members",
    }
}

/// Why somebody cannot write to another: the same for a block by either, and for whoever takes messages from contacts only
/// or from nobody.
pub(crate) fn unwanted() -> Failure {
    Failure::new(Code::Forbidden, "this person does not take messages from you")
}

/// A removal to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Removal {
    pub(crate) kind: ConversationKind,
    pub(crate) caller: Role,
    pub(crate) target: Role,
    /// The caller leaves.
    pub(crate) is_self: bool,
    pub(crate) owners: i64,
    pub(crate) members: i64,
}

/// Whether a removal is allowed: owners remove everybody, moderators members and readers, everybody themselves; but the
/// last owner stays as long as others do.
pub(crate) fn may_remove(removal: Removal) -> Result<(), Failure> {
    if removal.kind == ConversationKind::Direct {
        return Err(Failure::new(Code::Forbidden, "a direct conversation cannot be left"));
    }
    if removal.is_self {
        let is_last_owner = removal.target == Role::Owner && removal.owners <= 1;
        if is_last_owner && removal.members > 1 {
            return Err(Failure::new(Code::Conflict, "the last owner names another before leaving"));
        }
        return Ok(());
    }
    if looks_after(removal.caller, removal.target) {
        return Ok(());
    }
    Err(Failure::new(Code::Forbidden, "the role does not allow to remove this member"))
}

/// Whether somebody may remove, ban and mute members with another role: owners everybody, moderators members and readers.
fn looks_after(caller: Role, target: Role) -> bool {
    match caller {
        Role::Owner => true,
        Role::Moderator => target < Role::Moderator,
        Role::Member | Role::Reader => false,
    }
}

/// Whether somebody, a member with this role or none, may be banned.
pub(crate) fn may_ban(kind: ConversationKind, caller: Role, target: Option<Role>) -> Result<(), Failure> {
    may(kind, caller, Action::Ban)?;
    match target {
        Some(target) if !looks_after(caller, target) => {
            Err(Failure::new(Code::Forbidden, "the role does not allow to ban this member"))
        }
        Some(_) | None => Ok(()),
    }
}

/// A change of a role to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoleChange {
    pub(crate) kind: ConversationKind,
    pub(crate) caller: Role,
    pub(crate) target: Role,
    pub(crate) given: Role,
    pub(crate) is_self: bool,
    pub(crate) owners: i64,
}

/// Whether a role may be given: by owners every role to everybody, by moderators `member` and `reader` to each other. The
/// last owner stays one. Who has the role already keeps it.
pub(crate) fn may_give(change: RoleChange) -> Result<(), Failure> {
    let RoleChange { kind, caller, target, given, is_self, owners } = change;
    if kind == ConversationKind::Direct {
        return Err(Failure::new(Code::Forbidden, "there are no roles in a direct conversation"));
    }
    if is_self && target == given {
        return Ok(());
    }
    if !looks_after(caller, target) || !looks_after(caller, given) {
        return Err(Failure::new(Code::Forbidden, "the role does not allow to give this one to this member"));
    }
    if target == Role::Owner && given < Role::Owner && owners <= 1 {
        return Err(Failure::new(Code::Conflict, "the last owner names another before stepping down"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remove(caller: Role, target: Role, is_self: bool, owners: i64, members: i64) -> Option<Code> {
        let kind = ConversationKind::Group;
        may_remove(Removal { kind, caller, target, is_self, owners, members }).err().map(|failure| failure.code)
    }

    #[test]
    fn roles_bound_who_is_added() {
        let add = |caller, given| may_add(ConversationKind::Group, caller, given).is_ok();
        assert!(
            add(Role::Owner, Role::Owner)
                && add(Role::Moderator, Role::Moderator)
                && add(Role::Moderator, Role::Reader)
        );
        assert!(
            !add(Role::Moderator, Role::Owner) && !add(Role::Member, Role::Reader) && !add(Role::Reader, Role::Reader)
        );
        assert!(may_add(ConversationKind::Direct, Role::Owner, Role::Member).is_err());
    }

    #[test]
    fn roles_bound_who_is_removed() {
        assert_eq!(remove(Role::Owner, Role::Owner, false, 2, 3), None);
        assert_eq!(remove(Role::Moderator, Role::Member, false, 1, 3), None);
        assert_eq!(remove(Role::Moderator, Role::Moderator, false, 1, 3), Some(Code::Forbidden));
        assert_eq!(remove(Role::Member, Role::Reader, false, 1, 3), Some(Code::Forbidden));
        assert_eq!(remove(Role::Reader, Role::Reader, true, 1, 3), None);
    }

    fn give(caller: Role, target: Role, given: Role, is_self: bool, owners: i64) -> Option<Code> {
        let kind = ConversationKind::Group;
        may_give(RoleChange { kind, caller, target, given, is_self, owners }).err().map(|failure| failure.code)
    }

    #[test]
    fn roles_bound_who_gets_which() {
        for (target, given) in
            [(Role::Reader, Role::Owner), (Role::Owner, Role::Reader), (Role::Member, Role::Moderator)]
        {
            assert_eq!(give(Role::Owner, target, given, false, 2), None);
            assert_eq!(give(Role::Moderator, target, given, false, 2), Some(Code::Forbidden));
            assert_eq!(give(Role::Member, target, given, false, 2), Some(Code::Forbidden));
        }
        assert_eq!(give(Role::Moderator, Role::Member, Role::Reader, false, 1), None);
        assert_eq!(give(Role::Moderator, Role::Reader, Role::Member, false, 1), None);
        assert_eq!(give(Role::Moderator, Role::Moderator, Role::Member, true, 1), Some(Code::Forbidden));
        assert_eq!(give(Role::Reader, Role::Reader, Role::Member, true, 1), Some(Code::Forbidden));
        assert_eq!(give(Role::Reader, Role::Reader, Role::Reader, true, 1), None);
    }

    #[test]
    fn there_is_always_an_owner() {
        assert_eq!(give(Role::Owner, Role::Owner, Role::Member, true, 1), Some(Code::Conflict));
        assert_eq!(give(Role::Owner, Role::Owner, Role::Member, true, 2), None);
        assert_eq!(give(Role::Owner, Role::Owner, Role::Owner, true, 1), None);
        assert_eq!(remove(Role::Owner, Role::Owner, true, 1, 2), Some(Code::Conflict));
        assert_eq!(remove(Role::Owner, Role::Owner, true, 2, 2), None);
        assert_eq!(remove(Role::Owner, Role::Owner, true, 1, 1), None);
    }
}
