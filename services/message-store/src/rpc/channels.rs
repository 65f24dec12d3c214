//! Joins and leaves of channels. They are no entries: a channel with very many members would consist of little else. They
//! are told by membership frames, which say where in the log they stand.

use diesel_async::AsyncPgConnection;
use entrenous_model::{ConversationId, UserId};
use entrenous_protocol::{
    entry::{MemberContent, Role},
    live::ChannelMembership,
    rest::Member,
    rpc::store::MembershipChanged,
};

use super::change::Change;
use crate::{
    error::RequestError,
    publish::{MembershipFrame, Publication},
    store::{
        changes::{self, StandingRow},
        to_u64,
    },
};

/// Makes somebody a member from the next entry on. The head is locked.
pub(super) async fn join(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    standing: &StandingRow,
    content: MemberContent,
    role: Role,
) -> Result<Change<Member>, RequestError> {
    let user_id = content.user_id;
    let (joined_seq, joined_at) = changes::join_channel(connection, conversation_id, user_id, role).await?;
    let (joined_at, joined_seq) = (joined_at.into(), to_u64(joined_seq));
    let member = Member { user_id, role, joined_at, joined_seq, settings: None };
    let (head, leaves) = (to_u64(standing.room.last_seq), to_u64(standing.room.leaves));
    Ok(Change::Unswept(
        member,
        told(MembershipFrame { conversation_id, head, leaves, membership: of(standing, content) }),
    ))
}

/// Ends a membership with the last entry. The head is locked.
pub(super) async fn leave(
    connection: &mut AsyncPgConnection,
    conversation_id: ConversationId,
    standing: &StandingRow,
    content: MemberContent,
) -> Result<Change<MembershipChanged>, RequestError> {
    let (head, leaves) = changes::leave_channel(connection, conversation_id, content.user_id).await?;
    let (head, leaves) = (to_u64(head), to_u64(leaves));
    Ok(Change::Unswept(
        MembershipChanged { conversation_id, entry: None },
        told(MembershipFrame { conversation_id, head, leaves, membership: of(standing, content) }),
    ))
}

fn told(frame: MembershipFrame) -> Publication {
    let mut publication = Publication::default();
    publication.membership(frame);
    publication
}

/// Who leaves is told that alone.
fn of(standing: &StandingRow, content: MemberContent) -> ChannelMembership {
    let moderators = standing.room.moderators.iter().copied().map(UserId::from);
    ChannelMembership { moderators: moderators.filter(|id| *id != content.user_id).collect(), content }
}
