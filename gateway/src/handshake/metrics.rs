//! Effects (counters): how handshakes end, what checking credentials costs, and which limits are hit.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HowLabel {
    how: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LimitLabel {
    limit: &'static str,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// A connection came of it.
    Accepted,
    /// Credentials missing, wrong or expired.
    Unauthorized,
    /// A request that cannot succeed: wrong form, query, channel.
    Rejected,
    /// Refused because its user or address does too much.
    Limited,
    /// Refused because the gateway is draining or closing.
    Draining,
    /// Refused because the gateway is full or has never reached its broker.
    Overload,
    /// The socket failed.
    Error,
    /// The request took too long.
    Timeout,
}

impl HandshakeResult {
    const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Unauthorized,
        Self::Rejected,
        Self::Limited,
        Self::Draining,
        Self::Overload,
        Self::Error,
        Self::Timeout,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unauthorized => "unauthorized",
            Self::Rejected => "rejected",
            Self::Limited => "limited",
            Self::Draining => "draining",
            Self::Overload => "overload",
            Self::Error => "error",
            Self::Timeout => "timeout",
        }
    }
}

/// How credentials were checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A resume token: one MAC.
    Resume,
    /// A login token that was verified before: one hash.
    Cached,
    /// A login token: its signature, with the key that it names.
    Signature,
    /// A name, in development mode.
    Name,
}

impl Check {
    const ALL: [Self; 4] = [Self::Resume, Self::Cached, Self::Signature, Self::Name];

    const fn word(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Cached => "cached",
            Self::Signature => "signature",
            Self::Name => "name",
        }
    }
}

/// A limit that a client can run into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections of one user.
    UserConnections,
    /// Connections from one address.
    AddressConnections,
    /// Handshakes of everybody.
    Handshakes,
    /// Handshakes of one user.
    UserHandshakes,
    /// Handshakes from one address.
    AddressHandshakes,
    /// Frames of one client.
    Messages,
    /// Handshakes in progress.
    Permits,
}

impl Limit {
    const ALL: [Self; 7] = [
        Self::UserConnections,
        Self::AddressConnections,
        Self::Handshakes,
        Self::UserHandshakes,
        Self::AddressHandshakes,
        Self::Messages,
        Self::Permits,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::UserConnections => "user_connections",
            Self::AddressConnections => "address_connections",
            Self::Handshakes => "handshakes",
            Self::UserHandshakes => "user_handshakes",
            Self::AddressHandshakes => "address_handshakes",
            Self::Messages => "messages",
            Self::Permits => "permits",
        }
    }
}

/// The numbers of all handshakes.
#[derive(Clone, Debug)]
pub struct HandshakeMetrics {
    results: Family<ResultLabel, Counter>,
    checks: Family<HowLabel, Counter>,
    limits: Family<LimitLabel, Counter>,
    /// Clients that limits remember.
    pub limited_clients: Gauge,
    /// Verified login tokens that are remembered.
    pub cached_tokens: Gauge,
}

impl HandshakeMetrics {
    /// All at zero, all labels present.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            results: Family::default(),
            checks: Family::default(),
            limits: Family::default(),
            limited_clients: Gauge::default(),
            cached_tokens: Gauge::default(),
        };
        for result in HandshakeResult::ALL.map(HandshakeResult::word) {
            drop(metrics.results.get_or_create(&ResultLabel { result }));
        }
        for how in Check::ALL.map(Check::word) {
            drop(metrics.checks.get_or_create(&HowLabel { how }));
        }
        for limit in Limit::ALL.map(Limit::word) {
            drop(metrics.limits.get_or_create(&LimitLabel { limit }));
        }
        registry.register(
            "sluice_handshakes",
            "Handshakes by how they ended",
            metrics.results.clone(),
        );
        registry.register(
            "sluice_credential_checks",
            "Checks of credentials by what they took; signature is the only expensive one",
            metrics.checks.clone(),
        );
        registry.register(
            "sluice_limit_refusals",
            "Handshakes and frames refused, by the limit of the client or the gateway",
            metrics.limits.clone(),
        );
        registry.register(
            "sluice_limited_clients",
            "Clients that rate and connection limits remember",
            metrics.limited_clients.clone(),
        );
        registry.register(
            "sluice_cached_tokens",
            "Verified login tokens that are remembered",
            metrics.cached_tokens.clone(),
        );
        metrics
    }

    /// Counts a handshake.
    pub fn result(&self, result: HandshakeResult) {
        let result = result.word();
        self.results.get_or_create(&ResultLabel { result }).inc();
    }

    /// How many handshakes ended like this.
    pub fn results(&self, result: HandshakeResult) -> u64 {
        let result = result.word();
        self.results.get_or_create(&ResultLabel { result }).get()
    }

    /// Counts a check of credentials.
    pub fn check(&self, check: Check) {
        let how = check.word();
        self.checks.get_or_create(&HowLabel { how }).inc();
    }

    /// How many checks of this kind there were.
    pub fn checks(&self, check: Check) -> u64 {
        let how = check.word();
        self.checks.get_or_create(&HowLabel { how }).get()
    }

    /// Counts a refusal.
    pub fn limit(&self, limit: Limit) {
        let limit = limit.word();
        self.limits.get_or_create(&LimitLabel { limit }).inc();
    }
}
