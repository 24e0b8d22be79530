//! Pure: what two looks at a gateway mean. Memory that grows with the connections is load; memory that grows without them
//! is a leak; much memory asked for and given back is a storm.

use std::fmt::Write as _;

use super::diff::Diff;
use super::look::Look;
use super::size::{show, show_change};
use crate::limits;

/// Two looks, and what the heap snapshots beside them say; empty when there are none.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// First look.
    pub before: Look,
    /// Second look.
    pub after: Look,
    /// Growth of live memory by call path.
    pub live: Option<Diff>,
    /// Memory asked for between the looks, by call path.
    pub made: Option<Diff>,
}

/// One thing that stands out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// Live memory grew by so many bytes more than connections and rings explain.
    Leak(i64),
    /// Live memory grew by so many bytes, as connections or rings did.
    Load(i64),
    /// So many bytes per second were asked for.
    Storm(i64),
    /// So many bytes stand behind no live memory.
    Fragmented(i64),
    /// So many tasks were added that no connection explains.
    Tasks(i64),
    /// So many descriptors were added that no connection explains.
    Descriptors(i64),
    /// The kernel's socket buffers grew by so many bytes more than new connections explain.
    SocketMemory(i64),
}

impl Finding {
    /// True when somebody should act.
    pub fn is_alarm(self) -> bool {
        !matches!(self, Self::Load(_))
    }
}

impl Change {
    /// Time between the looks, seconds; never 0.
    pub fn seconds(&self) -> f64 {
        let between = self.after.at.saturating_sub(self.before.at);
        between.as_secs_f64().max(0.001)
    }

    /// Bytes asked for per second.
    pub fn allocation_rate(&self) -> i64 {
        let bytes = self.after.allocated_total - self.before.allocated_total;
        (bytes as f64 / self.seconds()) as i64
    }

    /// What stands out, the worst first.
    pub fn findings(&self) -> Vec<Finding> {
        let (before, after) = (&self.before, &self.after);
        let newcomers = (after.connections - before.connections).max(0);
        let mut found = Vec::new();
        let grown = after.allocated - before.allocated;
        let explained =
            newcomers * limits::DOCTOR_CONNECTION_BYTES + (after.rings - before.rings).max(0);
        let noise = limits::DOCTOR_LEAK_BYTES.max(before.allocated / limits::DOCTOR_LEAK_SHARE);
        if grown - explained > noise {
            found.push(Finding::Leak(grown - explained));
        }
        let more_tasks = after.tasks - before.tasks - newcomers;
        if more_tasks > limits::DOCTOR_COUNT {
            found.push(Finding::Tasks(more_tasks));
        }
        let more_descriptors = after.descriptors - before.descriptors - newcomers;
        if more_descriptors > limits::DOCTOR_COUNT {
            found.push(Finding::Descriptors(more_descriptors));
        }
        let buffers = after.socket_memory - before.socket_memory;
        let more_buffers = buffers - newcomers * limits::DOCTOR_SOCKET_BYTES;
        if more_buffers > limits::DOCTOR_BUFFERS_BYTES {
            found.push(Finding::SocketMemory(more_buffers));
        }
        if self.allocation_rate() > limits::DOCTOR_STORM_BYTES_PER_SECOND {
            found.push(Finding::Storm(self.allocation_rate()));
        }
        // What both looks see is no peak that passes.
        let idle = |look: &Look| look.resident - look.allocated;
        let idle = idle(before).min(idle(after));
        let share = after.allocated / limits::DOCTOR_FRAGMENTED_SHARE;
        if idle > limits::DOCTOR_FRAGMENTED_BYTES.max(share) {
            found.push(Finding::Fragmented(idle));
        }
        if grown > noise && grown - explained <= noise {
            found.push(Finding::Load(grown));
        }
        found
    }

    /// The whole report for people, with the `most` call paths that matter.
    pub fn report(&self, most: usize) -> String {
        let mut text = self.figures();
        let findings = self.findings();
        if !findings.iter().any(|f| f.is_alarm()) {
            text.push_str("\nHealthy: nothing grew that connections do not explain.\n");
        }
        for finding in &findings {
            let _ = writeln!(text, "\n{}", self.sentence(*finding));
            match finding {
                Finding::Leak(_) | Finding::Load(_) => {
                    text.push_str(&paths(self.live.as_ref(), "Growth of live memory", most));
                }
                Finding::Storm(_) => {
                    text.push_str(&paths(self.made.as_ref(), "Memory asked for", most));
                }
                _ => {}
            }
        }
        text
    }

    fn figures(&self) -> String {
        let (b, a) = (&self.before, &self.after);
        let ratio = |look: &Look| look.resident as f64 / look.allocated.max(1) as f64;
        let mut text = format!(
            "{:<24}{:>14}{:>14}{:>14}\n",
            "figure", "before", "after", "change"
        );
        for (name, old, new) in [
            ("live heap", b.allocated, a.allocated),
            ("resident heap", b.resident, a.resident),
            ("recent frames", b.rings, a.rings),
            ("kernel socket memory", b.socket_memory, a.socket_memory),
        ] {
            let change = show_change(new - old);
            let _ = writeln!(
                text,
                "{name:<24}{:>14}{:>14}{change:>14}",
                show(old),
                show(new)
            );
        }
        for (name, old, new) in [
            ("connections", b.connections, a.connections),
            ("tasks", b.tasks, a.tasks),
            ("descriptors", b.descriptors, a.descriptors),
        ] {
            let _ = writeln!(text, "{name:<24}{old:>14}{new:>14}{:>+14}", new - old);
        }
        let (old, new) = (ratio(b), ratio(a));
        let _ = writeln!(
            text,
            "{:<24}{old:>14.2}{new:>14.2}{:>+14.2}",
            "resident / live",
            new - old
        );
        let rate = format!("{}/s", show(self.allocation_rate()));
        let _ = writeln!(text, "{:<24}{:>14}{rate:>14}", "allocation rate", "");
        text
    }

