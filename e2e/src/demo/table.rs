//! Effects (prints): the table that ends the demo.

use std::fmt::Write as _;
use std::time::Duration;

use crate::lab::traffic::Audit;
use crate::progress;

/// One step of the demo.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) took: Duration,
    pub(super) audit: Audit,
}

/// All steps so far.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub(super) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether every step passed its audit.
    pub(super) fn clean(&self) -> bool {
        self.rows.iter().all(|row| row.audit.fault().is_none())
    }

    /// Prints the table, and under it what was wrong, if anything.
    pub(super) fn print(&self, ready: Duration) {
        let mut text = format!(
            "\n{:<20} {:>6} {:>7} {:>15} {:>9} {:>5} {:>8} {:>9} {:>5} {:>8} {:>9} {:>9}\n",
            "step",
            "took",
            "moved",
            "peak 5s/allowed",
            "delivered",
            "lost",
            "repeated",
            "unordered",
            "gaps",
            "refused",
            "in 1 s",
            "p99"
        );
        for Row { name, took, audit } in &self.rows {
            let r = &audit.report;
            let _ = writeln!(
                text,
                "{name:<20} {:>4.1} s {:>7} {:>15} {:>9} {:>5} {:>8} {:>9} {:>5} {:>8} {:>7.2} % {:>6} ms",
                took.as_secs_f32(),
                r.reconnects,
                format!("{}/{}", r.peak_welcomes_5s, audit.allowed_in_5s),
                r.delivered,
                r.lost,
                r.repeated,
                r.out_of_order,
                r.gaps,
                r.refused,
                r.accepted_within_1s_percent,
                r.delivery_p99_ms,
            );
        }
        progress::say(&text);
        progress::say(&format!(
            "chart install + apply → fleet Ready: {:.1} s",
            ready.as_secs_f32()
        ));
        for row in &self.rows {
            if let Some(fault) = row.audit.fault() {
                progress::say(&format!("NOT CLEAN  {}: {fault}", row.name));
            }
        }
    }
}
