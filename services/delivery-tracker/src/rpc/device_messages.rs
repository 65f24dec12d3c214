//! The queues of device messages: methods `send_device_messages`, `read_device_queues`, `read_device_messages`,
//! `ack_device_messages` and `remove_device_queue`.

use std::collections::{HashMap, HashSet};

use entrenous_model::{DeviceId, UserId};
use entrenous_protocol::{
    device_message::DEVICE_MESSAGES_MAX,
    live::UserNotice,
    rpc::{
        Done,
        tracker::{
            AckDeviceMessagesRequest, DeviceMessages, DeviceQueue, QUEUES_MAX, ReadDeviceMessagesRequest,
            ReadDeviceQueuesRequest, RemoveDeviceQueueRequest, SendDeviceMessagesRequest,
        },
    },
};
use tokio::time::Instant;

use super::Context;
use crate::{error::RequestError, metrics, store::device_queues};

pub(super) async fn send(context: Context, request: SendDeviceMessagesRequest) -> Result<Done, RequestError> {
    let count = request.messages.len();
    let named: HashSet<_> = request.messages.iter().map(|message| (message.device_id, message.id)).collect();
    if count > DEVICE_MESSAGES_MAX || named.len() < count {
        return Err(RequestError::NotABatch);
    }
    let users: HashMap<DeviceId, UserId> =
        request.messages.iter().map(|message| (message.device_id, message.user_id)).collect();
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let queued = device_queues::enqueue(&mut connection, request, context.clock.now()).await?;
    drop(connection);
    metrics::statement("enqueue_device_messages", start.elapsed());
    metrics::device_messages_sent(count);
    // A repeat tells again, so that whoever sends until it is acknowledged has also told.
    for (device_id, last_seq) in queued {
        let Some(user) = users.get(&device_id) else { continue };
        let notice = UserNotice::DeviceMessages { device_id, last_seq };
        if let Err(error) = context.live.publish_notice(user.as_uuid(), 0, &notice).await {
            tracing::debug!(%error, "a device was not told of its messages");
            break;
        }
    }
    Ok(Done {})
}

pub(super) async fn queues(
    context: Context,
    request: ReadDeviceQueuesRequest,
) -> Result<Vec<DeviceQueue>, RequestError> {
    if request.device_ids.len() > QUEUES_MAX {
        return Err(RequestError::NotABatch);
    }
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let queues = device_queues::list(&mut connection, &request.device_ids).await?;
    metrics::statement("list_device_queues", start.elapsed());
    Ok(queues)
}

pub(super) async fn read(context: Context, request: ReadDeviceMessagesRequest) -> Result<DeviceMessages, RequestError> {
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    let page = device_queues::read(&mut connection, &request, context.clock.now()).await?;
    metrics::statement("read_device_messages", start.elapsed());
    Ok(page)
}

pub(super) async fn acknowledge(context: Context, request: AckDeviceMessagesRequest) -> Result<Done, RequestError> {
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    device_queues::acknowledge(&mut connection, request).await?;
    metrics::statement("ack_device_messages", start.elapsed());
    Ok(Done {})
}

pub(super) async fn remove(context: Context, request: RemoveDeviceQueueRequest) -> Result<Done, RequestError> {
    let mut connection = context.database.get().await?;
    let start = Instant::now();
    device_queues::remove(&mut connection, request.device_id).await?;
    metrics::statement("remove_device_queue", start.elapsed());
    Ok(Done {})
}
