use super::*;

fn used(name: &str, cpu_seconds: f64, memory_grown_kib: i64) -> Used {
    Used { name: name.to_owned(), cpu_seconds, memory_kib: 2_048, memory_grown_kib, was_restarted: false }
}

fn report() -> Report {
    let used = vec![used("gateway-1", 1.0, 10), used("postgresql", 3.0, 100)];
    let servers = Servers { used, generator_cpu: Duration::from_secs(1) };
    let latencies = Latencies { count: 2_000, p50_us: 1_500, ..Latencies::default() };
    Report::calls(&serde_json::json!({"page": 50}), "a read", (latencies, 100.0), servers).unwrap()
}

#[test]
fn processor_time_and_memory_are_told_for_each() {
    let report = report();
    assert_eq!(report.gateway_bytes_for_each(10), Some(1_024.0));
    assert_eq!(report.gateway_bytes_for_each(0), None);
    let figures: Vec<_> = report.figures.iter().map(|figure| figure.value).collect();
    assert_eq!(figures, [100.0, 2.0], "{report}");
    let unknown = Report::new(&(), Servers::default()).unwrap();
    assert_eq!((unknown.gateway_bytes_for_each(10), unknown.cpu_for_each(10, 1.0)), (None, None));
}

#[test]
fn a_report_is_read_as_it_was_written_and_fits_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    std::fs::write(&path, serde_json::to_vec(&report().with_name("reads")).unwrap()).unwrap();
    let read = Report::read(&path).unwrap();
    let text = table(&[read]);
    assert!(
        text.contains("| reads | a read | 1.50 |") && text.contains("| reads | postgresql | 3.00 | 2 | 0 |"),
        "{text}"
    );
    std::fs::write(&path, "{}").unwrap();
    assert!(Report::read(&path).unwrap_err().to_string().contains("is no report"));
}
