//! Pure: what was accepted on one channel, in order.

use sluice_protocol::Epoch;

/// Microseconds since the load began.
pub(super) type Micros = u64;

/// One accepted publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: u64,
    /// When its first attempt began.
    pub(super) begun: Micros,
    /// When its answer came.
    pub(super) accepted: Micros,
}

/// One epoch of a channel.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) epoch: Epoch,
    /// By offset. Publishes of one channel are sent one after the other, so answers come in this order.
    pub(super) records: Vec<Record>,
}

/// Everything accepted on one channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelLog {
    segments: Vec<Segment>,
    /// Answers whose offset was not above the one before: the broker's order is not the publisher's.
    pub(super) faults: u64,
}

impl ChannelLog {
    /// Notes an accepted publish.
    pub(super) fn accept(&mut self, epoch: &Epoch, record: Record) {
        let segment = match self.segments.iter().position(|s| s.epoch == *epoch) {
            Some(at) => &mut self.segments[at],
            None => self.segments.push_mut(Segment {
                epoch: epoch.clone(),
                records: Vec::new(),
            }),
        };
        if segment
            .records
            .last()
            .is_some_and(|last| record.offset <= last.offset)
        {
            self.faults += 1;
            return;
        }
        segment.records.push(record);
    }

    /// The accepted publishes of one epoch.
    pub(super) fn records(&self, epoch: &Epoch) -> &[Record] {
        let segment = self.segments.iter().find(|s| s.epoch == *epoch);
        segment.map_or(&[], |s| &s.records)
    }

    /// The epochs seen.
    pub(super) fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        self.segments.iter().map(|s| &s.epoch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_offset_that_does_not_increase_is_a_fault() {
        let (e, f) = (Epoch::new("e").unwrap(), Epoch::new("f").unwrap());
        let record = |offset| Record {
            offset,
            begun: 0,
            accepted: 0,
        };
        let mut log = ChannelLog::default();
        log.accept(&e, record(3));
        log.accept(&e, record(5));
        log.accept(&f, record(1));
        assert_eq!(log.faults, 0);
        log.accept(&e, record(5));
        log.accept(&e, record(4));
        assert_eq!(log.faults, 2);
        assert_eq!(log.records(&e).len(), 2);
        assert_eq!(log.epochs().count(), 2);
    }
}
