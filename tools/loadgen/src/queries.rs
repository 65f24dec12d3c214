//! How many database operations the services have done, from their metrics.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context;

use crate::processes::read_list;

/// What every service with a database counts.
const METRIC: &str = "chat_db_operations_total";
/// Services with a database, as the names of their processes begin.
const SERVICES: [&str; 4] = ["identity", "message-store", "delivery-tracker", "presence"];

/// Database operations by service and operation.
pub(crate) type Queries = BTreeMap<String, BTreeMap<String, u64>>;

/// Asks each service's admin port; nothing where there is no list, or all services are one process.
pub(crate) async fn read(list: Option<&Path>) -> anyhow::Result<Queries> {
    let mut queries = Queries::new();
    for process in read_list(list)? {
        let Some(service) = SERVICES.iter().find(|service| process.name.starts_with(**service)) else { continue };
        let address = format!("http://127.0.0.1:{}/metrics", process.port);
        let answer = async { reqwest::get(&address).await?.error_for_status()?.text().await };
        let text = answer.await.with_context(|| format!("cannot read the metrics of {}", process.name))?;
        let counts = queries.entry((*service).to_owned()).or_default();
        for (operation, count) in text.lines().filter_map(operation) {
            *counts.entry(operation.to_owned()).or_default() += count;
        }
    }
    Ok(queries)
}

/// What was counted from one reading to the next. A service that was restarted meanwhile counts from nothing.
pub(crate) fn since(now: &Queries, earlier: &Queries) -> Queries {
    let difference = |service: &String, counts: &BTreeMap<String, u64>| {
        let before = |operation| earlier.get(service).and_then(|counts| counts.get(operation)).copied().unwrap_or(0);
        counts.iter().map(|(operation, count)| (operation.clone(), count.saturating_sub(before(operation)))).collect()
    };
    now.iter().map(|(service, counts)| (service.clone(), difference(service, counts))).collect()
}

/// One line of the Prometheus text format: operation and count.
fn operation(line: &str) -> Option<(&str, u64)> {
    let (labels, count) = line.strip_prefix(METRIC)?.strip_prefix('{')?.split_once('}')?;
    let (_, rest) = labels.split_once("operation=\"")?;
    let (operation, _) = rest.split_once('"')?;
    Some((operation, count.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_text() {
        assert_eq!(operation("chat_db_operations_total{operation=\"read_ranges\"} 12"), Some(("read_ranges", 12)));
        assert_eq!(operation("chat_db_operations_total{a=\"b\",operation=\"x\"} 1"), Some(("x", 1)));
        for line in ["# TYPE chat_db_operations_total counter", "chat_db_operations_totals{operation=\"x\"} 1", ""] {
            assert_eq!(operation(line), None, "{line}");
        }
    }

    #[test]
    fn only_what_is_new_counts() {
        let counts = |count| Queries::from([("identity".to_owned(), BTreeMap::from([("x".to_owned(), count)]))]);
        assert_eq!(since(&counts(7), &counts(3)), counts(4));
        assert_eq!(since(&counts(7), &Queries::new()), counts(7));
        assert_eq!(since(&counts(1), &counts(3)), counts(0));
    }
}
