//! Requests between the services: one type per method, JSON on the wire.
//!
//! A rolling update runs old and new code together: a new field of a request has a default, a method whose meaning
//! changes gets a new name.

pub mod identity;
pub mod presence;
pub mod store;
pub mod tracker;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::Failure;

/// A method of a service, reached at `entrenous.rpc.<service>.<method>`.
pub trait Method {
    /// The service's name, such as `message-store`.
    const SERVICE: &'static str;
    /// The method's name, such as `append`.
    const NAME: &'static str;
    /// What is asked.
    type Request: Serialize + DeserializeOwned + Send + 'static;
    /// What is answered.
    type Response: Serialize + DeserializeOwned + Send + 'static;
}

/// What travels back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// The answer.
    Ok(T),
    /// Why there is none.
    Err(Failure),
}

/// An answer without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {}

macro_rules! methods {
    ($service:literal { $($(#[$doc:meta])* $name:ident = $text:literal: $request:ty => $response:ty;)* }) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl $crate::rpc::Method for $name {
            const SERVICE: &'static str = $service;
            const NAME: &'static str = $text;
            type Request = $request;
            type Response = $response;
        }
    )*};
}
pub(crate) use methods;
