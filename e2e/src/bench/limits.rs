//! Pure: what each figure must reach, and how long the benchmarks wait, with unit and reason.

use std::time::Duration;

/// Most heap per idle, authenticated connection with two channels, bytes.
pub const USER_BYTES_PER_CONN: f64 = 2000.0;

/// Most resident memory per such connection, bytes: heap, allocator's slack and page tables.
pub const RSS_BYTES_PER_CONN: f64 = 2500.0;

/// After a burst, memory per connection over what it was before.
pub const AFTER_BURST: f64 = 1.1;

/// Most CPU of an idle gateway over that of the floor, cores.
pub const IDLE_CORES: f64 = 0.05;

/// Least share of the bare `writev` loop's messages per core-second.
pub const FANOUT_RATIO: f64 = 0.80;

/// Most time from publish to the last receiver, times the floor's, 99th percentile.
pub const FANOUT_P99_RATIO: f64 = 3.0;

/// Least share of the bare upgrade's handshakes per core-second, with a resume token.
pub const HANDSHAKE_RATIO: f64 = 0.70;

/// Most bytes and allocations per upgrade, times those of a bare hyper upgrade.
pub const HANDSHAKE_COST_RATIO: f64 = 1.3;

/// Most bytes allocated per upgrade, as a share of a default tungstenite accept.
pub const HANDSHAKE_TUNGSTENITE_SHARE: f64 = 0.25;

/// Most heap that an upgrade leaves after its connection is gone, bytes: nothing, but what threads keep for their next
/// allocations is counted, too, and is some hundred KB over all upgrades of a run.
pub const HANDSHAKE_LEFT_BYTES: f64 = 64.0;

/// Heap at the end of the churn over that after its warm-up.
pub const CHURN_HEAP: f64 = 1.05;

/// Resident memory at the end of the churn over that after its warm-up.
pub const CHURN_RSS: f64 = 1.10;

/// Least advantage of one vectored call over one lock and one write per message.
pub const WRITER_RATIO: f64 = 2.0;

/// Longest poll of a shard under full fan-out, 99th percentile, milliseconds.
pub const STALL_MS: f64 = 1.0;

/// Time to the last of the other receivers while 1,000 read nothing, over that before, 99th percentile.
pub const SLOW_P99_RATIO: f64 = 1.2;

/// Most heap that one stalled reader may cost beyond an idle one, bytes: at most its own unsent remainder of one frame.
pub const SLOW_USER_BYTES: f64 = 16.0 * 1024.0;

/// Most kernel memory that one stalled reader may cost, bytes. `SO_SNDBUF` is 16 KiB, which the kernel doubles; a frame of
/// 8 KiB overshoots it once, and the reader's own receive buffer is counted, too, because nothing tells the two ends apart.
pub const SLOW_KERNEL_BYTES: f64 = 96.0 * 1024.0;

/// CPU of a connection that comes and goes with the allocator's default decay, over that with the best one.
pub const DECAY_CPU_RATIO: f64 = 1.05;

/// Wait before the memory that a crowd left is read: somewhat more than the default decay.
pub const SETTLE_DECAY: Duration = Duration::from_secs(4);

/// Heap in the last third of the soak over that in the first one after its warm-up.
pub const SOAK_HEAP: f64 = 1.05;

/// Resident memory in the last third of the soak over that in the first one after its warm-up.
pub const SOAK_RSS: f64 = 1.10;

/// Descriptors, and tasks, by which the last third of the soak may exceed the first one: sockets that were just on their way out.
pub const SOAK_COUNT: f64 = 100.0;

/// Lasting life of a login token: longer than any benchmark.
pub const TOKEN_LIFE: Duration = Duration::from_hours(6);

/// Handshakes that the load has open at once. Enough to keep the server busy, and below every server's backlog.
pub const DIALS_IN_FLIGHT: usize = 64;

/// Connections from one loopback source address; beyond some 15,000 the kernel's search for a free port becomes slow.
pub const DIALS_PER_SOURCE: usize = 4000;

/// Source addresses that are used in turn. With the ports of one address a million connections fit before one is used again.
pub const SOURCES: usize = 64;

/// Most time for all connections of one round.
pub const CONNECT_WITHIN: Duration = Duration::from_mins(2);

/// Most time for one broadcast to reach everybody.
pub const BROADCAST_WITHIN: Duration = Duration::from_mins(1);

/// Most time for stalled readers to be noticed, and later to catch up. Less than the 45 s after which they are closed as slow.
pub const STALLED_WITHIN: Duration = Duration::from_secs(40);

/// Most time for a server to listen.
pub const START_WITHIN: Duration = Duration::from_secs(20);

/// Most time for a server to forget connections that were reset.
pub const FORGET_WITHIN: Duration = Duration::from_secs(30);

/// Time limit of one request to publish or admin port.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(30);

/// Wait between two looks at something that takes milliseconds.
pub const LOOK: Duration = Duration::from_millis(10);

/// Wait before CPU time is read: the kernel accounts at ticks, and the server may still be finishing its books.
pub const SETTLE: Duration = Duration::from_millis(50);

/// Wait before memory is read: allocator decay and the last timers of the handshakes.
pub const SETTLE_MEMORY: Duration = Duration::from_secs(10);

/// From one broadcast to the next where the time to the last receiver is measured; large ones get as much rest between them.
pub const BROADCAST_PACE: Duration = Duration::from_millis(500);

/// Silence of an idle client between two beats: 15 s, of which jitter takes a tenth on average.
pub const BEAT: Duration = Duration::from_millis(13_500);

/// Longest silence of the benchmarks on standard error.
pub const PROGRESS: Duration = Duration::from_secs(10);
