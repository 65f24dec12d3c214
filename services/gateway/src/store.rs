//! What every new connection asks the message store, and the tracker: gathered, so that a storm of reconnects is few requests.

use std::sync::Arc;

use entrenous_bus::Bus;
use entrenous_model::DeviceId;
use entrenous_protocol::{
    Code, Failure,
    rpc::{
        store::{
            ATTACH_MAX, Attach, AttachRequest, AttachResponse, Attaching, MEMBERSHIPS_MAX, Memberships,
            ReadMemberships, ReadMembershipsRequest, SyncingDevice,
        },
        tracker::{DeviceQueue, QUEUES_MAX, ReadDeviceQueues, ReadDeviceQueuesRequest},
    },
};
use entrenous_runtime::{Shutdown, Tasks};

use crate::{gather::Gather, state::CALL_MAX, store_clock::StoreClock};

/// What the store says of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) incarnation: u64,
    pub(crate) connection_no: u64,
}

/// Questions to the store and the tracker.
#[derive(Debug)]
pub struct StoreReads {
    attach: Gather<Attaching, Attached>,
    memberships: Gather<SyncingDevice, Memberships>,
    device_queues: Gather<DeviceId, DeviceQueue>,
}

impl StoreReads {
    pub(crate) fn start(bus: &Bus, clock: &Arc<StoreClock>, tasks: &Tasks, shutdown: &Shutdown) -> Self {
        let (attaching, clock) = (bus.clone(), Arc::clone(clock));
        let attach = Gather::start(tasks, shutdown, ATTACH_MAX, move |connections| {
            attach(attaching.clone(), Arc::clone(&clock), connections)
        });
        let reading = bus.clone();
        let memberships = Gather::start(tasks, shutdown, MEMBERSHIPS_MAX, move |devices| {
            let bus = reading.clone();
            async move { bus.call::<ReadMemberships>(&ReadMembershipsRequest { devices }, CALL_MAX).await }
        });
        let asking = bus.clone();
        let device_queues = Gather::start(tasks, shutdown, QUEUES_MAX, move |device_ids| {
            let bus = asking.clone();
            async move { bus.call::<ReadDeviceQueues>(&ReadDeviceQueuesRequest { device_ids }, CALL_MAX).await }
        });
        Self { attach, memberships, device_queues }
    }

    /// Tells of a new connection of a device.
    ///
    /// # Errors
    /// `unavailable`: the store does not answer. Asking again gives another number.
    pub(crate) async fn attach(&self, device: Attaching) -> Result<Attached, Failure> {
        self.attach.ask(device).await
    }

    /// Where the queue of a device stands.
    ///
    /// # Errors
    /// `unavailable`: the tracker does not answer.
    pub(crate) async fn device_queue(&self, device_id: DeviceId) -> Result<DeviceQueue, Failure> {
        self.device_queues.ask(device_id).await
    }

    /// All that a `sync` needs to know of a user. Where the device has cursors of its own, `device_start_seq` may be too low.
    ///
    /// # Errors
    /// `unavailable`: the store does not answer.
    pub(crate) async fn memberships(
        &self,
        Attaching { user_id, device_id }: Attaching,
        has_cursors: bool,
    ) -> Result<Memberships, Failure> {
        self.memberships.ask(SyncingDevice { user_id, device_id, has_cursors }).await
    }
}

/// Asks twice, in half the time each. What was given up is not carried out later: its number would be the higher one, and
/// close the connection that came of the second try.
async fn attach(bus: Bus, clock: Arc<StoreClock>, connections: Vec<Attaching>) -> Result<Vec<Attached>, Failure> {
    let mut request = AttachRequest { connections, not_after: clock.after(CALL_MAX / 2) };
    let response = match try_attach(&bus, &clock, &request).await {
        Err(failure) if failure.code == Code::Unavailable => {
            request.not_after = clock.after(CALL_MAX / 2);
            try_attach(&bus, &clock, &request).await?
        }
        answer => answer?,
    };
    let attached = |connection_no| Attached { incarnation: response.incarnation, connection_no };
    Ok(response.connection_nos.into_iter().map(attached).collect())
}

async fn try_attach(bus: &Bus, clock: &StoreClock, request: &AttachRequest) -> Result<AttachResponse, Failure> {
    let response = bus.call_once::<Attach>(request, CALL_MAX / 2).await?;
    let Some(at) = response.at else {
        // Told in time that it was too late: the clock is not what it seemed.
        clock.forget();
        return Err(Failure::unavailable("the message store's clock was set"));
    };
    clock.note(at);
    Ok(response)
}
