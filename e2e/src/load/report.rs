//! Pure: what a load reports.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::audit::Missing;
use super::tally::{Count, Reading};

/// The figures of one step, or of the whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Clients made by its end.
    pub clients: u64,
    /// Clients with a live connection at its end.
    pub connected: u64,
    /// Publishes answered as stored.
    pub accepted: u64,
    /// Publishes given up or refused for good.
    pub refused: u64,
    /// Publishes that were due but not begun: the load generator itself could not keep its rate.
    pub skipped: u64,
    /// Of all publishes, the share accepted within one second, percent.
    pub accepted_within_1s_percent: f64,
    /// Time from the beginning of a publish to its answer, median.
    pub publish_p50_ms: f64,
    /// The same, 99th percentile.
    pub publish_p99_ms: f64,
    /// Deliveries due: accepted publishes times their subscribers.
    pub expected: u64,
    /// Messages handed to applications.
    pub delivered: u64,
    /// Due and never handed to the application, without a gap notice.
    pub lost: u64,
    /// Of those, never seen on the wire, too.
    pub lost_on_wire: u64,
    /// Handed to the application again.
    pub repeated: u64,
    /// Came again on the wire; overlap of connections makes some.
    pub repeated_on_wire: u64,
    /// Handed to the application after a later one of the same channel.
    pub out_of_order: u64,
    /// Came after a later one of the same channel on one connection.
    pub out_of_order_on_wire: u64,
    /// Gap notices.
    pub gaps: u64,
    /// The publisher's own count in the content did not increase.
    pub content_faults: u64,
    /// Publishes whose offset was not above the one before on their channel. Of the whole run.
    pub offset_faults: u64,
    /// Connections made after a client's first one: moves and reconnects.
    pub reconnects: u64,
    /// Of those, moved without a break.
    pub migrations: u64,
    /// Attempts to connect that followed a failure.
    pub tries: u64,
    /// Welcomes by resume token.
    pub resumed: u64,
    /// Welcomes by full login, first ones included.
    pub logins: u64,
    /// Most welcomes in any one second, first ones excluded.
    pub peak_welcomes_1s: u64,
    /// Most welcomes in any five seconds, first ones excluded.
    pub peak_welcomes_5s: u64,
    /// Time without a connection, median.
    pub reconnect_p50_ms: f64,
    /// The same, 99th percentile.
    pub reconnect_p99_ms: f64,
    /// From the beginning of a publish to the application, median.
    pub delivery_p50_ms: f64,
    /// The same, 99th percentile.
    pub delivery_p99_ms: f64,
    /// The same, longest.
    pub delivery_max_ms: f64,
    /// `error` messages from servers.
    pub errors: u64,
    /// Clients that ended for good.
    pub stopped: u64,
    /// What was noteworthy, by its text: why live connections ended, why publishes were repeated.
    pub incidents: BTreeMap<String, u64>,
}

/// The whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditReport {
    /// From start to stop.
    pub total: StepReport,
    /// The steps marked within it.
    pub steps: Vec<StepReport>,
}

/// The load at one moment, for a progress display.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Snapshot {
    /// Clients made, and to be made.
    pub clients: u64,
    /// Clients with a live connection.
    pub connected: u64,
    /// Publishes accepted so far.
    pub accepted: u64,
    /// Publishes refused so far.
    pub refused: u64,
    /// Messages delivered so far.
    pub delivered: u64,
    /// Gap notices so far.
    pub gaps: u64,
    /// Publishes accepted in the last whole second.
    pub publishes_per_second: u64,
    /// Messages delivered in the last whole second.
    pub deliveries_per_second: u64,
    /// Welcomes of any kind in the last second.
    pub welcomes_per_second: u64,
}

/// What a report is made from beside the counters.
pub(super) struct Span {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) clients: u64,
    pub(super) connected: u64,
    /// Missing now, and when the span began.
    pub(super) missing: Missing,
    pub(super) missing_before: Missing,
    pub(super) peaks: (u64, u64),
    pub(super) again: u64,
    pub(super) offset_faults: u64,
}

