//! Table `delivery.device_cursors`.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use entrenous_model::DeviceId;
use entrenous_protocol::rpc::tracker::DeviceCursor;
use uuid::Uuid;

use super::schema::device_cursors;
use crate::error::RequestError;

/// Cursors of one device in one answer: those that moved last. Bounds the answer to about 5 MB.
pub(crate) const DEVICE_CURSORS_MAX: i64 = 50_000;

/// Where a device stands, in no order.
pub(crate) async fn list_of_device(
    connection: &mut AsyncPgConnection,
    device_id: DeviceId,
) -> Result<Vec<DeviceCursor>, RequestError> {
    let rows: Vec<(Uuid, i64)> = device_cursors::table
        .filter(device_cursors::device_id.eq(device_id.as_uuid()))
        .order(device_cursors::delivered_at.desc())
        .limit(DEVICE_CURSORS_MAX)
        .select((device_cursors::conversation_id, device_cursors::delivered_seq))
        .load(connection)
        .await
        .map_err(entrenous_db::DbError::from)?;
    let cursor = |(conversation_id, seq): (Uuid, i64)| DeviceCursor {
        conversation_id: conversation_id.into(),
        delivered_seq: u64::try_from(seq).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(cursor).collect())
}
