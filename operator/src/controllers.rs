//! Everything the leader runs (effects).

use crate::drills::run::Nudges;
use crate::drills::{drill, run};
use crate::fleet::controller;
use crate::limits::NUDGES;
use crate::watch::Watches;
use crate::world::World;
use futures::channel::mpsc::channel;
use std::sync::Arc;

/// Runs all controllers until this is dropped, or a gateway says that there is a newer leader.
pub async fn run(world: Arc<World>, watches: Watches) {
    let Watches {
        fleets,
        pods,
        nodes,
        services,
        budgets,
        revisions,
        secrets,
        experiments,
        drills,
    } = watches;
    let (to_fleets, fleet_nudges) = channel(NUDGES);
    let (to_drills, drill_nudges) = channel(NUDGES);
    let of_fleets = controller::Watches {
        fleets,
        pods,
        nodes,
        services,
        budgets,
        revisions,
        secrets,
        nudges: fleet_nudges,
    };
    let nudges = Nudges {
        fleets: to_fleets,
        drills: to_drills,
    };
    let superseded = world.superseded.clone();
    tokio::select! {
        () = superseded.cancelled() => {}
        () = controller::run(Arc::clone(&world), of_fleets) => {}
        () = run::run(Arc::clone(&world), experiments, nudges) => {}
        () = drill::run(world, drills, drill_nudges) => {}
    }
}