impl StepReport {
    pub(super) fn new(span: Span, read: &Reading) -> Self {
        let (accepted, refused) = (read.get(Count::Accepted), read.get(Count::Refused));
        let in_time = read.get(Count::AcceptedInTime) as f64;
        let begun = (accepted + refused) as f64;
        let lost = span.missing.app.saturating_sub(span.missing_before.app);
        Self {
            name: span.name,
            seconds: span.seconds,
            clients: span.clients,
            connected: span.connected,
            accepted,
            refused,
            skipped: read.get(Count::Skipped),
            accepted_within_1s_percent: if begun > 0.0 {
                in_time / begun * 100.0
            } else {
                100.0
            },
            publish_p50_ms: read.publish.quantile_ms(0.5),
            publish_p99_ms: read.publish.quantile_ms(0.99),
            expected: read.get(Count::Matched) + lost,
            delivered: read.get(Count::Delivered),
            lost,
            lost_on_wire: span.missing.wire.saturating_sub(span.missing_before.wire),
            repeated: read.get(Count::Repeated),
            repeated_on_wire: read.get(Count::RepeatedOnWire),
            out_of_order: read.get(Count::Late),
            out_of_order_on_wire: read.get(Count::DisorderOnWire),
            gaps: read.get(Count::Gaps),
            content_faults: read.get(Count::ContentFaults),
            offset_faults: span.offset_faults,
            reconnects: span.again,
            migrations: read.get(Count::Migrations),
            tries: read.get(Count::Tries),
            resumed: read.get(Count::Resumed),
            logins: read.get(Count::Logins),
            peak_welcomes_1s: span.peaks.0,
            peak_welcomes_5s: span.peaks.1,
            reconnect_p50_ms: read.reconnect.quantile_ms(0.5),
            reconnect_p99_ms: read.reconnect.quantile_ms(0.99),
            delivery_p50_ms: read.delivery.quantile_ms(0.5),
            delivery_p99_ms: read.delivery.quantile_ms(0.99),
            delivery_max_ms: read.delivery.quantile_ms(1.0),
            errors: read.get(Count::Errors),
            stopped: read.get(Count::Stopped),
            incidents: read.incidents.clone(),
        }
    }

    /// The promise was kept: nothing lost, repeated, out of order, told as gap or refused, and no client gave up.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let faults = [
            self.lost,
            self.repeated,
            self.out_of_order,
            self.out_of_order_on_wire,
            self.gaps,
            self.content_faults,
            self.offset_faults,
            self.refused,
            self.stopped,
        ];
        faults.iter().all(|fault| *fault == 0)
    }
}

impl StepReport {
    /// A line for each kind of incident.
    pub(crate) fn write_incidents(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.incidents {
            write!(f, "\n    {count} × {what}")?;
        }
        Ok(())
    }
}

impl fmt::Display for StepReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} ({:.1} s, {} of {} clients connected)",
            self.name, self.seconds, self.connected, self.clients
        )?;
        writeln!(
            f,
            "  publishes   {} accepted, {} refused, {} not begun, {:.3} % within 1 s, p50 {} ms, p99 {} ms",
            self.accepted,
            self.refused,
            self.skipped,
            self.accepted_within_1s_percent,
            self.publish_p50_ms,
            self.publish_p99_ms
        )?;
        writeln!(
            f,
            "  deliveries  {} due, {} made, lost {} (wire {}), repeated {} (wire {}), out of order {} (wire {}), gap notices {}",
            self.expected,
            self.delivered,
            self.lost,
            self.lost_on_wire,
            self.repeated,
            self.repeated_on_wire,
            self.out_of_order,
            self.out_of_order_on_wire,
            self.gaps
        )?;
        writeln!(
            f,
            "  latency     p50 {} ms, p99 {} ms, max {} ms; content faults {}, offset faults {}",
            self.delivery_p50_ms,
            self.delivery_p99_ms,
            self.delivery_max_ms,
            self.content_faults,
            self.offset_faults
        )?;
        write!(
            f,
            "  connections {} again ({} moved), {} tries, {} resumed, {} logins, peak {} in 1 s, {} in 5 s, away p50 {} ms, p99 {} ms, {} errors, {} stopped",
            self.reconnects,
            self.migrations,
            self.tries,
            self.resumed,
            self.logins,
            self.peak_welcomes_1s,
            self.peak_welcomes_5s,
            self.reconnect_p50_ms,
            self.reconnect_p99_ms,
            self.errors,
            self.stopped
        )?;
        self.write_incidents(f)
    }
}
