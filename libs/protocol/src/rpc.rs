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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// The answer.
    Ok(T),
    /// Why there is none.
    Err(Failure),
}

/// An answer without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Done {}

/// A method, for the documentation.
#[cfg(feature = "schema")]
#[derive(Debug)]
pub struct Description {
    /// The service's name.
    pub service: &'static str,
    /// The method's name.
    pub name: &'static str,
    /// What it does.
    pub help: &'static str,
    /// Schema of what is asked.
    pub request: schemars::Schema,
    /// Schema of what is answered.
    pub response: schemars::Schema,
}

/// Every method of every service.
#[cfg(feature = "schema")]
pub fn describe(generator: &mut schemars::SchemaGenerator) -> Vec<Description> {
    let services = [identity::describe, store::describe, tracker::describe, presence::describe];
    services.into_iter().flat_map(|service| service(generator)).collect()
}

macro_rules! methods {
    ($service:literal {
        $($(#[doc = $doc:literal])* $name:ident = $text:literal: $request:ty => $response:ty;)*
    }) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug)]
            pub enum $name {}

            impl $crate::rpc::Method for $name {
                const SERVICE: &'static str = $service;
                const NAME: &'static str = $text;
                type Request = $request;
                type Response = $response;
            }
        )*

        /// The methods of this service.
        #[cfg(feature = "schema")]
        pub(super) fn describe(generator: &mut schemars::SchemaGenerator) -> Vec<$crate::rpc::Description> {
            vec![$($crate::rpc::Description {
                service: $service,
                name: $text,
                help: concat!($($doc),*),
                request: generator.subschema_for::<$request>(),
                response: generator.subschema_for::<$response>(),
            }),*]
        }
    };
}
pub(crate) use methods;
