//! Pure test: the auditor sees each fault that is put before it, and none where there is none.
#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use sluice_protocol::server::Message;
use sluice_protocol::{Offset, Seq, UserId};

/// One client on one channel, with publishes and frames made by hand.
struct Stage {
    auditor: Arc<Auditor>,
    channel: Arc<Channel>,
    ear: Ear,
    epoch: Epoch,
    seq: Seq,
}

impl Stage {
    fn new() -> Self {
        let auditor = Auditor::new();
        let channel = Channel::new(ChannelName::new("c").unwrap());
        let mut ear = auditor.listen(vec![channel.clone()]);
        let epoch = Epoch::new("e").unwrap();
        ear.hear(Event::Welcome {
            link: 1,
            connection: "c-1".into(),
            user: UserId::new("ann").unwrap(),
            resume_token: "r".into(),
            resumed: false,
            moved: false,
        });
        let position = Position::new(epoch.clone(), Offset::ZERO);
        ear.hear(Event::Subscribed {
            channel: channel.name.clone(),
            position,
        });
        Self {
            auditor,
            channel,
            ear,
            epoch,
            seq: Seq::START,
        }
    }

    fn at(&self, offset: u64) -> Position {
        Position::new(self.epoch.clone(), Offset::new(offset).unwrap())
    }

    fn publish(&self, offsets: &[u64]) {
        for offset in offsets {
            let now = self.auditor.now();
            self.channel.accepted(&self.at(*offset), now, now);
        }
    }

    fn data(offset: u64) -> Payload {
        Payload::new(format!(r#"{{"p":"run","n":{offset},"t":0}}"#)).unwrap()
    }

    fn wire(&mut self, link: LinkId, offsets: &[u64]) {
        for offset in offsets {
            self.seq = self.seq.next();
            let frame = ServerMessage::Message(Message {
                seq: self.seq,
                channel: self.channel.name.clone(),
                epoch: self.epoch.clone(),
                offset: Offset::new(*offset).unwrap(),
                time: 0,
                data: Self::data(*offset),
            });
            self.ear.frame(link, &frame, 100);
        }
    }

    fn app(&mut self, offsets: &[u64]) {
        for offset in offsets {
            self.ear.hear(Event::Message {
                channel: self.channel.name.clone(),
                epoch: self.epoch.clone(),
                offset: Offset::new(*offset).unwrap(),
                time: 0,
                data: Self::data(*offset),
            });
        }
    }

    fn both(&mut self, offsets: &[u64]) {
        self.wire(1, offsets);
        self.app(offsets);
    }

    /// Lost at the application and on the wire, and the counts that are not zero, of those that mean a fault.
    fn verdict(&self) -> (Missing, Vec<(Count, u64)>) {
        let missing = self.auditor.judge(Micros::MAX);
        let faults = [
            Count::Repeated,
            Count::Late,
            Count::RepeatedOnWire,
            Count::DisorderOnWire,
            Count::Gaps,
            Count::ContentFaults,
        ];
        let counts = faults.map(|c| (c, self.auditor.tally.get(c)));
        (
            missing,
            counts.into_iter().filter(|(_, n)| *n > 0).collect(),
        )
    }
}

fn missing(app: u64, wire: u64) -> Missing {
    Missing { app, wire }
}

#[test]
fn nothing_wrong_is_nothing_found() {
    let mut stage = Stage::new();
    stage.publish(&[1, 2, 3]);
    stage.both(&[1, 2, 3]);
    assert_eq!(stage.verdict(), (missing(0, 0), vec![]));
    assert_eq!(stage.auditor.tally.get(Count::Matched), 3);
}

#[test]
fn a_lost_one_is_found() {
    let mut stage = Stage::new();
    stage.publish(&[1, 2, 3]);
    stage.both(&[1, 3]);
    assert_eq!(stage.verdict(), (missing(1, 1), vec![]));
    stage.wire(2, &[2]);
    assert_eq!(
        stage.verdict().0,
        missing(1, 0),
        "the client dropped it, the wire did not"
    );
}

#[test]
fn a_repeated_one_is_found_at_each_place() {
    let mut stage = Stage::new();
    stage.publish(&[1, 2, 3]);
    stage.both(&[1, 2, 3]);
    stage.wire(2, &[2, 3]);
    assert_eq!(
        stage.verdict(),
        (missing(0, 0), vec![(Count::RepeatedOnWire, 2)])
    );
    stage.app(&[3]);
    let (_, faults) = stage.verdict();
    assert_eq!(
        faults,
        [
            (Count::Repeated, 1),
            (Count::RepeatedOnWire, 2),
            (Count::ContentFaults, 1)
        ]
    );
}

#[test]
fn one_out_of_order_is_found_at_each_place() {
    let mut stage = Stage::new();
    stage.publish(&[1, 2, 3]);
    stage.both(&[1, 3, 2]);
    let (lost, faults) = stage.verdict();
    assert_eq!(lost, missing(0, 0));
    assert_eq!(
        faults,
        [
            (Count::Late, 1),
            (Count::DisorderOnWire, 1),
            (Count::ContentFaults, 1)
        ]
    );
}

#[test]
fn a_gap_is_counted_and_what_it_covers_is_not_lost() {
    let mut stage = Stage::new();
    stage.publish(&[1, 2, 3, 4]);
    stage.both(&[1]);
    let (from, to) = (stage.at(1), stage.at(3));
    stage.ear.hear(Event::Gap {
        channel: stage.channel.name.clone(),
        from,
        to,
    });
    stage.both(&[4]);
    assert_eq!(stage.verdict(), (missing(0, 0), vec![(Count::Gaps, 1)]));
}

#[test]
fn connections_are_counted_by_their_kind() {
    let mut stage = Stage::new();
    let tally = |stage: &Stage| stage.auditor.tally.connected.load(Ordering::Relaxed);
    assert_eq!(tally(&stage), 1);
    stage.ear.hear(Event::Disconnected {
        reason: Ended::Silent,
    });
    assert_eq!(tally(&stage), 0);
    for moved in [false, true] {
        stage.ear.hear(Event::Welcome {
            link: 2,
            connection: "c-2".into(),
            user: UserId::new("ann").unwrap(),
            resume_token: "r".into(),
            resumed: true,
            moved,
        });
    }
    assert_eq!(tally(&stage), 1);
    let kinds: Vec<Kind> = stage
        .auditor
        .tally
        .welcomes()
        .again(0)
        .map(|(_, k)| k)
        .collect();
    assert_eq!(kinds, [Kind::Reconnect, Kind::Move]);
    assert_eq!(stage.auditor.tally.reconnect.read().total(), 1);
    assert_eq!(stage.auditor.tally.read().incidents.len(), 1);
}
