//! Every wire format of the project: frames and bodies that clients see, requests between the services, the live plane's
//! preamble and the events, with the codes they share.
//!
//! Belongs here: types, their parsing and printing, and the checks that need nothing but the value itself. Does not
//! belong here: I/O, async, decisions that need state.

pub mod act;
pub mod code;
pub mod device_message;
pub mod entry;
pub mod event;
pub mod failure;
pub mod frame;
pub mod limits;
pub mod live;
pub mod message;
pub mod rest;
pub mod rpc;
pub mod scheduled;
pub mod status;

pub use act::Act;
pub use code::{CloseCode, Code};
pub use entry::{Entry, EntryKind};
pub use failure::{Failure, FieldError};
pub use limits::Limits;
pub use message::NewMessage;
pub use serde_json::value::RawValue;
