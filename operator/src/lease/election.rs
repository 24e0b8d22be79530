//! Who leads (pure): what a candidate asks the API server next, and what it makes of the answer.
//!
//! The rules are client-go's. A lease has run out when *this* candidate has seen it unchanged for
//! its whole duration by its own monotonic clock; nobody's wall clock is compared. A leader counts
//! its own time from the moment it *sent* the last renewal that succeeded, and stops after
//! `renew`, which is shorter than `lease`: it has stopped before anyone may follow it.

use std::time::Duration;

/// How long things take. `retry < renew < lease`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a lease that is not renewed keeps others out.
    pub lease: Duration,
    /// How long a leader goes on without a renewal that succeeded.
    pub renew: Duration,
    /// Pause between two requests.
    pub retry: Duration,
}

/// One time of leading. Gateways refuse commands of a lower one than they have seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    /// UID of the Lease object.
    pub lease: String,
    /// Its leaseTransitions: grows with each new leader.
    pub transitions: i32,
}

/// The Lease as read from the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// metadata.uid
    pub uid: String,
    /// metadata.resourceVersion
    pub version: String,
    /// spec.holderIdentity; empty when released.
    pub holder: String,
    /// spec.leaseTransitions
    pub transitions: i32,
    /// spec.leaseDurationSeconds
    pub duration: Duration,
    /// spec.renewTime as text: compared for change, never with a clock.
    pub beat: String,
}

impl Record {
    /// Whether its holder has done nothing since `earlier`.
    fn unchanged_since(&self, earlier: &Self) -> bool {
        self.uid == earlier.uid
            && self.holder == earlier.holder
            && self.transitions == earlier.transitions
            && self.beat == earlier.beat
    }
}

/// What to write into the Lease. The time of renewal is the writer's to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// spec.holderIdentity; empty to release.
    pub holder: String,
    /// spec.leaseTransitions
    pub transitions: i32,
    /// Whether leading begins with this write (spec.acquireTime is set).
    pub begins: bool,
}

/// A request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the Lease.
    Look,
    /// Create it; must fail when it exists.
    Create(Draft),
    /// Replace it; must fail when it is not at `version` any more.
    Replace {
        /// resourceVersion it must be at.
        version: String,
        /// What to write.
        draft: Draft,
    },
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is no Lease.
    Absent,
    /// The Lease as it is now, read or just written.
    Now(Record),
    /// The write was refused: someone else was first.
    Conflict,
    /// Nothing is known: it failed, or there was no answer in time. A write may have happened.
    Unknown,
}

/// One candidate. Times are durations since any fixed moment of its own monotonic clock.
#[derive(Clone, Debug)]
pub struct Candidate {
    identity: String,
    timing: Timing,
    /// What was last read or written, and when it was first seen so.
    seen: Option<(Record, Duration)>,
    /// Whether `seen` (or its absence) was confirmed by the last answer.
    fresh: bool,
    /// Whether the last request was a look.
    looked: bool,
    /// The term, and when the last renewal that succeeded was sent.
    held: Option<(Term, Duration)>,
}

impl Candidate {
    /// A candidate that has seen nothing yet. `identity` must be unique to this process: a holder
    /// of the same name is taken for itself.
    pub fn new(identity: &str, timing: Timing) -> Self {
        Self {
            identity: identity.to_owned(),
            timing,
            seen: None,
            fresh: false,
            looked: false,
            held: None,
        }
    }

    /// The term this candidate leads at `now`, if any.
    pub fn leading(&self, now: Duration) -> Option<&Term> {
        self.held
            .as_ref()
            .filter(|(_, sent)| now < *sent + self.timing.renew)
            .map(|(term, _)| term)
    }

    /// When leading ends unless a renewal succeeds before.
    pub fn leads_until(&self) -> Option<Duration> {
        self.held
            .as_ref()
            .map(|(_, sent)| *sent + self.timing.renew)
    }

    /// What to send now.
    pub fn request(&mut self, now: Duration) -> Request {
        if self.leading(now).is_none() {
            self.held = None;
        }
        if !self.fresh {
            return Request::Look;
        }
        let begins = self.held.is_none();
        match &self.seen {
            None => Request::Create(self.draft(0, true)),
            Some((record, since)) if !begins || self.may_take(record, *since, now) => {
                let transitions = record.transitions.saturating_add(i32::from(begins));
                Request::Replace {
                    version: record.version.clone(),
                    draft: self.draft(transitions, begins),
                }
            }
            Some(_) => Request::Look,
        }
    }

    /// Takes in the answer to what was sent at `sent`.
    pub fn answer(&mut self, request: &Request, sent: Duration, now: Duration, answer: Answer) {
        self.looked = *request == Request::Look;
        match (request, answer) {
            (_, Answer::Unknown | Answer::Conflict) => self.fresh = false,
            (_, Answer::Absent) => {
                self.seen = None;
                self.held = None;
                // Only a look proves absence; a write to nothing is looked into.
                self.fresh = self.looked;
            }
            (Request::Look, Answer::Now(record)) => {
                if record.holder != self.identity {
                    self.held = None;
                }
                self.see(record, now);
            }
            (Request::Create(_) | Request::Replace { .. }, Answer::Now(record)) => {
                self.held = (record.holder == self.identity).then(|| {
                    let term = Term {
                        lease: record.uid.clone(),
                        transitions: record.transitions,
                    };
                    (term, sent)
                });
                self.see(record, now);
            }
        }
    }

    /// How long to wait before the next request. A lease that may be taken is taken at once, and a
    /// renewal that needed another look follows it at once.
    pub fn pause(&self, now: Duration) -> Duration {
        if !self.fresh {
            return self.timing.retry;
        }
        match &self.seen {
            _ if self.leading(now).is_some() => {
                if self.looked {
                    Duration::ZERO
                } else {
                    self.timing.retry
                }
            }
            None => Duration::ZERO,
            Some((record, since)) if self.may_take(record, *since, now) => Duration::ZERO,
            Some(_) => self.timing.retry,
        }
    }

    /// What to send to let the next one lead at once; `None` when there is nothing to release.
    /// Whatever leading means to the caller must have stopped before.
    pub fn release(&mut self) -> Option<Request> {
        self.held = None;
        let (record, _) = self.seen.as_ref()?;
        (record.holder == self.identity).then(|| Request::Replace {
            version: record.version.clone(),
            draft: Draft {
                holder: String::new(),
                transitions: record.transitions,
                begins: false,
            },
        })
    }

    /// Who holds the lease, as last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(record, _)| record.holder.as_str())
    }

    fn draft(&self, transitions: i32, begins: bool) -> Draft {
        Draft {
            holder: self.identity.clone(),
            transitions,
            begins,
        }
    }

    fn may_take(&self, record: &Record, since: Duration, now: Duration) -> bool {
        record.holder.is_empty()
            || record.holder == self.identity
            || now >= since + record.duration.max(self.timing.lease)
    }

    fn see(&mut self, record: Record, now: Duration) {
        let since = match &self.seen {
            Some((earlier, since)) if record.unchanged_since(earlier) => *since,
            _ => now,
        };
        self.seen = Some((record, since));
        self.fresh = true;
    }
}
