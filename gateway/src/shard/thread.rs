//! Effects (a thread, a runtime): runs one shard from its listener to its end.

use std::io;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio_util::sync::CancellationToken;

use super::poll::measured;
use super::{Shard, tasks};
use crate::core::Core;
use crate::{events, limits, listener};

/// Starts a shard. The receiver completes when its thread has ended, with all its connections.
pub fn start(
    core: Arc<Core>,
    index: u16,
    listener: std::net::TcpListener,
    stop: CancellationToken,
) -> io::Result<oneshot::Receiver<()>> {
    let (running, ended) = oneshot::channel::<()>();
    let runtime = move || {
        Builder::new_current_thread()
            .enable_all()
            .event_interval(limits::SHARD_TASKS_PER_POLL)
            .build_local(LocalOptions::default())
    };
    std::thread::Builder::new()
        .name(format!("shard-{index}"))
        .spawn(move || {
            let _running = running;
            match runtime().and_then(|runtime| run(&runtime, core, index, listener, &stop)) {
                Ok(()) => {}
                Err(error) => events::shard_failed(index, &error),
            }
        })?;
    Ok(ended)
}

fn run(
    runtime: &LocalRuntime,
    core: Arc<Core>,
    index: u16,
    listener: std::net::TcpListener,
    stop: &CancellationToken,
) -> io::Result<()> {
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener)?;
        core.breaker.watch(Handle::current());
        let shard = Shard::new(core, index);
        let parts = [
            spawn_local(measured(shard.clone(), tasks::dispatch(shard.clone()))),
            spawn_local(measured(shard.clone(), tasks::keep_time(shard.clone()))),
            spawn_local(measured(shard.clone(), tasks::sweep(shard.clone()))),
            spawn_local(tasks::beat(shard.clone())),
            spawn_local(listener::accept(shard, listener)),
        ];
        let first = futures::future::select_all(parts);
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            // They run for ever; one that does not has panicked, and without it the shard is of no use.
            (result, ..) = first => match result {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    })
}
