//! What gateways tell presence, and what it answers.
//!
//! Reports are broadcast on core NATS (every replica hears every report); questions go to any replica.
#![expect(missing_docs, reason = "the names say it")]

use entrenous_model::{ConnectionId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::methods;

methods! { "presence" {
    /// The status of users, one each, in the order of the request. At most [`STATUSES_MAX`].
    Statuses = "statuses": StatusesRequest => Vec<Status>;
}}

/// Users in one request of [`Statuses`].
pub const STATUSES_MAX: usize = 1_000;
/// A gateway that has not reported for this long is taken for dead, with all its connections.
pub const GATEWAY_LEASE_SECONDS: u64 = 15;
/// How often a gateway reports, changes or not.
pub const REPORT_INTERVAL_SECONDS: u64 = 5;
/// Between the last connection's end and `offline`.
pub const OFFLINE_GRACE_SECONDS: u64 = 15;

/// What a gateway broadcasts: at once every second while something changes, else every [`REPORT_INTERVAL_SECONDS`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayReport {
    /// Drawn at the gateway's start.
    pub gateway_id: Uuid,
    /// 1, 2, 3, …: a number missed means that the next full report is needed.
    pub number: u64,
    /// `connected` lists every connection, and whatever is not in it has ended. Sent first and every 30 s.
    pub is_full: bool,
    pub connected: Vec<(UserId, ConnectionId)>,
    pub disconnected: Vec<(UserId, ConnectionId)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusesRequest {
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    pub user_id: UserId,
    pub is_online: bool,
    pub last_seen_at: Option<Timestamp>,
}
