//! Statements with a fixed text.
//!
//! diesel keeps a query prepared by its type, and never one of `sql_query`. So each hot statement is a type of its own.

/// A statement: its binds in the order of the `{}` in its text (`$1`, `$2`, … name them again), and the type of its rows.
#[macro_export]
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $sql:ty = $rust:ty),* $(,)? } -> $row:ty; $($text:expr),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, diesel::query_builder::QueryId)]
        pub(crate) struct $name { $(pub(crate) $field: $rust),* }

        impl $name {
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
