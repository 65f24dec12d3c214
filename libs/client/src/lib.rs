//! Rust client of the public protocol (docs/protocol.md), for the terminal client, the tools and the tests.
//!
//! It knows nothing of the servers behind the protocol. Three layers, each usable alone:
//!
//! - [`Api`]: the REST calls.
//! - [`Socket`]: one WebSocket that carries texts, with [`frame::head`] for programs that drive thousands of
//!   connections and look at little more than type, id and seq.
//! - [`Connection`]: one WebSocket with typed frames and answers that can be awaited.
//!
//! [`backoff`] decides, without I/O, whether and when to come back after a connection ended.

pub mod api;
pub mod backoff;
pub mod connection;
pub mod error;
pub mod frame;
pub mod outgoing;
pub mod socket;

pub use api::Api;
pub use backoff::{Backoff, Verdict};
pub use connection::{Connection, Handle, PendingReply, Reply};
pub use error::{ApiError, ClosedError, ConnectError, Refusal, RequestError};
pub use frame::ServerFrame;
pub use outgoing::{OutgoingMessage, SyncFrom, SyncStart, Target};
pub use socket::{Credential, Socket, SocketOptions};
pub use url::Url;
