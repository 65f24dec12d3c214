//! Whole systems for tests.
//!
//! A [`System`] is the `entrenous` program as people run it, driven from outside and killed from outside. A [`Cluster`]
//! has the same services as tasks of the test, each on lines to NATS and PostgreSQL that can be cut one by one. Both
//! belong to the test that started them: when they are dropped, also by a panic, everything is gone.

mod cluster;

pub use cluster::{Cluster, Node};
pub use entrenous_chaos::{PASSWORD, Paused, Person, Shape, System, program};
