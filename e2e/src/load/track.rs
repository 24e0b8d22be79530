//! Pure: what one subscriber got of one channel, compared with what was accepted there.

use sluice_protocol::Epoch;

use super::log::{ChannelLog, Micros, Record};

/// Where a subscriber's claim to a channel begins: after this position, and with every publish begun after this time.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) epoch: Epoch,
    pub(super) offset: u64,
    pub(super) at: Micros,
}

impl Start {
    fn covers(&self, epoch: &Epoch, record: &Record) -> bool {
        record.begun >= self.at || (*epoch == self.epoch && record.offset > self.offset)
    }
}

/// A range that the subscriber was told is missing: after `from`, up to and including `to`, in one epoch.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) epoch: Epoch,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// What one judging found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Accepted and delivered.
    pub(super) matched: u64,
    /// Delivered again.
    pub(super) repeated: u64,
    /// Delivered after a later one.
    pub(super) late: u64,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.matched += other.matched;
        self.repeated += other.repeated;
        self.late += other.late;
    }
}

/// Deliveries of one channel to one subscriber, seen at one place (raw frames, or the application).
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    spans: Vec<Span>,
}

/// One epoch. Everything up to `judged` in the log is settled; memory holds only what is not.
#[derive(Clone, Debug)]
struct Span {
    epoch: Epoch,
    /// Arrivals since the last judging, in their order.
    fresh: Vec<u64>,
    /// Arrivals that the log does not have yet, ascending.
    early: Vec<u64>,
    /// Largest arrival.
    max: u64,
    /// Records of the log that are settled.
    judged: usize,
    /// Settled as missing: something after them arrived, they did not.
    holes: Vec<u64>,
}

impl Track {
    /// Notes an arrival.
    pub(super) fn arrived(&mut self, epoch: &Epoch, offset: u64) {
        self.span(epoch).fresh.push(offset);
    }

    /// Compares what arrived since the last time with the log.
    pub(super) fn judge(&mut self, log: &ChannelLog, start: &Start) -> Found {
        for epoch in log.epochs() {
            self.span(epoch);
        }
        let mut found = Found::default();
        for span in &mut self.spans {
            let records = log.records(&span.epoch);
            found += span.sort_in(records);
            found.matched += span.advance(records, start);
        }
        found
    }

    /// Accepted, due to this subscriber, and not there: holes that were not told, and what was accepted before
    /// `before` and has not arrived. Judge first.
    pub(super) fn missing(
        &self,
        log: &ChannelLog,
        start: &Start,
        told: &[Told],
        before: Micros,
    ) -> u64 {
        let mut missing = 0;
        for span in &self.spans {
            let is_told = |offset: u64| {
                told.iter()
                    .any(|t| t.epoch == span.epoch && t.from < offset && offset <= t.to)
            };
            let holes = span.holes.iter().filter(|offset| !is_told(**offset));
            let rest = log.records(&span.epoch).iter().skip(span.judged);
            let rest = rest.filter(|r| {
                r.accepted < before && start.covers(&span.epoch, r) && !is_told(r.offset)
            });
            missing += (holes.count() + rest.count()) as u64;
        }
        missing
    }

    fn span(&mut self, epoch: &Epoch) -> &mut Span {
        match self.spans.iter().position(|span| span.epoch == *epoch) {
            Some(at) => &mut self.spans[at],
            None => self.spans.push_mut(Span {
                epoch: epoch.clone(),
                fresh: Vec::new(),
                early: Vec::new(),
                max: 0,
                judged: 0,
                holes: Vec::new(),
            }),
        }
    }
}

impl Span {
    /// Puts fresh arrivals in their place: new, repeated or late.
    fn sort_in(&mut self, records: &[Record]) -> Found {
        let mut found = Found::default();
        for offset in std::mem::take(&mut self.fresh) {
            if offset > self.max {
                self.max = offset;
                self.early.push(offset);
                continue;
            }
            let settled = &records[..self.judged];
            match self.early.binary_search(&offset) {
                Ok(_) => found.repeated += 1,
                Err(at) => {
                    if let Some(hole) = self.holes.iter().position(|hole| *hole == offset) {
                        self.holes.swap_remove(hole);
                        found.late += 1;
                        found.matched += 1;
                    } else if settled.binary_search_by_key(&offset, |r| r.offset).is_ok() {
                        found.repeated += 1;
                    } else {
                        found.late += 1;
                        self.early.insert(at, offset);
                    }
                }
            }
        }
        found
    }

