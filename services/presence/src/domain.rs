//! Who is connected: a state machine without I/O and without a clock.

mod buffer;
mod state;

pub use buffer::LastSeenBuffer;
pub use state::{Known, Moment, Seen, Settings, State};
