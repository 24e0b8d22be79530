//! Cross-field rules the API server checks with CEL (pure data). Each message names the value that
//! works, computed where a number can be.

use serde_json::{Value, json};

/// One rule whose message is computed by a CEL expression. It must be one `format` of numbers: the API server cannot bound the
/// cost of `'…' + string(n)` and refuses the whole CRD.
fn computed(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "messageExpression": message})
}

/// One rule with a fixed message.
fn fixed(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}

/// Rules on a whole `NotifyGatewaySpec`.
pub(crate) fn fleet_spec() -> Value {
    json!([
        computed(
            "self.maxConnectionsPerPod <= self.reconnectBudget.ratePerSecond * self.drain.deadlineSeconds",
            "'a full pod must be able to drain in time: maxConnectionsPerPod must be at most %d \
             (reconnectBudget.ratePerSecond x drain.deadlineSeconds), or reconnectBudget.ratePerSecond at least %d'.format([\
             self.reconnectBudget.ratePerSecond * self.drain.deadlineSeconds, \
             (self.maxConnectionsPerPod + self.drain.deadlineSeconds - 1) / self.drain.deadlineSeconds])",
        ),
        fixed(
            "self.broker.type != 'memory' || (self.replicas <= 1 && self.broker.acceptLoss)",
            "broker.type memory keeps notifications in one pod only: set replicas to 1 (or 0) and \
             broker.acceptLoss to true, or use broker.type nats",
        ),
        fixed(
            "self.broker.type != 'memory' || !has(self.scaling) || self.scaling.maxReplicas <= 1",
            "broker.type memory cannot be scaled: remove scaling, or set scaling.maxReplicas to 1",
        ),
        computed(
            "self.limits.windowBytes >= self.limits.messageBytes",
            "'one message must fit the window: limits.windowBytes must be at least %d'.format([self.limits.messageBytes])",
        ),
    ])
}

/// Rules on `spec.broker`.
pub(crate) fn broker() -> Value {
    json!([fixed(
        "self.type != 'nats' || has(self.nats)",
        "broker.type nats needs broker.nats.url, for example nats://sluice-nats.sluice-system:4222",
    )])
}

/// Rules on `spec.auth`.
pub(crate) fn auth() -> Value {
    json!([fixed(
        "(has(self.hmacSecretRef) ? 1 : 0) + (has(self.jwksUrl) ? 1 : 0) + (has(self.jwksConfigMapRef) ? 1 : 0) == 1",
        "set exactly one of auth.hmacSecretRef, auth.jwksUrl and auth.jwksConfigMapRef",
    )])
}

/// Rules on `spec.service`.
pub(crate) fn service() -> Value {
    json!([fixed(
        "!has(self.nodePort) || self.type != 'ClusterIP'",
        "service.nodePort needs service.type NodePort or LoadBalancer",
    )])
}

/// Rules on `spec.drain`. The 10 s are the gateway's reserve for closing down.
pub(crate) fn drain() -> Value {
    json!([computed(
        "self.deadlineSeconds + self.endpointLagSeconds <= self.terminationGracePeriodSeconds - 10",
        "'the drain must end 10 s before the pod is killed: drain.terminationGracePeriodSeconds must be at least %d \
         (drain.deadlineSeconds + drain.endpointLagSeconds + 10)'.format([self.deadlineSeconds + self.endpointLagSeconds + 10])",
    )])
}

/// Rules on `spec.limits`.
pub(crate) fn limits() -> Value {
    json!([computed(
        "self.maxConnectionsPerUser == 0 || self.handshakesPerMinutePerUser == 0 || \
         self.handshakesPerMinutePerUser >= self.maxConnectionsPerUser",
        "'all connections of a user must be able to come back within a minute: limits.handshakesPerMinutePerUser must be at \
         least %d (maxConnectionsPerUser), or 0'.format([self.maxConnectionsPerUser])",
    )])
}

/// Rules on `spec.breaker`.
pub(crate) fn breaker() -> Value {
    json!([computed(
        "self.marginPercent < self.memoryPercent && self.marginPercent < self.connectionsPercent",
        "'no reading would ever be good again: breaker.marginPercent must be less than both %d (memoryPercent) and %d \
         (connectionsPercent)'.format([self.memoryPercent, self.connectionsPercent])",
    )])
}

/// Rules on `spec.health`.
pub(crate) fn health() -> Value {
    json!([
        computed(
            "self.evictAfterSeconds < self.windowSeconds",
            "'a stall does not count for that long: health.evictAfterSeconds must be less than %d (windowSeconds)'.format([\
             self.windowSeconds])",
        ),
        fixed(
            "self.tripEvictions != 1",
            "one closed connection is no pattern: set health.tripEvictions to 0 (off) or at least 2",
        ),
    ])
}

/// Rules on `spec.scaling`.
pub(crate) fn scaling() -> Value {
    json!([
        computed(
            "self.minReplicas <= self.maxReplicas",
            "'scaling.maxReplicas must be at least scaling.minReplicas, which is %d'.format([self.minReplicas])",
        ),
        fixed(
            "has(self.connectionsPerPod) || size(self.queries) > 0",
            "scaling needs something to scale on: set scaling.connectionsPerPod or add to scaling.queries",
        ),
    ])
}

/// Rules on a scaling query.
pub(crate) fn scaling_query() -> Value {
    json!([fixed(
        "isQuantity(self.target) && quantity(self.target).isGreaterThan(quantity('0'))",
        "target must be a quantity above 0, for example 80, 1.5k or 500m",
    )])
}

/// Rules on a whole `NotifyGateway`: its name becomes pod names, Service names and label values.
pub(crate) fn fleet_name() -> Value {
    json!([
        fixed(
            "self.metadata.name.size() <= 50 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
            "metadata.name must be at most 50 lower-case letters, digits and '-', beginning with a \
             letter: it becomes the name of a Service and of pods",
        ),
        fixed(
            "!self.metadata.name.endsWith('-internal')",
            "metadata.name must not end in -internal: that is the name of another fleet's Service",
        ),
    ])
}

/// Rules on `spec` of an experiment: what was run must stay readable.
pub(crate) fn experiment_spec() -> Value {
    json!([fixed(
        "self == oldSelf",
        "an experiment runs once and its spec is its record: create another ChaosExperiment instead of changing this one",
    )])
}

/// Rules on a steady-state check.
pub(crate) fn check() -> Value {
    json!([
        fixed(
            "has(self.min) || has(self.max)",
            "a check needs min, max or both",
        ),
        fixed(
            "(!has(self.min) || isQuantity(self.min)) && (!has(self.max) || isQuantity(self.max))",
            "min and max must be quantities, for example 1, 0.99 or 500m",
        ),
    ])
}

/// Rules on a whole `ChaosDrill`: experiments are named after it.
pub(crate) fn drill_name() -> Value {
    json!([fixed(
        "self.metadata.name.size() <= 52",
        "metadata.name must be at most 52 characters: experiments are named after the drill and its time",
    )])
}
