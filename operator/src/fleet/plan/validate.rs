//! Whether a spec makes sense (pure). The API server checks the same rules with CEL; this is for
//! objects that were stored before a rule existed, and for what CEL cannot see.

use crate::fleet::observed::{Defaults, FleetView, RevisionData};
use crate::fleet::render::pod::{Wanted, pod};
use crate::fleet::revision::Template;
use crate::fleet::tuning::Tuning;
use crate::limits;
use sluice_crds::NotifyGatewaySpec;
use sluice_crds::notify_gateway::BrokerType;
use sluice_crds::quantity::parse_milli;

/// Everything that is wrong with a spec, each with what would work; empty when nothing is.
pub fn faults(fleet: &FleetView, spec: &NotifyGatewaySpec, defaults: &Defaults) -> Vec<String> {
    let mut faults = Vec::new();
    let auth = &spec.auth;
    let sources = [
        auth.hmac_secret_ref.is_some(),
        auth.jwks_url.is_some(),
        auth.jwks_config_map_ref.is_some(),
    ];
    if sources.iter().filter(|set| **set).count() != 1 {
        faults.push(
            "set exactly one of auth.hmacSecretRef, auth.jwksUrl and auth.jwksConfigMapRef"
                .to_owned(),
        );
    }
    match spec.broker.kind {
        BrokerType::Nats if spec.broker.nats.is_none() => {
            faults.push("broker.type nats needs broker.nats.url".to_owned());
        }
        BrokerType::Memory if spec.replicas > 1 || !spec.broker.accept_loss => {
            faults
                .push("broker.type memory needs replicas 1 and broker.acceptLoss true".to_owned());
        }
        _ => {}
    }
    let drain = &spec.drain;
    let reserve = limits::TERMINATION_RESERVE.as_secs() as i32;
    let least = drain
        .deadline_seconds
        .saturating_add(drain.endpoint_lag_seconds)
        .saturating_add(reserve);
    if least > drain.termination_grace_period_seconds {
        faults.push(format!(
            "drain.terminationGracePeriodSeconds must be at least {least}"
        ));
    }
    let most = i64::from(spec.reconnect_budget.rate_per_second) * i64::from(drain.deadline_seconds);
    if i64::from(spec.max_connections_per_pod) > most {
        faults.push(format!(
            "maxConnectionsPerPod must be at most {most} (reconnectBudget.ratePerSecond x drain.deadlineSeconds)"
        ));
    }
    let (users, per_minute) = (
        spec.limits.max_connections_per_user,
        spec.limits.handshakes_per_minute_per_user,
    );
    if users > 0 && (1..users).contains(&per_minute) {
        faults.push(format!(
            "limits.handshakesPerMinutePerUser must be at least {users} (limits.maxConnectionsPerUser), or 0"
        ));
    }
    faults.extend(tuning_faults(&Tuning::of(spec)));
    for query in spec.scaling.iter().flat_map(|scaling| &scaling.queries) {
        if parse_milli(&query.target).is_none_or(|target| target <= 0) {
            faults.push(format!(
                "scaling.queries {}: target must be a quantity above 0",
                query.name
            ));
        }
    }
    if spec.pod.pod_patch.is_some() {
        faults.extend(patch_fault(fleet, spec, defaults));
    }
    faults
}

/// What gateways would refuse to be told.
fn tuning_faults(tuning: &Tuning) -> Vec<String> {
    let (breaker, health) = (&tuning.breaker, &tuning.health);
    let mut faults = Vec::new();
    let lowest = breaker.memory_percent.min(breaker.connections_percent);
    if breaker.margin_percent >= lowest {
        faults.push(format!(
            "breaker.marginPercent must be less than {lowest} (memoryPercent and connectionsPercent)"
        ));
    }
    if health.evict_after_seconds >= health.window_seconds {
        faults.push(format!(
            "health.evictAfterSeconds must be less than {} (windowSeconds)",
            health.window_seconds
        ));
    }
    if health.trip_evictions == 1 {
        faults.push("health.tripEvictions must be 0 (off) or at least 2".to_owned());
    }
    faults
}

/// Why the user's patch makes no pod; without one there is nothing that could go wrong.
fn patch_fault(fleet: &FleetView, spec: &NotifyGatewaySpec, defaults: &Defaults) -> Option<String> {
    let image = spec.image.as_ref().unwrap_or(&defaults.gateway_image);
    let revision = RevisionData {
        template: Template::of(spec),
        image: image.clone(),
    };
    let sample = Wanted {
        slot: 0,
        zone: "",
        hash: "",
        revision: &revision,
        tuning: &Tuning::of(spec),
        rate_per_second: spec.reconnect_budget.rate_per_second,
    };
    pod(fleet, &sample).err()
}
