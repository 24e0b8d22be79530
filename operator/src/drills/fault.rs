//! Does a fault to one pod (effects), bound to its UID: done twice it is the same as once, and its
//! successor is never hit.

use crate::world::World;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, Preconditions};
use sluice_crds::chaos_experiment::{FaultType, Target};

/// What became of a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Struck {
    /// The pod goes, or is gone.
    Done,
    /// Not now; to be tried again.
    Refused(String),
}

/// Does it.
pub async fn strike(world: &World, namespace: &str, kind: FaultType, target: &Target) -> Struck {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), namespace);
    let mut how = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(target.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    let result = match kind {
        FaultType::PodKill => {
            how.grace_period_seconds = Some(0);
            pods.delete(&target.pod, &how).await.map(drop)
        }
        FaultType::PodEviction => {
            let eviction = EvictParams {
                delete_options: Some(how),
                ..EvictParams::default()
            };
            pods.evict(&target.pod, &eviction).await.map(drop)
        }
    };
    match result {
        Ok(()) => Struck::Done,
        // Gone, or another pod of that name: either way this one is no more.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Struck::Done,
        Err(error) => Struck::Refused(error.to_string()),
    }
}
