//! The methods of `entrenous_protocol::rpc::identity`: read, call, answer.
//!
//! The bus runs every request as a task of the service's own, which the caller's leaving does not end: no write is
//! abandoned half-way, and the stop waits for it. Nothing in here may therefore be raced against a timeout.

mod admit_login;
mod change_password;
mod credentials;
mod devices;
mod keys;
mod login;
mod logout;
mod people;
mod refresh;
mod register;
mod users;

use std::future::Future;

use entrenous_bus::{Bus, BusError, Deadline, ServeOptions};
use entrenous_protocol::{
    Failure,
    rpc::{Method, identity},
};
use entrenous_runtime::{Shutdown, Tasks};
use tokio::time::Instant;

use crate::{error::RequestError, metrics, state::AppState};

/// Serves every method until the stop.
pub(crate) async fn serve(state: &AppState, bus: &Bus, tasks: &Tasks, stop: &Shutdown) -> Result<(), BusError> {
    let server = Server { state, bus, tasks, stop };
    server.method::<identity::RegisterUser, _, _>(register::register).await?;
    server.method_with_deadline::<identity::Login, _, _>(login::login).await?;
    server.method::<identity::AdmitLogin, _, _>(admit_login::admit_login).await?;
    server.method::<identity::RefreshLogin, _, _>(refresh::refresh).await?;
    server.method::<identity::Logout, _, _>(logout::logout).await?;
    server.method::<identity::ChangePassword, _, _>(change_password::change_password).await?;
    server.method::<identity::Users, _, _>(users::users).await?;
    server.method::<identity::FindUser, _, _>(users::find_user).await?;
    server.method::<identity::UpdateProfile, _, _>(users::update_profile).await?;
    server.method::<identity::Follow, _, _>(people::follow).await?;
    server.method::<identity::Unfollow, _, _>(people::unfollow).await?;
    server.method::<identity::ListFollowing, _, _>(people::list_following).await?;
    server.method::<identity::Block, _, _>(people::block).await?;
    server.method::<identity::Unblock, _, _>(people::unblock).await?;
    server.method::<identity::ListBlocked, _, _>(people::list_blocked).await?;
    server.method::<identity::ListDevices, _, _>(devices::list_devices).await?;
    server.method::<identity::UserDevices, _, _>(devices::user_devices).await?;
    server.method::<identity::DeleteDevice, _, _>(devices::delete_device).await?;
    server.method::<identity::Jwks, _, _>(keys::jwks).await?;
    server.method::<identity::RevokedLogins, _, _>(keys::revoked_logins).await
}

struct Server<'a> {
    state: &'a AppState,
    bus: &'a Bus,
    tasks: &'a Tasks,
    stop: &'a Shutdown,
}

impl Server<'_> {
    async fn method<M, H, F>(&self, handler: H) -> Result<(), BusError>
    where
        M: Method + 'static,
        H: Fn(AppState, M::Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<M::Response, RequestError>> + Send + 'static,
    {
        self.method_with_deadline::<M, _, _>(move |state, request, _deadline| handler(state, request)).await
    }

    async fn method_with_deadline<M, H, F>(&self, handler: H) -> Result<(), BusError>
    where
        M: Method + 'static,
        H: Fn(AppState, M::Request, Deadline) -> F + Send + Sync + 'static,
        F: Future<Output = Result<M::Response, RequestError>> + Send + 'static,
    {
        let state = self.state.clone();
        let answer = move |request, deadline| answer(M::NAME, handler(state.clone(), request, deadline));
        self.bus.serve::<M, _, _>(self.tasks, self.stop, ServeOptions::default(), answer).await
    }
}

async fn answer<T>(method: &'static str, work: impl Future<Output = Result<T, RequestError>>) -> Result<T, Failure> {
    let start = Instant::now();
    let result = work.await;
    metrics::answered(method, start.elapsed(), result.as_ref().err());
    result.map_err(|error| error.failure())
}
