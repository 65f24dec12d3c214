//! The pool, against a PostgreSQL of its own.

mod pool;
