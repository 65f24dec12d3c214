//! What the identity service answers.
#![expect(missing_docs, reason = "fields are named like those of docs/protocol.md")]

use entrenous_model::{DeviceId, LoginId, UserId};
use serde::{Deserialize, Serialize};

use super::{Done, methods};
use crate::rest::{Device, LoginDevice, Page, Profile, ProfilePatch, Register, Tokens, User, UserRole};

methods! { "identity" {
    /// Makes an account. `conflict` when the name is taken; a repeat under the same id gets the account.
    RegisterUser = "register": RegisterRequest => User;
    /// Signs in on a device. `unauthenticated`, `rate_limited`, `not_found` (device), `too_large` (devices).
    Login = "login": LoginRequest => LoginGranted;
    /// Notes a login that an outside issuer made: its user and device come into being. `unauthenticated` (the login has
    /// ended, or the device was removed), `forbidden` (suspended), `too_large` (devices), `conflict` (no name is free).
    AdmitLogin = "admit_login": AdmitLoginRequest => LoginAdmitted;
    /// Trades a refresh token. `unauthenticated`, `refresh_token_reused`.
    RefreshLogin = "refresh": RefreshRequest => Tokens;
    /// Ends a login.
    Logout = "logout": LogoutRequest => Done;
    /// Ends every other login of the user. `forbidden`, `rate_limited`.
    ChangePassword = "change_password": ChangePasswordRequest => Done;
    /// Users by id, in no order; unknown ids are left out. At most [`USERS_MAX`].
    Users = "users": UsersRequest => Vec<User>;
    /// A user by name, compared without case.
    FindUser = "find_user": FindUserRequest => Option<User>;
    /// Changes one's own profile. `unavailable`: the message store may not know of it yet.
    UpdateProfile = "update_profile": UpdateProfileRequest => User;
    /// One's own devices, oldest first.
    ListDevices = "list_devices": ListDevicesRequest => Vec<Device>;
    /// The devices of users, in no order; who has none is left out. At most [`USERS_MAX`].
    UserDevices = "user_devices": UsersRequest => Vec<DevicesOfUser>;
    /// Removes a device and ends its logins. `not_found`.
    DeleteDevice = "delete_device": DeleteDeviceRequest => Done;
    /// Follows somebody. `not_found`, `invalid_request` (oneself), `too_large` (above [`PEOPLE_MAX`]).
    Follow = "follow": PersonRequest => Done;
    /// Follows somebody no longer.
    Unfollow = "unfollow": PersonRequest => Done;
    /// Whom one follows, in the order in which they were added.
    ListFollowing = "list_following": ListPeopleRequest => Page<Profile>;
    /// Blocks somebody; answered when the message store knows. `not_found`, `invalid_request` (oneself), `too_large` (above
    /// [`PEOPLE_MAX`]), `unavailable` (the store may not know of it yet).
    Block = "block": PersonRequest => Done;
    /// Blocks somebody no longer. `unavailable` as for [`Block`].
    Unblock = "unblock": PersonRequest => Done;
    /// Whom one has blocked, in the order in which they were added.
    ListBlocked = "list_blocked": ListPeopleRequest => Page<Profile>;
    /// The public keys of access tokens (RFC 7517).
    Jwks = "jwks": Done => serde_json::Value;
    /// Logins that ended within the life of an access token and a minute.
    RevokedLogins = "revoked_logins": Done => Vec<LoginId>;
}}

/// Ids in one request of [`Users`] and [`UserDevices`].
pub const USERS_MAX: usize = 1_000;
/// People whom a user may follow, and people whom a user may have blocked.
pub const PEOPLE_MAX: usize = 1_000;
/// Profiles in a page of [`ListFollowing`] and [`ListBlocked`].
pub const PEOPLE_PAGE_MAX: u32 = 100;

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RegisterRequest {
    /// The account's id, given by the caller: a repeated request is known by it.
    pub user_id: UserId,
    pub registration: Register,
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginRequest {
    pub username: String,
    pub password: String,
    pub device: LoginDevice,
    /// The client's address, for the limit on failed logins.
    pub address: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginGranted {
    pub tokens: Tokens,
    /// The device was added by this login.
    pub is_new_device: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AdmitLoginRequest {
    pub user_id: UserId,
    pub device_id: DeviceId,
    /// The same for all tokens of a login.
    pub login_id: LoginId,
    /// Taken where it may be a name and is free; else the user keeps the one there is, at first the id.
    pub username: String,
    pub role: UserRole,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LoginAdmitted {
    /// The device was added by this.
    pub is_new_device: bool,
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RefreshRequest {
    pub refresh_token: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogoutRequest {
    pub user_id: UserId,
    pub login_id: LoginId,
}

#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ChangePasswordRequest {
    pub user_id: UserId,
    pub login_id: LoginId,
    pub current_password: String,
    pub new_password: String,
    pub address: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UsersRequest {
    pub ids: Vec<UserId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FindUserRequest {
    pub username: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateProfileRequest {
    pub user_id: UserId,
    pub patch: ProfilePatch,
}

/// What a user does about another.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PersonRequest {
    pub user_id: UserId,
    pub person: UserId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListPeopleRequest {
    pub user_id: UserId,
    /// `next` of the page before.
    pub cursor: Option<String>,
    pub limit: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListDevicesRequest {
    pub user_id: UserId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DevicesOfUser {
    pub user_id: UserId,
    pub device_ids: Vec<DeviceId>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeleteDeviceRequest {
    pub user_id: UserId,
    pub device_id: DeviceId,
}
