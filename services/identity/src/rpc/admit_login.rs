//! Notes a login that an outside issuer made.

use entrenous_db::DbError;
use entrenous_protocol::rpc::identity::{AdmitLoginRequest, LoginAdmitted};

use crate::{
    domain::fields,
    error::RequestError,
    state::AppState,
    store::outside_logins::{self, AdmitOutcome, OutsideLogin},
};

pub(super) async fn admit_login(state: AppState, request: AdmitLoginRequest) -> Result<LoginAdmitted, RequestError> {
    let username = fields::normalise_username(&request.username);
    let login = OutsideLogin {
        user_id: request.user_id,
        device_id: request.device_id,
        login_id: request.login_id,
        username: Some(username.as_str()).filter(|username| fields::is_username(username)),
        role: request.role,
        devices_max: state.limits().devices_per_user,
        now: state.now(),
    };
    let mut connection = state.connection().await?;
    let admitted = outside_logins::admit(&mut connection, &login).await.map_err(DbError::from)?;
    drop(connection);
    match admitted {
        AdmitOutcome::Admitted { is_new_device, ended } => {
            state.announce_ended(login.user_id, ended).await;
            Ok(LoginAdmitted { is_new_device })
        }
        AdmitOutcome::Ended => Err(RequestError::NotLoggedIn),
        AdmitOutcome::Suspended => Err(RequestError::Suspended),
        AdmitOutcome::TooManyDevices => Err(RequestError::TooManyDevices { limit: login.devices_max }),
        AdmitOutcome::NameTaken => Err(RequestError::NameTaken),
    }
}
