//! `/api/v1/messages/undelivered`: what the caller's device has not acknowledged.

use std::collections::HashMap;

use actix_web::{
    HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_auth::Claims;
use entrenous_protocol::{
    Entry, Failure, RawValue,
    entry::frame_payload,
    limits::{LOG_PAGE_MAX, PAGE_BYTES_MAX},
    rest::Page,
    rpc::{
        store::{Attaching, Membership, Range, ReadRanges, ReadRangesRequest},
        tracker,
    },
};

use super::Answer;
use crate::{
    connection::sync::plan::rank,
    http::{
        extract::{Caller, Query},
        resource::at,
    },
    state::Gateway,
};

/// Entries in a page where the client does not say.
const PAGE_DEFAULT: u32 = 100;
/// Conversations read in one request.
const RANGES_AT_ONCE: usize = 64;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/messages/undelivered").get(list).register(config);
}

/// What this device has not acknowledged: direct conversations and those with mentions first, then groups, then channels;
/// oldest first in each. Acknowledge it (`delivery_receipt`), and ask again for what follows.
#[utoipa::path(
    get, path = "/api/v1/messages/undelivered", tag = "messages", operation_id = "list_undelivered",
    security(("bearer" = [])),
    params(("limit" = Option<u32>, Query, description = "1 to 500, 100 by default", minimum = 1, maximum = 500)),
    responses((status = 200, description = "Entries of all kinds", body = Page<Entry>))
)]
pub(crate) async fn list(caller: Caller, gateway: Data<Gateway>, query: Query) -> Answer {
    let limit = query.limit(PAGE_DEFAULT, LOG_PAGE_MAX)?;
    let behind = behind(&gateway, &caller.0, limit).await?;
    let room = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut page = Page { items: Vec::new(), has_more: false, next: None };
    let mut bytes = PAGE_BYTES_MAX;
    for part in behind.chunks(RANGES_AT_ONCE) {
        if page.items.len() >= room || bytes == 0 {
            page.has_more = true;
            break;
        }
        let request = ReadRangesRequest { reader: Some(caller.0.sub), ranges: part.to_vec(), bytes_max: bytes };
        for read in gateway.call::<ReadRanges>(&request).await? {
            let fitting = read.entries.len().min(room - page.items.len());
            page.has_more |= read.has_more || fitting < read.entries.len();
            for entry in read.entries.iter().take(fitting) {
                bytes = bytes.saturating_sub(entry.frame.get().len());
                page.items.push(payload(&entry.frame)?);
            }
        }
    }
    Ok(HttpResponse::Ok().json(page))
}

fn payload(frame: &RawValue) -> Result<Box<RawValue>, Failure> {
    frame_payload(frame).map_err(|error| {
        tracing::error!(%error, "the store gave a frame that cannot be read");
        Failure::internal()
    })
}

/// What the device is behind in, the most urgent first.
async fn behind(gateway: &Gateway, caller: &Claims, limit: u32) -> Result<Vec<Range>, Failure> {
    let device = Attaching { user_id: caller.sub, device_id: caller.device_id };
    let memberships = gateway.store.memberships(device, false).await?.conversations;
    let request = tracker::DeviceCursorsRequest { device_id: caller.device_id };
    let cursors = gateway.call::<tracker::DeviceCursors>(&request).await?;
    let cursors: HashMap<_, _> =
        cursors.into_iter().map(|cursor| (cursor.conversation_id, cursor.delivered_seq)).collect();
    let range = |membership: Membership| {
        let conversation_id = membership.conversation_id;
        let acknowledged = cursors.get(&conversation_id).copied().unwrap_or(membership.device_start_seq);
        let after = acknowledged.max(membership.readable_from.saturating_sub(1));
        let range = Range { conversation_id, after, limit, leaves_after: 0 };
        (after < membership.last_seq).then(|| (rank(&membership, after), range))
    };
    let mut ranges: Vec<_> = memberships.into_iter().filter_map(range).collect();
    ranges.sort_by_key(|(rank, _)| *rank);
    Ok(ranges.into_iter().map(|(_, range)| range).collect())
}
