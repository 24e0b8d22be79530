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
    // From the first moment, so that publishers' open connections have moved when the port closes.
    core.set_exiting();
    core.drain.terminate();
    events::terminating(ending.endpoint_lag, usable, core.registry.len());
    if core.drain.accepts() {
        wait_for_endpoints(core, began).await;
    }
    core.drain
        .close_within(usable.saturating_sub(began.elapsed()));
    core.registry.empty().await;
    // Endpoints may still name this pod: clients who come are told 503 rather than refused by the kernel, and publishers are
    // served. Their Service knew nothing of a drain before, so the lag counts from the signal however long clients were refused.
    tokio::time::sleep(ending.endpoint_lag.saturating_sub(began.elapsed())).await;
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
