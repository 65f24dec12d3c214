//! What gateways and presence tell each other.
//!
//! Reports are broadcast on core NATS (every replica hears every gateway), changes of status go to the gateways that watch,
//! and questions to any replica. Everybody numbers what they send, so that what was lost shows; then the whole is said
//! again (docs/adr/0016-presence.md).
#![expect(missing_docs, reason = "the names say it")]

use entrenous_model::{ConnectionId, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::methods;
use crate::status::{OwnStatus, StatusChoice, UserStatus};

methods! { "presence" {
    /// The status of users, one each, in the order of the request, whoever may see it. At most [`STATUSES_MAX`].
    Statuses = "statuses": StatusesRequest => Vec<UserStatus>;
    /// Keeps what a user chose to show.
    SetStatus = "set_status": SetStatusRequest => OwnStatus;
    /// A user's own status.
    GetOwnStatus = "get_own_status": OwnStatusRequest => OwnStatus;
}}

/// Users in one request of [`Statuses`].
pub const STATUSES_MAX: usize = 1_000;
/// How often a gateway reports, and a replica answers each gateway, at least.
pub const REPORT_INTERVAL_SECONDS: u64 = 5;
/// How long a gateway lists a user whose last connection there has ended, so that a replica which comes up meanwhile knows
/// of the grace (15 s by default).
pub const DEPARTED_KEPT_SECONDS: u64 = 30;
/// Connections, departures and watched users in one report together.
pub const REPORT_ITEMS_MAX: usize = 5_000;
/// Statuses in one [`StatusReport`].
pub const STATUS_REPORT_MAX: usize = 1_000;

/// What a gateway broadcasts: soon after something changed, else every [`REPORT_INTERVAL_SECONDS`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayReport {
    /// Drawn at the gateway's start.
    pub gateway_id: Uuid,
    /// 1, 2, 3, …: where one is missing, a list is asked for.
    pub number: u64,
    /// Part of a list of everything, rather than of what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<ListPart>,
    pub connected: Vec<(UserId, ConnectionId)>,
    pub disconnected: Vec<(UserId, ConnectionId)>,
    /// In a list: users who have no connection here any more, and for how many milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub departed: Vec<(UserId, u64)>,
    /// Users whose changes this gateway wants to hear of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<UserId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unwatched: Vec<UserId>,
}

/// Which part of a list. The parts of one list are sent one after another; what none of them names has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListPart {
    pub is_first: bool,
    pub is_last: bool,
}

/// A replica asks gateways for their lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListRequest {
    /// Which gateway; none: all.
    pub gateway_id: Option<Uuid>,
}

/// What a replica tells one gateway: the statuses of users that the gateway watches, where they may have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusReport {
    /// Drawn at the replica's start.
    pub replica_id: Uuid,
    /// 1, 2, 3, … for this gateway: where one is missing, the gateway sends its list, and is told everything again.
    pub number: u64,
    pub statuses: Vec<UserStatus>,
}

/// What a replica tells the others, about once a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReplicaBeat {
    pub replica_id: Uuid,
    /// 1, 2, 3, …: where one is missing, choices are read again.
    pub number: u64,
    /// It knows enough to tell gateways, and does not stop.
    pub is_ready: bool,
    /// What users chose since the last beat.
    pub chosen: Vec<Chosen>,
}

/// What a user chose to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Chosen {
    pub user_id: UserId,
    pub choice: StatusChoice,
    /// Grows with each choice of the user; 0 for who never chose.
    pub version: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StatusesRequest {
    pub user_ids: Vec<UserId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SetStatusRequest {
    pub user_id: UserId,
    pub choice: StatusChoice,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct OwnStatusRequest {
    pub user_id: UserId,
}
