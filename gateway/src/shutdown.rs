//! Effects (clock): what happens after SIGTERM, in order.

use std::sync::Arc;
use std::time::Instant;

use crate::core::Core;
use crate::{events, limits};

/// Not ready; accept while endpoints lag behind; move everybody; close what is left; done as soon as nobody is left.
pub async fn terminate(core: &Arc<Core>) {
    let began = Instant::now();
    let ending = core.config.ending;
    // What the kubelet kills is not closed in order, so a part of the grace period is kept for that.
    let usable = ending
        .grace_period
        .saturating_sub(limits::TERMINATION_RESERVE);
    core.health.set_terminating();
    core.drain.terminate();
    events::terminating(ending.endpoint_lag, usable, core.registry.len());
    if core.drain.accepts() {
        wait_for_endpoints(core, began).await;
    }
    core.drain
        .close_within(usable.saturating_sub(began.elapsed()));
    core.registry.empty().await;
    // Endpoints may still name this pod: those who come are told 503 rather than refused by the kernel.
    let told = ending
        .endpoint_lag
        .saturating_sub(core.drain.refused_for().max(began.elapsed()));
    tokio::time::sleep(told).await;
    core.set_exiting();
    // Bounded by the reaper's own limit; after it the kernel closes what is left.
    let _ = tokio::time::timeout(limits::EXIT_WAIT, core.registry.all_closed()).await;
    events::stopped(began.elapsed());
}

/// A drain that the operator orders meanwhile ends the wait: it knows what endpoints say.
async fn wait_for_endpoints(core: &Arc<Core>, began: Instant) {
    let lag = core.config.ending.endpoint_lag;
    let mut look = tokio::time::interval(limits::DRAIN_TICK);
    while core.drain.accepts() && began.elapsed() < lag {
        look.tick().await;
    }
}
