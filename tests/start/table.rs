//! The figures as people read them.

use std::fmt::Write as _;

use crate::{Figures, Spread, Sweep};

pub fn of(all: &[Figures], sweep: Option<&Sweep>) -> String {
    let mut text = format!(
        "{:<24} {:>8}  {:>22}  {:>18}  {:>6}  {:>22}  {:>22}  {:>22}  {:>7}  {:>7}  {:>7}  {:>6}\n",
        "function",
        "memory",
        "exec to first next",
        "on a CPU",
        "faults",
        "first AWS call",
        "first answer",
        "warm answer",
        "idle MB",
        "peak MB",
        "binary",
        "zip MB",
    );
    for figures in all {
        let _ = writeln!(
            text,
            "{:<24} {:>8}  {:>22}  {:>18}  {:>6}  {:>22}  {:>22}  {:>22}  {:>7.1}  {:>7.1}  {:>7}  {:>6}",
            figures.subject,
            figures.memory,
            spread(figures.next_us),
            spread(figures.cpu_us),
            figures.faults.median,
            spread(figures.first_call_us),
            spread(figures.first_answer_us),
            spread(figures.warm_answer_us),
            megabytes(figures.idle_kb * 1024),
            megabytes(figures.peak_kb * 1024),
            figures.binary_bytes.map(|bytes| format!("{:.1}", megabytes(bytes))).unwrap_or_default(),
            figures.zip_bytes.map(|bytes| format!("{:.1}", megabytes(bytes))).unwrap_or_default(),
        );
    }
    text.push_str("(milliseconds: the median, and from the least to the most; +: the quota holds from the first event on)\n");
    if let Some(sweep) = sweep {
        let pages: Vec<String> = sweep.page_us.iter().map(|page| milliseconds(*page)).collect();
        let _ = writeln!(
            text,
            "\nA sweep of {} roles on {} clusters, as it is planned: {} ms in all, {} MB at most, {} messages of up to {} KB.\n\
             From a page of 1,000 roles to the next request: {} ms",
            sweep.roles,
            sweep.clusters,
            milliseconds(sweep.answer_us),
            format_args!("{:.1}", megabytes(sweep.peak_kb * 1024)),
            sweep.messages,
            sweep.largest_message / 1000,
            pages.join(", "),
        );
        let worker = &sweep.worker;
        let _ = writeln!(
            text,
            "{} of these messages at once, with nothing to do: {} calls, {} ms, {:.1} MB at most",
            worker.messages,
            worker.calls,
            milliseconds(worker.answer_us),
            megabytes(worker.peak_kb * 1024),
        );
    }
    text
}

fn spread(of: Spread) -> String {
    format!("{} ({}–{})", milliseconds(of.median), milliseconds(of.least), milliseconds(of.most))
}

fn milliseconds(micros: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let millis = micros as f64 / 1000.0;
    if millis < 100.0 { format!("{millis:.1}") } else { format!("{millis:.0}") }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1_000_000.0
}
