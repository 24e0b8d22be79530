//! What is sent to the API server for an action, and what its answers mean (test): requests are
//! taken one by one, and one too many fails the test.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::actuator::{ActError, Actuator};
use super::apply::KubeActuator;
use super::carry::carry_out;
use super::observe::Observation;
use super::observed::{Defaults, FleetView, Observed, ScaleMemory, SpecView};
use super::plan::{Action, DeleteReason, Plan, PodRef};
use crate::events::Facts;
use crate::lease::{Tenure, Term};
use crate::world::World;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower_test::mock::{self, Handle};

const POD: &str = "/api/v1/namespaces/ns/pods/f-1";
const SCALE: &str = "/apis/sluice.dev/v1alpha1/namespaces/ns/notifygateways/f/scale";

#[tokio::test]
async fn a_pod_is_deleted_only_as_it_was_seen() {
    let sent = expect(
        delete(),
        &[
            ("GET", POD, 200, pod("u-1", "7")),
            ("DELETE", POD, 200, pod("u-1", "7")),
        ],
    )
    .await
    .unwrap();
    let wanted = json!({"uid": "u-1", "resourceVersion": "7"});
    assert_eq!(sent[1]["preconditions"], wanted);
}

#[tokio::test]
async fn a_successor_or_a_changed_pod_is_left_alone() {
    expect(delete(), &[("GET", POD, 200, pod("u-2", "9"))])
        .await
        .unwrap();
    expect(delete(), &[("GET", POD, 404, status(404, "NotFound"))])
        .await
        .unwrap();
    let changed = expect(delete(), &[("GET", POD, 200, pod("u-1", "8"))]).await;
    assert!(
        matches!(changed, Err(ActError::Conflict { .. })),
        "{changed:?}"
    );
    let raced = expect(
        delete(),
        &[
            ("GET", POD, 200, pod("u-1", "7")),
            ("DELETE", POD, 409, status(409, "Conflict")),
        ],
    )
    .await;
    assert!(matches!(raced, Err(ActError::Conflict { .. })), "{raced:?}");
}

