//! Pure test: the simulated fleet. It owns the channel logs, the network and time, and keeps what the application was told.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::super::event::{Command, Ended, Event, LinkId, Open};
use super::super::machine::{Session, Step};
use super::super::resume::Resume;
use crate::channel::{ChannelName, UserId};
use crate::client::ClientMessage;
use crate::close::CloseCode;
use crate::ids::{Epoch, Offset, Payload, Position};
use crate::server::{
    Gap, Heartbeat, Limits, Message, Migrate, Pong, ServerMessage, Subscribed, Welcome,
};
use crate::window::{Window, WindowLimits};

const LIMITS: Limits = Limits {
    window_messages: 6,
    window_bytes: 100_000,
    message_bytes: 1000,
};
const HEARTBEAT: Heartbeat = Heartbeat {
    client_ms: 15_000,
    client_timeout_ms: 8_000,
    server_ms: 30_000,
};

/// One channel's truth.
#[derive(Default)]
pub(super) struct Log {
    offsets: Vec<u64>,
    /// Messages before this index have left history.
    kept_from: usize,
}

impl Log {
    pub(super) fn last(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }
}

/// One connection on the server's side.
pub(super) struct Peer {
    window: Window,
    /// Index into the log of the next message, per followed channel.
    next: BTreeMap<ChannelName, usize>,
    wire: VecDeque<ServerMessage>,
    stalled: bool,
}

pub(super) struct World {
    pub(super) session: Session,
    pub(super) now: Duration,
    pub(super) logs: BTreeMap<ChannelName, Log>,
    pub(super) peers: BTreeMap<LinkId, Peer>,
    /// Requests to open that have not been answered.
    pub(super) asked: VecDeque<Open>,
    pub(super) delivered: BTreeMap<ChannelName, Vec<u64>>,
    pub(super) first: BTreeMap<ChannelName, u64>,
    pub(super) gaps: BTreeMap<ChannelName, Vec<(u64, u64)>>,
    pub(super) migrated: u32,
    pub(super) stopped: bool,
    /// What the application would keep over a restart.
    pub(super) kept: Resume,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Publish(u8),
    Pump(u8),
    Accept,
    Refuse(u16),
    Cut,
    Drain { not_before_ms: u32 },
    CloseDrained,
    Stall,
    Tick(u32),
    Forget(u8),
    Restart,
}

pub(super) fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0_u8..3).prop_map(Act::Publish),
        12 => (1_u8..8).prop_map(Act::Pump),
        8 => Just(Act::Accept),
        1 => prop_oneof![Just(503_u16), Just(500), Just(401)].prop_map(Act::Refuse),
        2 => Just(Act::Cut),
        3 => (0_u32..3000).prop_map(|not_before_ms| Act::Drain { not_before_ms }),
        1 => Just(Act::CloseDrained),
        1 => Just(Act::Stall),
        1 => Just(Act::Restart),
        8 => (1_u32..4000).prop_map(Act::Tick),
    ]
}

pub(super) fn name(index: u8) -> ChannelName {
    match index {
        0 => UserId::new("ann").unwrap().channel(),
        n => ChannelName::new(&format!("topic-{n}")).unwrap(),
    }
}

pub(super) fn epoch() -> Epoch {
    Epoch::new("e").unwrap()
}

pub(super) fn at(offset: u64) -> Position {
    Position::new(epoch(), Offset::new(offset).unwrap())
}

impl World {
    pub(super) fn new() -> Self {
        let channels = vec![(name(1), None), (name(2), None)];
        Self {
            session: Session::new(Resume {
                resume_token: None,
                channels,
            }),
            now: Duration::ZERO,
            logs: (0..3).map(|n| (name(n), Log::default())).collect(),
            peers: BTreeMap::new(),
            asked: VecDeque::new(),
            delivered: BTreeMap::new(),
            first: BTreeMap::new(),
            gaps: BTreeMap::new(),
            migrated: 0,
            stopped: false,
            kept: Resume::default(),
        }
    }

    pub(super) fn with_session(&mut self, f: impl FnOnce(&mut Session, Step, &mut Vec<Command>)) {
        let mut out = Vec::new();
        let step = Step {
            now: self.now,
            random: 0.5,
        };
        f(&mut self.session, step, &mut out);
        for command in out {
            self.carry_out(command);
        }
        if let Some(wake) = self.session.next_wake() {
            assert!(wake + Duration::from_secs(400) > self.now);
        } else {
            assert!(
                self.session.is_stopped(),
                "nothing to wake for, and not stopped"
            );
        }
    }