    /// Settles records up to the largest arrival. Later ones may still come in order.
    fn advance(&mut self, records: &[Record], start: &Start) -> u64 {
        let mut matched = 0;
        while let Some(record) = records.get(self.judged).filter(|r| r.offset <= self.max) {
            if self.early.binary_search(&record.offset).is_ok() {
                matched += 1;
            } else if start.covers(&self.epoch, record) {
                self.holes.push(record.offset);
            }
            self.judged += 1;
        }
        // What arrived but is not in the log up to here was stored without an answer: it is nobody's claim.
        if let Some(last) = self.judged.checked_sub(1).and_then(|at| records.get(at)) {
            let settled = self.early.partition_point(|offset| *offset <= last.offset);
            self.early.drain(..settled);
        }
        if self.early.is_empty() && self.early.capacity() > 64 {
            self.early = Vec::new();
        }
        matched
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn epoch(name: &str) -> Epoch {
        Epoch::new(name).unwrap()
    }

    fn start() -> Start {
        Start {
            epoch: epoch("e"),
            offset: 2,
            at: 100,
        }
    }

    fn log(offsets: &[u64]) -> ChannelLog {
        let mut log = ChannelLog::default();
        for offset in offsets {
            let record = Record {
                offset: *offset,
                begun: offset * 10,
                accepted: offset * 10 + 5,
            };
            log.accept(&epoch("e"), record);
        }
        log
    }

    fn arrive(track: &mut Track, offsets: &[u64]) {
        for offset in offsets {
            track.arrived(&epoch("e"), *offset);
        }
    }

    fn verdict(offsets: &[u64], arrivals: &[&[u64]], told: &[Told]) -> (Found, u64) {
        let mut track = Track::default();
        let (log, mut found) = (log(offsets), Found::default());
        for batch in arrivals {
            arrive(&mut track, batch);
            found += track.judge(&log, &start());
        }
        (found, track.missing(&log, &start(), told, Micros::MAX))
    }

    fn found(matched: u64, repeated: u64, late: u64) -> Found {
        Found {
            matched,
            repeated,
            late,
        }
    }

    #[test]
    fn all_in_order_is_clean_and_what_came_before_the_start_is_no_claim() {
        assert_eq!(
            verdict(&[1, 2, 3, 5, 9], &[&[3, 5, 9]], &[]),
            (found(3, 0, 0), 0)
        );
        assert_eq!(
            verdict(&[1, 2, 3, 5, 9], &[&[3], &[], &[5, 9]], &[]),
            (found(3, 0, 0), 0)
        );
    }

    #[test]
    fn one_lost_in_the_middle_or_at_the_end_is_seen() {
        assert_eq!(verdict(&[3, 5, 9], &[&[3, 9]], &[]), (found(2, 0, 0), 1));
        assert_eq!(verdict(&[3, 5, 9], &[&[3, 5]], &[]), (found(2, 0, 0), 1));
        assert_eq!(
            verdict(&[3, 5, 9], &[], &[]),
            (found(0, 0, 0), 0),
            "nothing judged yet"
        );
        assert_eq!(verdict(&[3, 5, 9], &[&[]], &[]), (found(0, 0, 0), 3));
    }

    #[test]
    fn one_repeated_is_seen_at_once_and_later() {
        assert_eq!(
            verdict(&[3, 5, 9], &[&[3, 5, 5, 9]], &[]),
            (found(3, 1, 0), 0)
        );
        assert_eq!(
            verdict(&[3, 5, 9], &[&[3, 5, 9], &[5]], &[]),
            (found(3, 1, 0), 0)
        );
        assert_eq!(
            verdict(&[3, 5, 9], &[&[3, 5], &[3, 9]], &[]),
            (found(3, 1, 0), 0)
        );
    }

    #[test]
    fn one_out_of_order_is_seen_and_is_not_lost() {
        assert_eq!(verdict(&[3, 5, 9], &[&[3, 9, 5]], &[]), (found(3, 0, 1), 0));
        assert_eq!(
            verdict(&[3, 5, 9], &[&[3, 9], &[5]], &[]),
            (found(3, 0, 1), 0)
        );
    }

    #[test]
    fn what_was_told_as_gap_is_not_lost() {
        let told = [Told {
            epoch: epoch("e"),
            from: 3,
            to: 5,
        }];
        assert_eq!(verdict(&[3, 5, 9], &[&[3, 9]], &told), (found(2, 0, 0), 0));
        let elsewhere = [Told {
            epoch: epoch("f"),
            from: 3,
            to: 5,
        }];
        assert_eq!(
            verdict(&[3, 5, 9], &[&[3, 9]], &elsewhere),
            (found(2, 0, 0), 1)
        );
    }

    #[test]
    fn a_delivery_may_come_before_its_answer() {
        let mut track = Track::default();
        arrive(&mut track, &[3, 5]);
        assert_eq!(track.judge(&log(&[3]), &start()), found(1, 0, 0));
        assert_eq!(track.judge(&log(&[3, 5]), &start()), found(1, 0, 0));
        arrive(&mut track, &[5]);
        assert_eq!(track.judge(&log(&[3, 5]), &start()), found(0, 1, 0));
    }

    #[test]
    fn what_was_stored_without_an_answer_is_nobodys_claim() {
        assert_eq!(verdict(&[3, 9], &[&[3, 5, 9]], &[]), (found(2, 0, 0), 0));
    }

    #[test]
    fn a_publish_begun_after_the_start_is_due_whatever_the_server_called_the_start() {
        let mut track = Track::default();
        let wrong = Start {
            epoch: epoch("e"),
            offset: 50,
            at: 80,
        };
        let log = log(&[3, 9]);
        track.judge(&log, &wrong);
        assert_eq!(track.missing(&log, &wrong, &[], Micros::MAX), 1);
    }

    #[test]
    fn a_new_epoch_is_due_from_its_first_message() {
        let mut log = log(&[3]);
        log.accept(
            &epoch("f"),
            Record {
                offset: 1,
                begun: 500,
                accepted: 501,
            },
        );
        let mut track = Track::default();
        arrive(&mut track, &[3]);
        track.judge(&log, &start());
        assert_eq!(track.missing(&log, &start(), &[], Micros::MAX), 1);
        assert_eq!(track.missing(&log, &start(), &[], 501), 0);
        track.arrived(&epoch("f"), 1);
        track.judge(&log, &start());
        assert_eq!(track.missing(&log, &start(), &[], Micros::MAX), 0);
    }
}
