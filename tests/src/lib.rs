//! Whole systems for tests: the `entrenous` program as people run it, driven from outside and killed from outside.
//!
//! A [`System`] belongs to the test that started it: when it is dropped, also by a panic, its processes are killed and
//! its data removed.

mod people;
mod system;

pub use people::{PASSWORD, Person};
pub use system::{Shape, System, program};