    fn sentence(&self, finding: Finding) -> String {
        let moved = self.after.connections - self.before.connections;
        match finding {
            Finding::Leak(bytes) => format!(
                "LEAK: live memory grew by {} more than {moved:+} connections explain ({}/s).",
                show(bytes),
                show((bytes as f64 / self.seconds()) as i64)
            ),
            Finding::Load(bytes) => format!(
                "Load: live memory grew by {}, as connections ({moved:+}) and recent frames did.",
                show(bytes)
            ),
            Finding::Storm(rate) => format!(
                "ALLOCATION STORM: {}/s are asked for and given back; the paths below ask.",
                show(rate)
            ),
            Finding::Fragmented(bytes) => format!(
                "FRAGMENTED: {} of resident memory hold nothing in both looks; --heap-decay-ms gives freed memory back sooner.",
                show(bytes)
            ),
            Finding::Tasks(n) => {
                format!("TASKS: {n} more, beyond one per connection; see /debug/tasks.")
            }
            Finding::Descriptors(n) => {
                format!("DESCRIPTORS: {n} more, beyond one per connection.")
            }
            Finding::SocketMemory(bytes) => format!(
                "SOCKET MEMORY: the kernel holds {} more for sockets: peers that do not read.",
                show(bytes)
            ),
        }
    }
}

fn paths(diff: Option<&Diff>, title: &str, most: usize) -> String {
    match diff {
        Some(diff) => format!("{title}, by call path:\n{}", diff.table(most)),
        None => "No call paths: the gateway gave no heap profile.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::forensics::diff::Row;
    use std::time::Duration;

    const MIB: i64 = 1 << 20;

    /// A healthy gateway with 1,000 connections, ten seconds apart, changed by `differ`.
    fn change(differ: impl FnOnce(&mut Look)) -> Change {
        let before = Look {
            at: Duration::ZERO,
            allocated: 20 * MIB,
            resident: 25 * MIB,
            allocated_total: 100 * MIB,
            connections: 1000,
            tasks: 1010,
            descriptors: 1020,
            ..Look::default()
        };
        let mut after = Look {
            at: Duration::from_secs(10),
            allocated_total: 101 * MIB,
            ..before
        };
        differ(&mut after);
        Change {
            before,
            after,
            ..Change::default()
        }
    }

    #[test]
    fn nothing_that_moves_is_healthy() {
        let change = change(|_| ());
        assert!(change.findings().is_empty());
        assert!(change.report(5).contains("Healthy"));
    }

    #[test]
    fn memory_without_connections_is_a_leak() {
        let mut change = change(|a| a.allocated += 5 * MIB);
        assert_eq!(change.findings(), [Finding::Leak(5 * MIB)]);
        change.live = Some(Diff {
            rows: vec![Row {
                path: "sluice_gateway::registry::add".to_owned(),
                before: 0,
                after: 5 * MIB,
                objects: 9,
            }],
            before: 0,
            after: 5 * MIB,
        });
        let report = change.report(5);
        assert!(report.contains("LEAK: live memory grew by 5.0 MiB more than +0"));
        assert!(report.contains("sluice_gateway::registry::add"));
    }

    #[test]
    fn memory_of_new_connections_and_recent_frames_is_load() {
        let grown = change(|a| {
            (a.allocated, a.connections) = (a.allocated + 5 * MIB, 3000);
            (a.tasks, a.descriptors) = (a.tasks + 2000, a.descriptors + 2000);
        });
        assert_eq!(grown.findings(), [Finding::Load(5 * MIB)]);
        assert!(!grown.findings()[0].is_alarm());
        let rings = change(|a| (a.allocated, a.rings) = (a.allocated + 30 * MIB, 30 * MIB));
        assert_eq!(rings.findings(), [Finding::Load(30 * MIB)]);
    }

    #[test]
    fn connections_that_leave_explain_nothing() {
        let left = change(|a| (a.allocated, a.connections) = (a.allocated + 5 * MIB, 10));
        assert_eq!(left.findings(), [Finding::Leak(5 * MIB)]);
    }

    #[test]
    fn much_asked_for_and_given_back_is_a_storm() {
        let mut change = change(|a| a.allocated_total += 2000 * MIB);
        let rate = change.allocation_rate();
        assert_eq!(change.findings(), [Finding::Storm(rate)]);
        change.made = Some(Diff::default());
        assert!(change.report(5).contains("Memory asked for, by call path"));
    }

    #[test]
    fn tasks_descriptors_and_buffers_are_counted_against_connections() {
        let change = change(|a| {
            a.tasks += 500;
            a.descriptors += 700;
            a.socket_memory += 64 * MIB;
        });
        assert_eq!(
            change.findings(),
            [
                Finding::Tasks(500),
                Finding::Descriptors(700),
                Finding::SocketMemory(64 * MIB)
            ]
        );
    }

    #[test]
    fn memory_that_holds_nothing_is_fragmentation() {
        let after_peak = change(|a| a.resident = 200 * MIB);
        assert!(after_peak.findings().is_empty());
        let mut stays = after_peak;
        stays.before.resident = 300 * MIB;
        assert_eq!(stays.findings(), [Finding::Fragmented(180 * MIB)]);
        let small = change(|a| a.resident = 45 * MIB);
        assert!(small.findings().is_empty());
    }

    #[test]
    fn a_report_without_profiles_says_so() {
        let change = change(|a| a.allocated += 5 * MIB);
        assert!(change.report(5).contains("No call paths"));
    }
}
