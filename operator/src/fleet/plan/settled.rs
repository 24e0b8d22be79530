//! What is settled before any pod is looked at (pure): the revision, the landscape, the numbers.

use crate::fleet::observed::{DrainReason, FleetView, Observed, RevisionData};
use crate::fleet::placement::Landscape;
use crate::fleet::revision::Template;
use crate::fleet::scaling::{self, Decision};
use crate::fleet::tuning::Tuning;
use crate::limits;
use jiff::{SignedDuration, Timestamp};
use sluice_crds::NotifyGatewaySpec;

/// The frame of one plan.
pub struct Settled<'a> {
    /// What was seen.
    pub observed: &'a Observed,
    /// The fleet's name and identity.
    pub fleet: &'a FleetView,
    /// The spec.
    pub spec: &'a NotifyGatewaySpec,
    /// The moment.
    pub now: Timestamp,
    /// The nodes.
    pub landscape: Landscape,
    /// Hash of the revision new pods are made from.
    pub hash: String,
    /// That revision.
    pub revision: RevisionData,
    /// Thresholds that gateways should have.
    pub tuning: Tuning,
    /// Pods wanted.
    pub wanted: u32,
    /// The reconnect budget, thousandths per second.
    pub budget_milli: u64,
    /// Connections one pod is planned to hold.
    pub planned_fill: u64,
}

impl<'a> Settled<'a> {
    /// Settles the frame.
    pub fn of(observed: &'a Observed, spec: &'a NotifyGatewaySpec, now: Timestamp) -> Self {
        let (hash, revision) = revision(observed, spec);
        Self {
            observed,
            fleet: &observed.fleet,
            spec,
            now,
            landscape: Landscape::of(spec, &observed.nodes),
            hash,
            revision,
            tuning: Tuning::of(spec),
            wanted: spec.replicas.max(0) as u32,
            budget_milli: u64::from(spec.reconnect_budget.rate_per_second.max(1) as u32)
                * limits::MILLI as u64,
            planned_fill: Self::capacity_of(spec) * planned_percent(spec) / 100,
        }
    }

    /// Connections one pod takes.
    pub fn capacity(&self) -> u64 {
        Self::capacity_of(self.spec)
    }

    fn capacity_of(spec: &NotifyGatewaySpec) -> u64 {
        u64::from(spec.max_connections_per_pod.max(1) as u32)
    }

    /// When a drain that begins now should be over by itself.
    pub fn drain_deadline(&self) -> Timestamp {
        let time = SignedDuration::from_secs(i64::from(self.spec.drain.deadline_seconds));
        self.now.saturating_add(time).unwrap_or(self.now)
    }

    /// Whether a drain for this reason may be begun while the fleet is paused. A node that goes
    /// away does so whether we like it or not.
    pub fn may_begin(&self, reason: DrainReason) -> bool {
        !self.spec.paused || matches!(reason, DrainReason::NodeDrain | DrainReason::Eviction)
    }

    /// What the scaler says; nothing when there is none or the fleet is paused.
    pub fn decide_scale(&self) -> Option<Decision> {
        let scaling = self.spec.scaling.as_ref().filter(|_| !self.spec.paused)?;
        let observed = self.observed;
        Some(scaling::decide(
            scaling,
            self.wanted,
            observed.metrics.as_ref(),
            &observed.scale_memory,
            self.now,
        ))
    }
}

/// Share of the connection limit that is planned with: what a gateway still takes after its breaker was open.
fn planned_percent(spec: &NotifyGatewaySpec) -> u64 {
    let breaker = &spec.breaker;
    let taken = breaker
        .connections_percent
        .saturating_sub(breaker.margin_percent);
    (taken.max(1) as u64).min(limits::PLANNED_FILL_PERCENT)
}

/// The revision new pods are made from: what the spec says, with the image it was first made with;
/// in a paused fleet the one that last reached every pod.
fn revision(observed: &Observed, spec: &NotifyGatewaySpec) -> (String, RevisionData) {
    let kept = |hash: &str| {
        let view = observed.revisions.iter().find(|view| view.hash == hash)?;
        Some((hash.to_owned(), view.data.clone()?))
    };
    let stable = observed.fleet.status.stable_revision.as_deref();
    if let (true, Some(found)) = (spec.paused, stable.and_then(kept)) {
        return found;
    }
    let template = Template::of(spec);
    let hash = template.hash();
    kept(&hash).unwrap_or_else(|| {
        let image = spec
            .image
            .clone()
            .unwrap_or_else(|| observed.defaults.gateway_image.clone());
        (hash, RevisionData { template, image })
    })
}