    pub(super) fn carry_out(&mut self, command: Command) {
        match command {
            Command::Open(open) => {
                assert!(self.asked.is_empty(), "two connections are being opened");
                assert!(self.peers.len() <= 1, "a third connection is being opened");
                self.asked.push_back(open);
            }
            Command::Close { link, .. } => {
                self.peers.remove(&link);
                self.asked.retain(|open| open.link != link);
            }
            Command::Send { link, message } => self.receive(link, &message),
            Command::Emit(event) => self.tell(event),
        }
    }

    pub(super) fn receive(&mut self, link: LinkId, message: &ClientMessage) {
        let Some(peer) = self.peers.get_mut(&link) else {
            return;
        };
        match message {
            ClientMessage::Ack { seq } => peer.window.ack(*seq).unwrap(),
            ClientMessage::Ping { id, .. } if !peer.stalled => {
                let idle = peer
                    .next
                    .iter()
                    .filter(|(c, next)| **next == self.logs[*c].offsets.len());
                // What is still on the wire comes before the pong, so these positions are true.
                let cursors = idle
                    .map(|(c, _)| (c.clone(), at(self.logs[c].last())))
                    .collect();
                peer.wire.push_back(ServerMessage::Pong(Pong {
                    id: *id,
                    time: 0,
                    cursors,
                    reference: None,
                }));
            }
            _ => {}
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.kept.apply(&event);
        match event {
            Event::Subscribed { channel, position } => {
                let again = self.first.insert(channel, position.offset.get());
                assert_eq!(again, None, "a channel was followed twice");
            }
            Event::Message {
                channel, offset, ..
            } => {
                self.delivered
                    .entry(channel)
                    .or_default()
                    .push(offset.get());
            }
            Event::Gap { channel, from, to } => {
                let gap = (from.offset.get(), to.offset.get());
                self.gaps.entry(channel).or_default().push(gap);
            }
            Event::Migrated { .. } => self.migrated += 1,
            Event::Stopped { .. } => self.stopped = true,
            _ => {}
        }
    }

    pub(super) fn act(&mut self, act: &Act) {
        match *act {
            Act::Publish(n) => {
                let log = self.logs.get_mut(&name(n)).unwrap();
                // Offsets are not contiguous.
                let next = log.last() + 1 + u64::from(n);
                log.offsets.push(next);
            }
            Act::Pump(n) => (0..n).for_each(|_| self.pump()),
            Act::Accept => self.accept(),
            Act::Refuse(status) => self.refuse(status),
            Act::Cut => self.cut(&Ended::Failed("cut".into())),
            Act::Drain { not_before_ms } => self.drain(not_before_ms),
            Act::CloseDrained => self.cut(&Ended::Closed(CloseCode::Drained)),
            Act::Stall => {
                if let Some(peer) = self.oldest() {
                    self.peers.get_mut(&peer).unwrap().stalled = true;
                }
            }
            Act::Tick(ms) => self.tick(Duration::from_millis(u64::from(ms))),
            Act::Restart => {
                let mut kept = self.kept.clone();
                for n in 1..3 {
                    if !kept.channels.iter().any(|(c, _)| *c == name(n)) {
                        kept.channels.push((name(n), None));
                    }
                }
                self.peers.clear();
                self.asked.clear();
                self.session = Session::new(kept);
            }
            Act::Forget(n) => {
                let log = self.logs.get_mut(&name(n)).unwrap();
                log.kept_from = log.offsets.len();
            }
        }
    }

    pub(super) fn oldest(&self) -> Option<LinkId> {
        self.peers.keys().next().copied()
    }

    pub(super) fn tick(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(wake) = self.session.next_wake().filter(|wake| *wake <= until) {
            self.now = self.now.max(wake);
            self.with_session(Session::wake);
        }
        self.now = until;
    }

    pub(super) fn accept(&mut self) {
        let Some(open) = self.asked.pop_front() else {
            return;
        };
        let mut wire = VecDeque::from([ServerMessage::Welcome(Welcome {
            connection: format!("c-{}", open.link),
            user: UserId::new("ann").unwrap(),
            resume_token: format!("r-{}", open.link),
            heartbeat: HEARTBEAT,
            limits: LIMITS,
        })]);
        let mut wanted: BTreeMap<_, _> = open
            .query
            .channels
            .into_iter()
            .map(|s| (s.channel, s.after))
            .collect();
        wanted.entry(name(0)).or_insert(None);
        let mut next = BTreeMap::new();
        for (channel, after) in wanted {
            let log = &self.logs[&channel];
            let resumed = after
                .as_ref()
                .map(|p| log.offsets.partition_point(|o| *o <= p.offset.get()));
            let recovered = resumed.filter(|index| *index >= log.kept_from);
            let index = recovered.unwrap_or(log.offsets.len());
            let position = match (&after, recovered) {
                (Some(after), Some(_)) => after.clone(),
                _ => at(log.last()),
            };
            wire.push_back(ServerMessage::Subscribed(Subscribed {
                channel: channel.clone(),
                epoch: epoch(),
                offset: position.offset,
                recovered: recovered.is_some(),
                reference: None,
            }));
            if let (Some(from), None) = (after, recovered)
                && from != position
            {
                wire.push_back(ServerMessage::Gap(Gap {
                    channel: channel.clone(),
                    from,
                    to: position,
                }));
            }
            next.insert(channel, index);
        }
        let limits = WindowLimits {
            messages: LIMITS.window_messages,
            bytes: LIMITS.window_bytes,
        };
        let peer = Peer {
            window: Window::new(limits),
            next,
            wire,
            stalled: false,
        };
        self.peers.insert(open.link, peer);
    }

    pub(super) fn refuse(&mut self, status: u16) {
        let Some(open) = self.asked.pop_front() else {
            return;
        };
        // A login is never refused here: what follows it is a stop, which has its own test.
        let status = if open.query.resume.is_none() {
            503
        } else {
            status
        };
        let retry_after = Some(Duration::from_millis(300));
        let reason = Ended::Refused {
            status,
            retry_after,
        };
        self.with_session(|s, step, out| s.ended(open.link, reason, step, out));
    }

    pub(super) fn cut(&mut self, reason: &Ended) {
        if let Some(id) = self.oldest() {
            self.peers.remove(&id);
            self.with_session(|s, step, out| s.ended(id, reason.clone(), step, out));
        }
    }

    pub(super) fn drain(&mut self, not_before_ms: u32) {
        if let Some(id) = self.oldest() {
            let migrate = Migrate {
                reason: "drain".into(),
                not_before_ms,
                deadline_ms: 10_000,
                url: None,
                cursors: BTreeMap::new(),
            };
            self.peers
                .get_mut(&id)
                .unwrap()
                .wire
                .push_back(ServerMessage::Migrate(migrate));
        }
    }

    /// Every connection fills its wire as its window allows and hands over one frame.
    pub(super) fn pump(&mut self) {
        let ids: Vec<LinkId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id).filter(|p| !p.stalled) else {
                continue;
            };
            for (channel, next) in &mut peer.next {
                while *next < self.logs[channel].offsets.len() && peer.window.is_open() {
                    let offset = Offset::new(self.logs[channel].offsets[*next]).unwrap();
                    let (seq, channel) = (peer.window.send(10), channel.clone());
                    let data = Payload::new("1".into()).unwrap();
                    let message = Message {
                        seq,
                        channel,
                        epoch: epoch(),
                        offset,
                        time: 0,
                        data,
                    };
                    peer.wire.push_back(ServerMessage::Message(message));
                    *next += 1;
                }
            }
            if let Some(frame) = peer.wire.pop_front() {
                self.with_session(|s, step, out| s.frame(id, frame, 10, step, out));
            }
        }
    }

    /// No more trouble: everything that is asked for happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..2000 {
            self.accept();
            self.pump();
            self.tick(Duration::from_millis(50));
        }
    }

    /// Delivered and reported missing, together, are the log from the first position on, each once and in order.
    pub(super) fn check(&self) {
        assert!(!self.stopped);
        assert!(self.session.live().is_some());
        for (channel, log) in &self.logs {
            let first = self.first[channel];
            let got = self.delivered.get(channel).cloned().unwrap_or_default();
            let gaps = self.gaps.get(channel).cloned().unwrap_or_default();
            let told = |o: u64| gaps.iter().any(|(from, to)| *from < o && o <= *to);
            let due: Vec<u64> = log
                .offsets
                .iter()
                .copied()
                .filter(|o| *o > first && !told(*o))
                .collect();
            assert_eq!(got, due, "{channel}, gaps {gaps:?}");
        }
    }
}
