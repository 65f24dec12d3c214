//! Who is here, for presence; and whose status clients here want to see, from presence.
//!
//! [`book`] keeps what this gateway tells and is told, [`reports`] moves it; [`sights`] knows on each worker which
//! connection watches whom and what it has been told, and [`watching`] moves that.

mod book;
mod reports;
pub(crate) mod sights;
pub(crate) mod watching;

pub use book::PresenceBook;
pub(crate) use reports::run;
