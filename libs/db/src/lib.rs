//! PostgreSQL: the pool, TLS, and the migration runner.
//!
//! Does not belong here: any query of a service. Tables are read and written by their owner alone.

mod connect;
mod migrate;
mod pool;
mod statement;

pub use migrate::{Migrations, migrate, redo_all};
pub use pool::{Connection, Database, DbConfig, DbError};
