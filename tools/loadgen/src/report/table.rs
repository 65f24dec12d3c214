//! Many reports as tables, in Markdown.

use std::fmt::Write;

use super::{Report, digits, to_ms};

/// Latencies, figures, and what each process used, of all runs.
pub(crate) fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    write(&mut text, reports).unwrap_or_default();
    text
}

fn write(text: &mut String, reports: &[Report]) -> std::fmt::Result {
    writeln!(
        text,
        "## Latencies\n\n| run | latency, ms | p50 | p99 | p99.9 | max | count |\n|---|---|---|---|---|---|---|"
    )?;
    for report in reports {
        for series in &report.latencies {
            let of = &series.latencies;
            let [p50, p99, p999, max] = [of.p50_us, of.p99_us, of.p999_us, of.max_us].map(|us| digits(to_ms(us)));
            let (run, name) = (&report.name, &series.name);
            writeln!(text, "| {run} | {name} | {p50} | {p99} | {p999} | {max} | {} |", of.count)?;
        }
    }
    writeln!(text, "\n## Figures\n\n| run | | |\n|---|---|---|")?;
    for report in reports {
        for figure in &report.figures {
            writeln!(text, "| {} | {} | {} |", report.name, figure.name, digits(figure.value))?;
        }
        for (error, count) in &report.errors {
            writeln!(text, "| {} | error: {error} | {count} |", report.name)?;
        }
    }
    writeln!(text, "\n## Processes\n\n| run | process | CPU, s | memory, MiB | grown, MiB |\n|---|---|---|---|---|")?;
    for report in reports {
        for used in &report.processes {
            let (memory, grown) = (used.memory_kib / 1_024, used.memory_grown_kib / 1_024);
            writeln!(text, "| {} | {} | {:.2} | {memory} | {grown} |", report.name, used.name, used.cpu_seconds)?;
        }
        writeln!(text, "| {} | all servers | {:.2} | | |", report.name, report.servers_cpu_seconds)?;
        writeln!(text, "| {} | the generator | {:.2} | | |", report.name, report.generator_cpu_seconds)?;
    }
    Ok(())
}
