//! Pure: the life of a connection after its welcome, as a table.

use std::time::{Duration, Instant};

use sluice_protocol::CloseCode;

use super::DisconnectReason;
use crate::limits;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Delivering.
    Live,
    /// Delivering; the client was asked to go.
    Migrating {
        /// Closed then.
        until: Instant,
    },
    /// Delivering beside the connection that replaced it.
    Replaced {
        /// Closed then.
        until: Instant,
    },
    /// Saying goodbye.
    Closing,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Asked to go.
    Migrate,
    /// Asked to stay after all.
    Stay,
    /// Replaced by a new connection of its session, beside which it goes on for so long.
    Replaced(Duration),
    /// Over.
    Close,
}

impl Phase {
    /// The phase after an event.
    #[must_use]
    pub fn after(self, event: Event, now: Instant) -> Self {
        match (self, event) {
            (Self::Closing, _) | (_, Event::Close) => Self::Closing,
            (Self::Replaced { until }, Event::Replaced(overlap)) => Self::Replaced {
                until: until.min(now + overlap),
            },
            // It goes anyway, and sooner than a migration would make it.
            (Self::Replaced { until }, _) => Self::Replaced { until },
            (_, Event::Replaced(overlap)) => Self::Replaced {
                until: now + overlap,
            },
            // The client counts from the first request.
            (Self::Migrating { until }, Event::Migrate) => Self::Migrating { until },
            (Self::Live, Event::Migrate) => Self::Migrating {
                until: now + limits::MIGRATE_DEADLINE,
            },
            (Self::Live | Self::Migrating { .. }, Event::Stay) => Self::Live,
        }
    }

    /// When it ends by itself.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Self::Migrating { until } | Self::Replaced { until } => Some(until),
            Self::Live | Self::Closing => None,
        }
    }

    /// How it ends by itself, once its time has come.
    pub fn due(self, now: Instant) -> Option<(CloseCode, DisconnectReason)> {
        match self {
            Self::Migrating { until } if now >= until => {
                Some((CloseCode::Drained, DisconnectReason::Drain))
            }
            Self::Replaced { until } if now >= until => {
                Some((CloseCode::Replaced, DisconnectReason::Replaced))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OVERLAP: Event = Event::Replaced(limits::REPLACED_OVERLAP);

    #[test]
    fn every_event_in_every_phase() {
        let now = Instant::now();
        let later = now + Duration::from_secs(3);
        let migrating = Phase::Migrating {
            until: now + limits::MIGRATE_DEADLINE,
        };
        let replaced = Phase::Replaced {
            until: now + limits::REPLACED_OVERLAP,
        };
        let table = [
            (Phase::Live, Event::Migrate, migrating),
            (Phase::Live, Event::Stay, Phase::Live),
            (Phase::Live, OVERLAP, replaced),
            (Phase::Live, Event::Close, Phase::Closing),
            (migrating, Event::Migrate, migrating),
            (migrating, Event::Stay, Phase::Live),
            (migrating, Event::Close, Phase::Closing),
            (replaced, Event::Migrate, replaced),
            (replaced, Event::Stay, replaced),
            (replaced, OVERLAP, replaced),
            (
                replaced,
                Event::Replaced(Duration::ZERO),
                Phase::Replaced { until: later },
            ),
            (replaced, Event::Close, Phase::Closing),
            (Phase::Closing, Event::Migrate, Phase::Closing),
            (Phase::Closing, Event::Stay, Phase::Closing),
            (Phase::Closing, OVERLAP, Phase::Closing),
            (Phase::Closing, Event::Close, Phase::Closing),
        ];
        for (before, event, after) in table {
            let at = if before == Phase::Live { now } else { later };
            assert_eq!(before.after(event, at), after, "{before:?} {event:?}");
        }
        let taken_over = migrating.after(OVERLAP, later);
        assert_eq!(
            taken_over,
            Phase::Replaced {
                until: later + limits::REPLACED_OVERLAP
            }
        );
    }

    #[test]
    fn deadlines_close_with_their_codes() {
        let now = Instant::now();
        let code = |phase: Phase, at| phase.due(at).map(|(code, _)| code);
        let migrating = Phase::Live.after(Event::Migrate, now);
        assert_eq!(code(migrating, now), None);
        assert_eq!(
            code(migrating, now + limits::MIGRATE_DEADLINE),
            Some(CloseCode::Drained)
        );
        let replaced = Phase::Live.after(OVERLAP, now);
        assert_eq!(
            code(replaced, now + limits::REPLACED_OVERLAP),
            Some(CloseCode::Replaced)
        );
        assert_eq!(code(Phase::Live, now + Duration::from_secs(999)), None);
    }
}
