//! `/api/v1/conversations/{id}/log`: the raw log.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_model::ConversationId;
use entrenous_protocol::{
    Entry, Failure, RawValue,
    entry::frame_payload,
    limits::{LOG_PAGE_MAX, PAGE_BYTES_MAX},
    rest::Page,
    rpc::store::{Range, RangeRead, ReadRanges, ReadRangesRequest},
};

use super::Answer;
use crate::{
    http::{
        extract::{Caller, Query, path_id},
        resource::at,
    },
    openapi::NotFound,
    state::Gateway,
};

/// Entries in a page where the client does not say.
const PAGE_DEFAULT: u32 = 100;

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/conversations/{id}/log").get(read).register(config);
}

/// The raw log, oldest first, entries of all kinds. `next` is the `after` of the next page.
#[utoipa::path(
    get, path = "/api/v1/conversations/{id}/log", tag = "messages", operation_id = "read_log",
    security(("bearer" = [])),
    params(
        ("id" = ConversationId, Path, description = "The conversation"),
        ("after" = Option<u64>, Query, description = "Only entries after this seq, 0 by default", minimum = 0),
        ("limit" = Option<u32>, Query, description = "1 to 500, 100 by default", minimum = 1, maximum = 500)
    ),
    responses((status = 200, description = "A page", body = Page<Entry>), NotFound)
)]
pub(crate) async fn read(caller: Caller, request: HttpRequest, gateway: Data<Gateway>, query: Query) -> Answer {
    let range = Range {
        conversation_id: path_id(&request, "id")?,
        after: query.seq("after")?.unwrap_or(0),
        limit: query.limit(PAGE_DEFAULT, LOG_PAGE_MAX)?,
        leaves_after: 0,
    };
    let request = ReadRangesRequest { reader: Some(caller.0.sub), ranges: vec![range], bytes_max: PAGE_BYTES_MAX };
    let read = gateway.call::<ReadRanges>(&request).await?.into_iter().next().ok_or_else(Failure::internal)?;
    if !read.is_readable {
        return Err(Failure::not_found().into());
    }
    Ok(HttpResponse::Ok().json(page(&read)?))
}

fn page(read: &RangeRead) -> Result<Page<Box<RawValue>>, Failure> {
    let items = read.entries.iter().map(|entry| frame_payload(&entry.frame)).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|error| {
        tracing::error!(%error, "the store gave a frame that cannot be read");
        Failure::internal()
    })?;
    let next = read.entries.last().filter(|_| read.has_more).map(|entry| entry.seq.to_string());
    Ok(Page { items, has_more: read.has_more, next })
}
