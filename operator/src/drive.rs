//! Runs a controller (effects): what fleets, drills and experiments have in common.

use crate::world::World;
use futures::StreamExt as _;
use kube::core::DynamicObject;
use kube::runtime::controller::{self, Action, Controller};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

/// Runs a controller while it is polled. Reconciles report their own failures and say when to come back, so what is left
/// to report here are the watches' own errors.
pub async fn drive<R, F>(
    name: &'static str,
    controller: Controller<DynamicObject>,
    reconcile: R,
    world: Arc<World>,
) where
    R: FnMut(Arc<DynamicObject>, Arc<World>) -> F,
    F: Future<Output = Result<Action, Infallible>> + Send + 'static,
{
    controller
        .run(reconcile, |_, error, _| match *error {}, Arc::clone(&world))
        .for_each(|result| {
            match result {
                // One that is gone needs nothing more; what it owned goes by itself.
                Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
                Err(error) => world.facts.watch_failed(name, &error.to_string()),
            }
            std::future::ready(())
        })
        .await;
}
