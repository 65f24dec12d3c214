//! The words every other crate speaks in: ids, time and how both are made.
//!
//! Belongs here: one newtype per entity, [`Timestamp`], [`Clock`], [`IdGenerator`]. Does not belong here: I/O, async,
//! wire formats of whole messages (they are in `entrenous-protocol`).

mod id;
mod time;

pub use id::{
    ConnectionId, ConversationId, DeviceId, EntryId, IdGenerator, InviteId, LoginId, MediaId, ParseIdError, UserId,
};
pub use time::{Clock, SystemClock, Timestamp};
