//! What a client does with device messages, and with its user's status: one after another, in the order of its frames.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
};

use entrenous_model::{DeviceId, EntryId, UserId};
use entrenous_protocol::{
    CloseCode, Code, Failure,
    device_message::DeviceMessageBatch,
    frame,
    rpc::{
        identity::{UserDevices, UsersRequest},
        presence::{SetStatus, SetStatusRequest},
        tracker::{AckDeviceMessages, AckDeviceMessagesRequest, SendDeviceMessages, SendDeviceMessagesRequest},
    },
    status::StatusChoice,
};
use serde_json::json;
use tokio::sync::Notify;

use super::Connection;
use crate::worker::Worker;

/// Bytes of content that may wait; above it a send is refused.
const BYTES_MAX: usize = 1024 * 1024;

/// What a frame asks for.
#[derive(Debug)]
pub(crate) enum DeviceWork {
    /// `device_message`.
    Send(DeviceMessageBatch),
    /// `device_message_ack`.
    Acknowledge { up_to: u64 },
    /// `status_update`.
    SetStatus(StatusChoice),
}

impl DeviceWork {
    fn bytes(&self) -> usize {
        match self {
            Self::Send(batch) => batch.content_bytes(),
            Self::Acknowledge { .. } | Self::SetStatus(_) => 0,
        }
    }
}

/// What waits to be done for one connection.
#[derive(Debug, Default)]
pub(crate) struct DeviceLane {
    waiting: RefCell<VecDeque<(Option<EntryId>, DeviceWork)>>,
    bytes: Cell<usize>,
    changed: Notify,
}

impl Connection {
    /// Queues what a frame asks for; a client that sends many at once is closed.
    pub(crate) fn request_device_work(
        &self,
        id: Option<EntryId>,
        work: DeviceWork,
        max: usize,
    ) -> Result<(), CloseCode> {
        let lane = &self.device_lane;
        if lane.waiting.borrow().len() >= max {
            metrics::counter!("chat_rate_limit_exceeded_total", "action_type" => "device_message").increment(1);
            return Err(CloseCode::TooManyFrames);
        }
        let bytes = lane.bytes.get() + work.bytes();
        if bytes > BYTES_MAX && !lane.waiting.borrow().is_empty() {
            self.send(Failure::unavailable("too many device messages wait").frame(id));
            return Ok(());
        }
        lane.bytes.set(bytes);
        lane.waiting.borrow_mut().push_back((id, work));
        lane.changed.notify_one();
        Ok(())
    }
}

/// Carries out what is asked for until the connection ends.
pub(crate) async fn run(worker: &Worker, connection: &Rc<Connection>) -> CloseCode {
    let lane = &connection.device_lane;
    loop {
        let next = lane.waiting.borrow_mut().pop_front();
        let Some((id, work)) = next else {
            lane.changed.notified().await;
            continue;
        };
        lane.bytes.set(lane.bytes.get().saturating_sub(work.bytes()));
        match (Box::pin(carry_out(worker, connection, work)).await, id) {
            (Ok(()), Some(id)) => connection.send(frame::ack(id)),
            (Ok(()), None) => {}
            (Err(failure), id) => connection.send(failure.frame(id)),
        }
    }
}

async fn carry_out(worker: &Worker, connection: &Connection, work: DeviceWork) -> Result<(), Failure> {
    match work {
        DeviceWork::Send(batch) => send(worker, connection, batch).await,
        DeviceWork::Acknowledge { up_to } => {
            let request = AckDeviceMessagesRequest { device_id: connection.device_id, up_to };
            worker.gateway.call::<AckDeviceMessages>(&request).await.map(drop)
        }
        DeviceWork::SetStatus(choice) => {
            let request = SetStatusRequest { user_id: connection.user_id, choice };
            worker.gateway.call::<SetStatus>(&request).await.map(drop)
        }
    }
}

async fn send(worker: &Worker, connection: &Connection, batch: DeviceMessageBatch) -> Result<(), Failure> {
    let named = batch.messages.iter().map(|message| message.user_id).chain(batch.complete_for);
    let ids: HashSet<UserId> = named.collect();
    let found = worker.gateway.call::<UserDevices>(&UsersRequest { ids: ids.into_iter().collect() }).await?;
    let devices = found.into_iter().map(|one| (one.user_id, one.device_ids.into_iter().collect())).collect();
    check(&batch, &devices, connection.device_id)?;
    let request = SendDeviceMessagesRequest {
        sender_id: connection.user_id,
        sender_device_id: connection.device_id,
        messages: batch.messages,
    };
    worker.gateway.call::<SendDeviceMessages>(&request).await.map(drop)
}

