//! What all resources have in common: problems, extraction, origins, headers.

pub(crate) mod answer;
pub(crate) mod extract;
pub(crate) mod origin;
pub(crate) mod problem;
pub(crate) mod resource;
