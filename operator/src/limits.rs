//! Limits of the operator (pure): each with its unit and its reason.

use crate::lease::election::Timing;
use jiff::SignedDuration;
use std::time::Duration;

/// Thousandths per unit: rates and metric values are whole thousandths, so that nothing rounds twice.
pub const MILLI: i64 = 1000;

/// Share of a pod's connection limit that is planned with at most, in percent. The gateway's breaker refuses
/// at 95 % unless the spec says otherwise; 90 leaves room for clients that arrive meanwhile.
pub const PLANNED_FILL_PERCENT: u64 = 90;

/// Share of the reconnect budget that admission of another drain counts on, in percent: releases
/// are spread with jitter, and a drain that ends exactly at its deadline cuts its last clients off.
pub const PLANNED_RATE_PERCENT: u64 = 90;

/// Rates that differ by less than this, in percent, are not sent again: every drained client
/// changes the exact share a little.
pub const RATE_TOLERANCE_PERCENT: u64 = 10;

/// Deadlines that differ by less than this are the same: a gateway reports what is left in
/// milliseconds, and reading it takes a moment.
pub const DEADLINE_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// What a client is given to move once it was asked to, by the gateway: the last one asked needs it.
pub const STRAGGLER_TIME: SignedDuration = SignedDuration::from_secs(10);

/// Slowest rate a drain is given, thousandths per second: a gateway must be told to drain even when
/// it has no clients, so that it takes none.
pub const SLOWEST_DRAIN_MILLI: u64 = 1000;

/// What a gateway keeps of its grace period for closing down after its last client.
pub const TERMINATION_RESERVE: SignedDuration = SignedDuration::from_secs(10);

/// An answer of a gateway that is older is no answer: long enough for two missed polls.
pub const GATEWAY_STALE_AFTER: SignedDuration = SignedDuration::from_secs(15);

/// How long a pod may be unschedulable before its zone counts as full. The scheduler needs well
/// under a second; an autoscaler that adds a node needs longer, but the pod waits for none.
pub const UNSCHEDULABLE_PATIENCE: SignedDuration = SignedDuration::from_secs(10);

/// How long a pod on a lost node is kept before Kubernetes removes it, in seconds. The default of
/// 300 would leave a fleet short for five minutes; a kubelet that restarts is back well within 30.
pub const LOST_NODE_SECONDS: i64 = 30;

/// How soon drains are looked at again: gateways are polled, they send no watch events.
pub const DRAIN_POLL: SignedDuration = SignedDuration::from_secs(1);

/// How soon anything else that waits is looked at again, should its watch event be lost.
pub const WAIT_POLL: SignedDuration = SignedDuration::from_secs(5);

/// Past revisions that are kept for reading and going back, as a Deployment keeps.
pub const REVISION_HISTORY: usize = 10;

/// Pods created for one fleet in one reconcile; the rest follow in the next. A thousand at once
/// would keep every other fleet waiting.
pub const CREATES_PER_PLAN: usize = 50;

/// Least number of pods a single scale-out may add; above, it may double the fleet. As in the
/// HorizontalPodAutoscaler.
pub const SCALE_OUT_STEP: u32 = 4;

/// Recommendations the scaler remembers for one fleet: an hour of windows at a look per second.
pub const SCALE_MEMORY: usize = 3600;

/// A metric sample older than this many looks is stale.
pub const STALE_LOOKS: i64 = 3;

/// Random bytes behind each key of the fleet Secret: as many as the HMAC behind them uses.
pub const SECRET_BYTES: usize = 32;

/// Leader election, as client-go's defaults: a leader that cannot renew stops after 10 s, others
/// wait 15 s, so clocks may run a third apart and no two lead at once.
pub const LEASE_TIMING: Timing = Timing {
    lease: Duration::from_secs(15),
    renew: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

/// A request for the Lease is given up after this: three fit into the time a leader has to renew.
pub const LEASE_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// The election counts as stuck when it did nothing for this long; `/livez` then fails.
pub const ELECTION_STUCK_AFTER: Duration = Duration::from_mins(1);

/// An admin call is given up after this: gateways answer in milliseconds, and one that does not
/// must not hold up the rest of its fleet.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Admin connections are given up after this: pods are on the same network.
pub const ADMIN_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Admin calls in flight over all fleets, so that thousands of pods do not take thousands of sockets.
pub const ADMIN_CALLS: usize = 128;

/// How often the gateways of a fleet are asked while any of its pods drains.
pub const ADMIN_POLL_DRAINING: Duration = Duration::from_secs(1);

/// How often they are asked otherwise: three times within the time an answer holds.
pub const ADMIN_POLL: Duration = Duration::from_secs(5);

/// A PromQL query is given up after this.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Characters of a PromQL query's error that reach a status.
pub const ERROR_CHARS: usize = 200;

/// Reconciles of fleets at the same time.
pub const FLEET_CONCURRENCY: u16 = 32;

/// First pause after a reconcile that failed; doubles up to `RETRY_MAX`, for each fleet by itself.
pub const RETRY_MIN: Duration = Duration::from_millis(500);

/// Longest pause after a reconcile that failed.
pub const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long a status whose rounded counts alone changed is held back: a quiet fleet writes nothing
/// else.
pub const STATUS_TICK: SignedDuration = SignedDuration::from_secs(30);

/// The same while pods drain and someone is likely to watch.
pub const STATUS_TICK_DRAINING: SignedDuration = SignedDuration::from_secs(2);

/// How long an experiment waits for its fleet to become quiet.
pub const QUIET_PATIENCE: SignedDuration = SignedDuration::from_mins(1);

/// How often a running experiment looks again.
pub const EXPERIMENT_POLL: Duration = Duration::from_secs(1);

/// After recovery, before the steady state is asked for again: Prometheus must have scraped the
/// fleet as it is now.
pub const RECOVERY_SETTLE: SignedDuration = SignedDuration::from_secs(6);

/// Pause between two tries of the checks after recovery.
pub const CHECK_POLL: Duration = Duration::from_secs(3);

/// A sample of a check that is older is no answer.
pub const CHECK_STALE_AFTER: SignedDuration = SignedDuration::from_secs(30);

/// Longest sleep of a drill's controller: schedules are looked at again at least this often, so a
/// clock that is set does not delay a run by more.
pub const SCHEDULE_POLL: Duration = Duration::from_mins(1);

/// Dates a schedule is searched for: one that never comes (30 February) is refused.
pub const SCHEDULE_HORIZON_DAYS: i64 = 366 * 8;

/// Time the process has from SIGTERM to its exit; what is left then is cut off.
pub const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Characters of an Event's note: the API server refuses more than 1024 bytes.
pub const EVENT_NOTE_CHARS: usize = 250;

/// Nudges that may wait for the fleets' controller; more are merged into what waits.
pub const NUDGES: usize = 1024;

/// CPU and memory requested for a gateway of which the user says neither: an idle one takes about 20 MiB, and some 3 KiB more
/// for each client.
pub const DEFAULT_REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "128Mi")];