/// Whether each device is there and whose it is said to be, and none is missing of the user for whom it is complete.
fn check(
    batch: &DeviceMessageBatch,
    devices: &HashMap<UserId, HashSet<DeviceId>>,
    sending: DeviceId,
) -> Result<(), Failure> {
    let is_there = |user: UserId, device: &DeviceId| devices.get(&user).is_some_and(|all| all.contains(device));
    if let Some(user) = batch.complete_for {
        let for_user = batch.messages.iter().filter(|message| message.user_id == user);
        let named: HashSet<DeviceId> = for_user.map(|message| message.device_id).collect();
        let there = devices.get(&user).into_iter().flatten();
        let mut missing: Vec<_> = there.filter(|device| **device != sending && !named.contains(device)).collect();
        let mut stale: Vec<_> = named.iter().filter(|device| !is_there(user, device)).collect();
        if !missing.is_empty() || !stale.is_empty() {
            missing.sort_unstable();
            stale.sort_unstable();
            let mut failure = Failure::new(Code::DevicesMismatch, "");
            failure.extra.insert("missing".to_owned(), json!(missing));
            failure.extra.insert("stale".to_owned(), json!(stale));
            return Err(failure);
        }
    }
    match batch.messages.iter().find(|message| !is_there(message.user_id, &message.device_id)) {
        Some(message) => Err(Failure::new(Code::NotFound, format!("device {}", message.device_id))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use entrenous_protocol::{RawValue, device_message::NewDeviceMessage};
    use uuid::Uuid;

    use super::*;

    fn id<T: From<Uuid>>(number: u128) -> T {
        Uuid::from_u128(number).into()
    }

    /// User 1 has devices 11 and 12, user 2 has 21. Device 11 sends.
    fn outcome(targets: &[(u128, u128)], complete_for: Option<u128>) -> Result<(), Failure> {
        let message = |&(user, device): &(u128, u128)| NewDeviceMessage {
            id: id(7),
            user_id: id(user),
            device_id: id(device),
            content: RawValue::NULL.to_owned(),
        };
        let messages = targets.iter().map(message).collect();
        let devices = [(1, vec![11, 12]), (2, vec![21])];
        let devices = devices.map(|(user, devices)| (id(user), devices.into_iter().map(id).collect())).into();
        check(&DeviceMessageBatch { messages, complete_for: complete_for.map(id) }, &devices, id(11))
    }

    fn mismatch(targets: &[(u128, u128)], complete_for: u128) -> (Vec<DeviceId>, Vec<DeviceId>) {
        let failure = outcome(targets, Some(complete_for)).unwrap_err();
        assert_eq!(failure.code, Code::DevicesMismatch);
        let list = |name: &str| serde_json::from_value(failure.extra[name].clone()).unwrap();
        (list("missing"), list("stale"))
    }

    #[test]
    fn every_device_must_be_there_and_of_its_user() {
        assert_eq!(outcome(&[(1, 12), (2, 21), (1, 11)], None), Ok(()));
        for target in [(1, 13), (1, 21), (3, 21)] {
            assert_eq!(outcome(&[(1, 12), target], None).unwrap_err().code, Code::NotFound);
        }
    }

    #[test]
    fn a_complete_send_names_all_devices_but_the_sending_one() {
        assert_eq!(outcome(&[(1, 12)], Some(1)), Ok(()));
        assert_eq!(outcome(&[(1, 12), (1, 11), (2, 21)], Some(1)), Ok(()));
        assert_eq!(outcome(&[(2, 21)], Some(2)), Ok(()));
        assert_eq!(mismatch(&[(2, 21)], 1), (vec![id(12)], vec![]));
        assert_eq!(mismatch(&[(2, 22), (2, 23)], 2), (vec![id(21)], vec![id(22), id(23)]));
        assert_eq!(mismatch(&[(3, 31)], 3), (vec![], vec![id(31)]));
        assert_eq!(outcome(&[(1, 12), (2, 22)], Some(1)).unwrap_err().code, Code::NotFound);
    }
}
