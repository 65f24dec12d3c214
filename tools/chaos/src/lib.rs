//! A whole system that is harmed while clients talk, and everything that they did and saw.
//!
//! A [`System`] is the `entrenous` program as people run it, driven from outside and killed from outside. In a [`Talk`]
//! people use it over the public protocol alone, and a recorder keeps what they did and saw. [`nemesis`] kills, pauses,
//! wipes and cuts meanwhile. [`run`](run()) does all of it and gives an [`Outcome`]; system tests use the parts.
//!
//! What is decided by chance follows from one seed. When it happens does not: processes and networks have their own pace,
//! so a seed repeats the plan of a run and not the run.

pub mod nemesis;
mod outcome;
mod people;
mod run;
mod system;
mod talk;

pub use outcome::Outcome;
pub use people::{PASSWORD, Person};
pub use run::{Plan, read_history, run};
pub use system::{Paused, Shape, System, program};
pub use talk::{Crowd, Phase, Talk, World};
