//! The tables of schema `messaging`; the only place with SQL.
//!
//! Every statement is a type of its own, with a fixed text: diesel keeps such statements prepared, which it never does
//! with `sql_query`. All functions take a connection, not the pool.

pub mod append;
pub(crate) mod changes;
pub(crate) mod conversations;
pub(crate) mod devices;
pub(crate) mod directs;
pub(crate) mod entries;
pub(crate) mod feed;
pub(crate) mod feed_entries;
pub(crate) mod memberships;

/// A statement: its binds in the order of the `{}` in its text (`$1`, `$2`, … name them again), and the type of its rows.
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $sql:ty = $rust:ty),* $(,)? } -> $row:ty; $($text:expr),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, diesel::query_builder::QueryId)]
        pub(crate) struct $name { $(pub(crate) $field: $rust),* }

        impl $name {
            /// The text, for tests of its plan.
            pub(crate) const TEXT: &'static str = concat!($($text),+);
        }

        impl diesel::query_builder::QueryFragment<diesel::pg::Pg> for $name {
            fn walk_ast<'b>(
                &'b self,
                mut out: diesel::query_builder::AstPass<'_, 'b, diesel::pg::Pg>,
            ) -> diesel::QueryResult<()> {
                let mut parts = Self::TEXT.split("{}");
                out.push_sql(parts.next().unwrap_or_default());
                $(
                    out.push_bind_param::<$sql, _>(&self.$field)?;
                    out.push_sql(parts.next().unwrap_or_default());
                )*
                Ok(())
            }
        }

        impl diesel::query_builder::Query for $name {
            type SqlType = $row;
        }
    };
}
use statement;

/// Seqs and counts are `bigint`, never negative.
pub(crate) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// No log is longer than `bigint` can count.
pub(crate) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A name that the database holds and this build knows.
pub(crate) fn parse<T>(text: &str, of: impl Fn(&str) -> Option<T>) -> diesel::QueryResult<T> {
    of(text).ok_or_else(|| diesel::result::Error::DeserializationError(format!("unknown name {text:?}").into()))
}
