//! The program as a person meets it, on real servers.

mod dev;
mod migrations;
mod run;
