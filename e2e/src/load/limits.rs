//! Pure: the load generator's limits and timing, with units and reasons.

use std::time::Duration;

/// Limit of the first attempt to publish; later ones get more. A lost answer must leave room for a second attempt
/// within the second that the objective counts.
pub const PUBLISH_ATTEMPT: Duration = Duration::from_millis(600);

/// Limit of any attempt to publish.
pub const PUBLISH_ATTEMPT_MAX: Duration = Duration::from_secs(5);

/// Limit of opening a connection to a publish endpoint: a pod that is gone must not cost the whole attempt.
pub const PUBLISH_CONNECT: Duration = Duration::from_millis(300);

/// Wait after the first failed attempt; it doubles.
pub const PUBLISH_RETRY: Duration = Duration::from_millis(25);

/// Longest wait between two attempts.
pub const PUBLISH_RETRY_MAX: Duration = Duration::from_millis(500);

/// The objective for one publish, from its beginning to its answer.
pub const PUBLISH_OBJECTIVE: Duration = Duration::from_secs(1);

/// Publishes that may be under way. At 200 per second that is ten seconds without any answer.
pub const PUBLISHES_UNDER_WAY: usize = 2000;

/// Random picks for a channel without a publish under way before a turn is given up.
pub const CHANNEL_PICKS: usize = 16;

/// Time between two comparisons of what was accepted with what was delivered.
pub const JUDGE_EVERY: Duration = Duration::from_secs(2);

/// Time between two looks while waiting for deliveries or connections.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Time between two batches of new clients.
pub const CONNECT_BATCH: Duration = Duration::from_millis(20);

/// Clients that may say goodbye at the same time when the load stops.
pub const STOPS_AT_ONCE: usize = 200;

/// Limit of saying goodbye to all clients.
pub const STOP_ALL: Duration = Duration::from_secs(20);
