//! What every new connection asks the message store: gathered, so that a storm of reconnects is few requests.

use entrenous_bus::Bus;
use entrenous_protocol::{
    Failure,
    rpc::store::{
        ATTACH_MAX, Attach, AttachRequest, Attaching, MEMBERSHIPS_MAX, Memberships, ReadMemberships,
        ReadMembershipsRequest, SyncingDevice,
    },
};
use entrenous_runtime::{Shutdown, Tasks};

use crate::{gather::Gather, state::CALL_MAX};

/// What the store says of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attached {
    pub(crate) incarnation: u64,
    pub(crate) connection_no: u64,
}

/// Questions to the store.
#[derive(Debug)]
pub struct StoreReads {
    attach: Gather<Attaching, Attached>,
    memberships: Gather<SyncingDevice, Memberships>,
}

impl StoreReads {
    pub(crate) fn start(bus: &Bus, tasks: &Tasks, shutdown: &Shutdown) -> Self {
        let attaching = bus.clone();
        let attach =
            Gather::start(tasks, shutdown, ATTACH_MAX, move |connections| attach(attaching.clone(), connections));
        let reading = bus.clone();
        let memberships = Gather::start(tasks, shutdown, MEMBERSHIPS_MAX, move |devices| {
            let bus = reading.clone();
            async move { bus.call::<ReadMemberships>(&ReadMembershipsRequest { devices }, CALL_MAX).await }
        });
        Self { attach, memberships }
    }

    /// Tells of a new connection of a device.
    ///
    /// # Errors
    /// `unavailable`: the store does not answer. Asking again gives another number.
    pub(crate) async fn attach(&self, device: Attaching) -> Result<Attached, Failure> {
        self.attach.ask(device).await
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

async fn attach(bus: Bus, connections: Vec<Attaching>) -> Result<Vec<Attached>, Failure> {
    let response = bus.call::<Attach>(&AttachRequest { connections }, CALL_MAX).await?;
    let attached = |connection_no| Attached { incarnation: response.incarnation, connection_no };
    Ok(response.connection_nos.into_iter().map(attached).collect())
}
