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
    EditOwn { posting: Posting },
    DeleteOthers,
    Pin,
    AddMember,
}

/// The least role that may do it; none: nobody may.
pub(crate) const fn least_role(kind: ConversationKind, action: Action) -> Option<Role> {
    use Action::{AddMember, DeleteOthers, EditOwn, Pin, React};
    match (kind, action) {
        (_, React) => Some(Role::Reader),
        // Whoever may post.
        (ConversationKind::Channel, EditOwn { posting: Posting::Moderators }) => Some(Role::Moderator),
        (_, EditOwn { .. }) | (ConversationKind::Direct, Pin) => Some(Role::Member),
        (ConversationKind::Direct, DeleteOthers | AddMember) => None,
        (_, DeleteOthers | Pin | AddMember) => Some(Role::Moderator),
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
    match removal.caller {
        Role::Owner => Ok(()),
        Role::Moderator if removal.target < Role::Moderator => Ok(()),
        Role::Moderator | Role::Member | Role::Reader => {
            Err(Failure::new(Code::Forbidden, "the role does not allow to remove this member"))
        }
    }
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

    #[test]
    fn there_is_always_an_owner() {
        assert_eq!(remove(Role::Owner, Role::Owner, true, 1, 2), Some(Code::Conflict));
        assert_eq!(remove(Role::Owner, Role::Owner, true, 2, 2), None);
        assert_eq!(remove(Role::Owner, Role::Owner, true, 1, 1), None);
    }
}
