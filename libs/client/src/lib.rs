#![doc = include_str!("../README.md")]

pub mod api;
pub mod backoff;
pub mod client;
pub mod connection;
pub mod error;
pub mod frame;
pub mod outgoing;
pub mod socket;

pub use api::Api;
pub use backoff::{Backoff, Verdict};
pub use client::Client;
pub use connection::{Connection, PendingReply, Reply};
pub use error::{ApiError, ClosedError, ConnectError, Refusal, RequestError};
pub use frame::ServerFrame;
pub use outgoing::{OutgoingMessage, SyncFrom, SyncStart, Target};
pub use socket::{Credential, Socket, SocketOptions};
pub use url::Url;
