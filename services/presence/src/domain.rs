//! Who is connected, what they show and who wants to know: state machines without I/O and without a clock.

mod buffer;
mod replicas;
mod state;
mod watchers;

pub use buffer::LastSeenBuffer;
pub use replicas::{Noted, Replicas};
pub use state::{Effects, Known, Moment, Seen, Settings, State, Watching};
pub use watchers::{DueReport, Watchers};