#[tokio::test]
async fn a_pod_that_goes_already_is_not_deleted_again() {
    let mut going = pod("u-1", "9");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-01T00:00:00Z");
    expect(delete(), &[("GET", POD, 200, going)]).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_exists_is_as_good_as_created_if_it_is_ours() {
    let exists = (
        "POST",
        "/api/v1/namespaces/ns/pods",
        409,
        status(409, "AlreadyExists"),
    );
    let mut ours = pod("u-1", "1");
    ours["metadata"]["ownerReferences"] = owners("fleet-uid");
    expect(create(), &[exists.clone(), ("GET", POD, 200, ours)])
        .await
        .unwrap();
    let mut left = pod("u-1", "1");
    left["metadata"]["ownerReferences"] = owners("former-fleet");
    let left_behind = expect(create(), &[exists.clone(), ("GET", POD, 200, left)]).await;
    assert!(
        matches!(left_behind, Err(ActError::Conflict { .. })),
        "{left_behind:?}"
    );
    let other = pod("u-1", "1");
    let taken = expect(create(), &[exists, ("GET", POD, 200, other)]).await;
    assert!(matches!(taken, Err(ActError::Failed { .. })), "{taken:?}");
}

#[tokio::test]
async fn replicas_are_written_only_over_what_was_seen() {
    let sent = expect(
        scale(),
        &[
            ("GET", SCALE, 200, scaled(3)),
            ("PUT", SCALE, 200, scaled(5)),
        ],
    )
    .await
    .unwrap();
    assert_eq!(sent[1]["spec"]["replicas"], 5);
    assert_eq!(sent[1]["metadata"]["resourceVersion"], "4");
    let moved = expect(scale(), &[("GET", SCALE, 200, scaled(4))]).await;
    assert!(matches!(moved, Err(ActError::Conflict { .. })), "{moved:?}");
}

#[tokio::test]
async fn marks_are_bound_to_the_pod_that_was_seen() {
    let action = Action::SetAccepting {
        pod: reference("f-1"),
        accepting: false,
    };
    let sent = expect(action, &[("PATCH", POD, 200, pod("u-1", "8"))])
        .await
        .unwrap();
    let wanted = json!({"uid": "u-1", "resourceVersion": "7", "annotations": {},
        "labels": {"sluice.dev/accepting": null}});
    assert_eq!(sent[0]["metadata"], wanted);
}

/// Fails for pods by name, and notes what was tried.
struct Moody {
    tried: Mutex<Vec<String>>,
}

impl Actuator for Moody {
    async fn act(&self, action: &Action) -> Result<(), ActError> {
        let Action::SetAccepting { pod, .. } = action else {
            return Ok(());
        };
        self.tried.lock().unwrap().push(pod.name.clone());
        let what = pod.name.clone();
        match pod.name.as_str() {
            "changed" => Err(ActError::Conflict { what }),
            "newer" => Err(ActError::StaleLeader { what }),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_failure_holds_back_the_same_pod_and_a_newer_leader_everything() {
    let (world, _server) = world();
    let plan = Plan {
        actions: ["changed", "fine", "changed", "newer", "fine"]
            .map(|name| Action::SetAccepting {
                pod: reference(name),
                accepting: true,
            })
            .to_vec(),
        ..Plan::default()
    };
    let moody = Moody {
        tried: Mutex::default(),
    };
    let carried = carry_out(&plan, &moody, &world, "f").await;
    assert_eq!(*moody.tried.lock().unwrap(), ["changed", "fine", "newer"]);
    assert!(carried.conflict && carried.failure.is_some());
    assert!(world.superseded.is_cancelled());
}

#[tokio::test]
async fn whoever_leads_no_longer_does_nothing() {
    let (service, _server) = mock::pair::<Request<Body>, Response<Body>>();
    let world = begin(service, Duration::ZERO);
    let plan = Plan {
        actions: vec![Action::SetAccepting {
            pod: reference("fine"),
            accepting: true,
        }],
        ..Plan::default()
    };
    let moody = Moody {
        tried: Mutex::default(),
    };
    let carried = carry_out(&plan, &moody, &world, "f").await;
    assert!(carried.failure.is_some() && moody.tried.lock().unwrap().is_empty());
}

/// An answer of the API server: method and path it must be asked by, its status and body.
type Exchange = (&'static str, &'static str, u16, Value);

/// Acts while the API server answers as told; gives the bodies that were sent.
async fn expect(action: Action, exchanges: &[Exchange]) -> Result<Vec<Value>, ActError> {
    let (world, mut server) = world();
    let observation = observation();
    let actuator = KubeActuator::new(&world, &observation);
    let answering = async {
        let mut bodies = Vec::new();
        for (method, path, code, answer) in exchanges {
            let (request, respond) = server.next_request().await.unwrap();
            assert_eq!(
                (request.method().as_str(), request.uri().path()),
                (*method, *path)
            );
            let body = request.into_body().collect_bytes().await.unwrap();
            bodies.push(serde_json::from_slice(&body).unwrap_or(Value::Null));
            let body = Body::from(serde_json::to_vec(answer).unwrap());
            respond.send_response(Response::builder().status(*code).body(body).unwrap());
        }
        // Anything more would wait for an answer for ever.
        bodies
    };
    let acting = tokio::time::timeout(Duration::from_secs(5), actuator.act(&action));
    let (acted, bodies) = tokio::join!(acting, answering);
    acted.unwrap().map(|()| bodies)
}

fn world() -> (Arc<World>, Handle<Request<Body>, Response<Body>>) {
    let (service, server) = mock::pair::<Request<Body>, Response<Body>>();
    (begin(service, Duration::from_mins(1)), server)
}

fn begin(service: mock::Mock<Request<Body>, Response<Body>>, leads_for: Duration) -> Arc<World> {
    let term = Term {
        lease: "l".to_owned(),
        transitions: 1,
    };
    let defaults = Defaults {
        gateway_image: "image".to_owned(),
    };
    let facts = Arc::new(Facts::new(None, "test"));
    let tenure = Arc::new(Tenure::lasting(leads_for));
    let client = Client::new(service, "ns");
    World::begin(client, term, tenure, facts, defaults)
        .unwrap()
        .0
}

fn observation() -> Observation {
    let fleet = FleetView {
        name: "f".to_owned(),
        namespace: "ns".to_owned(),
        uid: "fleet-uid".to_owned(),
        generation: 1,
        deleted: None,
        spec: SpecView::Unreadable("not needed".to_owned()),
        status: sluice_crds::NotifyGatewayStatus::default(),
    };
    Observation {
        observed: Observed {
            fleet,
            defaults: Defaults {
                gateway_image: "image".to_owned(),
            },
            pods: Vec::new(),
            nodes: Vec::new(),
            children: Vec::new(),
            secret_present: true,
            revisions: Vec::new(),
            metrics: None,
            scale_memory: ScaleMemory::default(),
            drill: None,
        },
        gateways: HashMap::new(),
        poll: Duration::from_secs(1),
    }
}

fn reference(name: &str) -> PodRef {
    PodRef {
        name: name.to_owned(),
        uid: "u-1".to_owned(),
        resource_version: "7".to_owned(),
    }
}

fn delete() -> Action {
    Action::DeletePod {
        pod: reference("f-1"),
        reason: DeleteReason::Drained,
    }
}

fn create() -> Action {
    let object: Pod = serde_json::from_value(pod("", "")).unwrap();
    Action::CreatePod {
        slot: 1,
        zone: String::new(),
        revision: "r".to_owned(),
        object: Box::new(object),
    }
}

fn scale() -> Action {
    Action::SetReplicas { from: 3, to: 5 }
}

fn pod(uid: &str, version: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "f-1", "namespace": "ns", "uid": uid, "resourceVersion": version}})
}

fn owners(uid: &str) -> Value {
    json!([{"apiVersion": "sluice.dev/v1alpha1", "kind": "NotifyGateway", "name": "f", "uid": uid, "controller": true}])
}

fn scaled(replicas: i32) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": "f", "namespace": "ns", "resourceVersion": "4"}, "spec": {"replicas": replicas}})
}

fn status(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason, "code": code})
}
