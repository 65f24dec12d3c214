//! Records what clients did and saw, and checks it against what the protocol promises (docs/protocol.md, section 3).
//!
//! A [`Recorder`] takes [`What`] happened while clients run and processes die. The order in which it was told is the
//! order of real time: record an invocation before the frame is sent, an answer after it came. [`check`] reads the whole
//! history afterwards; it is pure, so that a history kept as JSON lines can be checked again.
//!
//! | promise | checks |
//! |---|---|
//! | 1 acknowledged means kept | [`Check::Acknowledged`], [`Check::RefusedNotStored`] |
//! | 2 send again freely | [`Check::NoIdTwice`], [`Check::Acknowledged`] |
//! | 3 one order | [`Check::OneLog`], [`Check::SenderOrder`], [`Check::RealTimeOrder`] |
//! | 4 no holes, no repeats live | [`Check::LiveStream`] |
//! | 5 nothing after removal | [`Check::Visibility`] |
//! | 6 every device | [`Check::LiveStream`] on each connection of each device, [`Check::Unread`] |
//!
//! Of section 4, [`Check::Members`], [`Check::Changes`] and [`Check::Planned`] look after roles, members, bans, titles and
//! scheduled messages. [`Check::Answers`] is about all of them.

mod availability;
mod checks;
mod history;
mod index;
mod report;

pub use availability::{Availability, availability};
pub use checks::check;
pub use history::{
    Change, ConnectionNumber, Event, History, HistoryError, LogEntry, MemberChange, OperationNumber, Plan, Planned,
    Recorder, Synced, What,
};
pub use report::{Check, Counts, Report, Violation};
