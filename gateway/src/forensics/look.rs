//! Pure: one look at a running gateway, from its `/metrics`.

use std::time::Duration;

use thiserror::Error;

/// Figures of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// Since the doctor started.
    pub at: Duration,
    /// Bytes that the program holds.
    pub allocated: i64,
    /// Bytes of memory behind them.
    pub resident: i64,
    /// Bytes handed out since the process started.
    pub allocated_total: i64,
    /// Bytes of recent frames, which have a limit of their own.
    pub rings: i64,
    /// Open connections.
    pub connections: i64,
    /// Tasks that have not ended.
    pub tasks: i64,
    /// Open descriptors.
    pub descriptors: i64,
    /// Bytes of socket buffers in the kernel.
    pub socket_memory: i64,
}

/// A metric that the gateway did not serve.
#[derive(Debug, PartialEq, Eq, Error)]
#[error("/metrics has no {0}: is this the admin port of a sluice-gateway of this version?")]
pub struct NoMetric(pub &'static str);

/// Reads one look.
pub fn look(at: Duration, metrics: &str) -> Result<Look, NoMetric> {
    let figure = |name| metric(metrics, name).ok_or(NoMetric(name));
    Ok(Look {
        at,
        allocated: figure("sluice_heap_allocated_bytes")?,
        resident: figure("sluice_heap_resident_bytes")?,
        allocated_total: figure("sluice_heap_allocated_total_bytes")?,
        rings: figure("sluice_ring_bytes")?,
        connections: figure("sluice_connections")?,
        tasks: figure("sluice_tasks")?,
        descriptors: figure("process_open_fds")?,
        socket_memory: figure("sluice_memory_socket_bytes")?,
    })
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    let value: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(value as i64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    const METRICS: &str = "# TYPE sluice_connections gauge\nsluice_connections 12\n\
        sluice_heap_allocated_bytes 1000\nsluice_heap_allocated_total_bytes 5e6\n\
        sluice_heap_resident_bytes 3000\nsluice_ring_bytes 7\nsluice_tasks_limit 9\n\
        sluice_tasks 20\nprocess_open_fds 40\nsluice_memory_socket_bytes 4096\n# EOF\n";

    #[test]
    fn figures_are_found() {
        let look = look(Duration::ZERO, METRICS).unwrap();
        assert_eq!((look.connections, look.allocated), (12, 1000));
        assert_eq!((look.allocated_total, look.tasks), (5_000_000, 20));
        assert_eq!((look.descriptors, look.socket_memory), (40, 4096));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = METRICS.replace("sluice_ring_bytes", "other");
        assert_eq!(
            look(Duration::ZERO, &without),
            Err(NoMetric("sluice_ring_bytes"))
        );
        assert_eq!(
            look(Duration::ZERO, "<html>"),
            Err(NoMetric("sluice_heap_allocated_bytes"))
        );
    }
}
