//! `/api/v1/auth`: accounts and logins.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, ServiceConfig},
};
use entrenous_protocol::{
    Code, Failure,
    rest::{ChangePassword, Login, Refresh, Register, Tokens, User},
    rpc::identity,
};

use super::{Answer, end_login};
use crate::{
    http::{
        extract::{Caller, JsonBody, client_address},
        resource::at,
    },
    openapi::{Conflict, Forbidden, NotFound, RateLimited, RefreshRefused, TooLarge, Unauthenticated},
    state::Gateway,
};

pub(super) fn configure(config: &mut ServiceConfig) {
    at("/api/v1/auth/register").post(register).register(config);
    at("/api/v1/auth/login").post(login).register(config);
    at("/api/v1/auth/refresh").post(refresh).register(config);
    at("/api/v1/auth/logout").post(logout).register(config);
    at("/api/v1/auth/password").post(change_password).register(config);
}

/// Nobody signs in here where an outside issuer does it; logging out ends the login here.
fn check_signs_in(gateway: &Gateway) -> Result<(), Failure> {
    if gateway.tokens.are_outside() {
        let detail = "this server takes the tokens of an outside issuer: accounts, logins and passwords are there";
        return Err(Failure::new(Code::NotFound, detail));
    }
    Ok(())
}

/// Makes an account.
#[utoipa::path(
    post, path = "/api/v1/auth/register", tag = "auth", operation_id = "register",
    request_body = Register,
    responses((status = 201, description = "The account", body = User), NotFound, Conflict, RateLimited)
)]
pub(crate) async fn register(gateway: Data<Gateway>, body: JsonBody<Register>) -> Answer {
    check_signs_in(&gateway)?;
    let request = identity::RegisterRequest { user_id: gateway.ids.next(), registration: body.0 };
    let user = gateway.call::<identity::RegisterUser>(&request).await?;
    Ok(HttpResponse::Created().json(user))
}

/// Signs in on a device; without `device.id` the device is added.
#[utoipa::path(
    post, path = "/api/v1/auth/login", tag = "auth", operation_id = "login",
    request_body = Login,
    responses(
        (status = 200, description = "A pair of tokens", body = Tokens),
        Unauthenticated, NotFound, RateLimited, TooLarge
    )
)]
pub(crate) async fn login(request: HttpRequest, gateway: Data<Gateway>, body: JsonBody<Login>) -> Answer {
    check_signs_in(&gateway)?;
    let Login { username, password, device } = body.0;
    let address = client_address(&request, gateway.config.gateway_trusted_proxies);
    let login = identity::LoginRequest { username, password, device, address };
    let granted = gateway.call::<identity::Login>(&login).await?;
    if granted.is_new_device {
        gateway.note_device(granted.tokens.user.id, granted.tokens.device_id).await;
    }
    Ok(HttpResponse::Ok().json(granted.tokens))
}

/// Trades a refresh token for a new pair.
#[utoipa::path(
    post, path = "/api/v1/auth/refresh", tag = "auth", operation_id = "refresh",
    request_body = Refresh,
    responses((status = 200, description = "A new pair of tokens", body = Tokens), RefreshRefused, NotFound)
)]
pub(crate) async fn refresh(gateway: Data<Gateway>, body: JsonBody<Refresh>) -> Answer {
    check_signs_in(&gateway)?;
    let refresh = identity::RefreshRequest { refresh_token: body.0.refresh_token };
    Ok(HttpResponse::Ok().json(gateway.call::<identity::RefreshLogin>(&refresh).await?))
}

/// Ends this login and its connections.
#[utoipa::path(
    post, path = "/api/v1/auth/logout", tag = "auth", operation_id = "logout",
    security(("bearer" = [])),
    responses((status = 204, description = "The login has ended"))
)]
pub(crate) async fn logout(caller: Caller, gateway: Data<Gateway>) -> Answer {
    let login = identity::LogoutRequest { user_id: caller.0.sub, login_id: caller.0.sid };
    gateway.call::<identity::Logout>(&login).await?;
    end_login(&gateway, caller.0.sid).await;
    Ok(HttpResponse::NoContent().finish())
}

/// Changes the password and ends every other login.
#[utoipa::path(
    post, path = "/api/v1/auth/password", tag = "auth", operation_id = "change_password",
    security(("bearer" = [])), request_body = ChangePassword,
    responses((status = 204, description = "The password is the new one"), NotFound, Forbidden, RateLimited)
)]
pub(crate) async fn change_password(
    caller: Caller,
    request: HttpRequest,
    gateway: Data<Gateway>,
    body: JsonBody<ChangePassword>,
) -> Answer {
    check_signs_in(&gateway)?;
    let ChangePassword { current_password, new_password } = body.0;
    let change = identity::ChangePasswordRequest {
        user_id: caller.0.sub,
        login_id: caller.0.sid,
        current_password,
        new_password,
        address: client_address(&request, gateway.config.gateway_trusted_proxies),
    };
    gateway.call::<identity::ChangePassword>(&change).await?;
    Ok(HttpResponse::NoContent().finish())
}
