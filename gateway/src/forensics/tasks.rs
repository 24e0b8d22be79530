//! Effects (runtime counters, `/proc`): what `/debug/tasks` tells.

use serde::Serialize;
use tokio::runtime::Handle;

use crate::core::Core;

/// One tokio runtime, as far as its stable metrics tell.
#[derive(Clone, Debug, Serialize)]
pub struct Runtime {
    /// `CurrentThread` for a shard, `MultiThread` for the rest.
    pub kind: String,
    /// Threads that run tasks.
    pub workers: usize,
    /// Tasks that have not ended.
    pub alive_tasks: usize,
    /// Tasks that wait for any worker.
    pub queued_tasks: usize,
    /// Time in which workers were not parked, all together, milliseconds.
    pub busy_ms: u64,
    /// Times that workers ran out of work.
    pub parks: u64,
}

/// Tasks by what they are for.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kinds {
    /// One per WebSocket.
    pub connections: u64,
    /// One per request on the client port that has not become a connection.
    pub handshakes: u64,
    /// Closed connections that wait for the peer's FIN.
    pub closing: u64,
    /// Everything else: HTTP, the broker's client, timers of the process.
    pub other: u64,
}

/// What `/debug/tasks` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Tasks {
    /// Tasks of all runtimes that have not ended.
    pub alive_tasks: u64,
    /// The same by kind.
    pub kinds: Kinds,
    /// Each runtime.
    pub runtimes: Vec<Runtime>,
    /// Threads of the process.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Kernel memory in the cgroup's socket buffers, bytes, as the breaker last saw it.
    pub kernel_socket_bytes: u64,
}

/// Looks at everything once.
pub fn tasks(core: &Core) -> Tasks {
    let handles = core.breaker.watched();
    let runtimes: Vec<Runtime> = handles.iter().map(look).collect();
    let alive_tasks: u64 = runtimes.iter().map(|r| r.alive_tasks as u64).sum();
    let connections = core.registry.len() as u64;
    let handshakes = core.handshakes_in_progress() as u64;
    let closing = core.registry.lingering() as u64;
    Tasks {
        alive_tasks,
        kinds: Kinds {
            connections,
            handshakes,
            closing,
            other: alive_tasks.saturating_sub(connections + handshakes + closing),
        },
        runtimes,
        threads: entries("/proc/self/task"),
        descriptors: entries("/proc/self/fd"),
        kernel_socket_bytes: core.metrics.breaker.sockets.get(),
    }
}

fn look(handle: &Handle) -> Runtime {
    let metrics = handle.metrics();
    let workers = metrics.num_workers();
    let busy = (0..workers).map(|w| metrics.worker_total_busy_duration(w));
    Runtime {
        kind: format!("{:?}", handle.runtime_flavor()),
        workers,
        alive_tasks: metrics.num_alive_tasks(),
        queued_tasks: metrics.global_queue_depth(),
        busy_ms: busy.sum::<std::time::Duration>().as_millis() as u64,
        parks: (0..workers).map(|w| metrics.worker_park_count(w)).sum(),
    }
}

fn entries(directory: &str) -> u64 {
    std::fs::read_dir(directory).map_or(0, |entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_runtime_is_seen_with_its_tasks() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let _waiting = runtime.spawn(std::future::pending::<()>());
        let seen = look(runtime.handle());
        assert_eq!((seen.workers, seen.alive_tasks), (1, 1));
        assert_eq!(seen.kind, "CurrentThread");
    }
}
