//! Pure: the session machine. Frames, ends and time go in; commands come out, to be carried out in order.
//!
//! At most two connections exist: the live one and one being opened. A connection is opened because there is none, or
//! because the server asked to migrate; in the second case both deliver until the new one has everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::backoff::Backoff;
use super::event::{Command, Ended, Event, LinkId, Moment};
use super::link::Link;
use super::offsets::OffsetTable;
use super::resume::Resume;
use crate::channel::ChannelName;
use crate::client::ClientMessage;
use crate::close::CloseCode;
use crate::ids::Position;
use crate::query::Subscription;
use crate::server::ServerMessage;

/// The client's side of a session.
#[derive(Debug)]
pub struct Session {
    pub(super) table: OffsetTable,
    pub(super) token: Option<Arc<str>>,
    pub(super) backoff: Backoff,
    pub(super) links: LinkId,
    pub(super) live: Option<Link>,
    pub(super) opening: Option<Link>,
    /// When to open the next connection.
    pub(super) reopen: Option<Moment>,
    /// Where to, when the server said so.
    pub(super) url: Option<String>,
    pub(super) stopped: bool,
}

/// Time and randomness of one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// When it happens.
    pub now: Moment,
    /// A random number in 0..1.
    pub random: f64,
}

impl Session {
    /// A session that will open its first connection at the first [`Self::wake`].
    pub fn new(resume: Resume) -> Self {
        let mut table = OffsetTable::default();
        for (channel, position) in resume.channels {
            table.follow(&channel, position);
        }
        Self {
            table,
            token: resume.resume_token.map(Arc::from),
            backoff: Backoff::default(),
            links: 0,
            live: None,
            opening: None,
            reopen: Some(Moment::ZERO),
            url: None,
            stopped: false,
        }
    }

    /// True when the session has ended for good.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// The live connection, if there is one.
    pub fn live(&self) -> Option<LinkId> {
        self.live.as_ref().map(|link| link.id)
    }

    /// When to call [`Self::wake`] at the latest; `None` when only a frame or an end can change anything.
    pub fn next_wake(&self) -> Option<Moment> {
        let beats = [&self.live, &self.opening].into_iter().flatten();
        let beats = beats.filter_map(|link| Some(link.welcomed.as_ref()?.heart.due()));
        let opening = self.opening.iter().map(|link| link.deadline);
        beats.chain(opening).chain(self.reopen).min()
    }

    /// Does what has become due.
    pub fn wake(&mut self, step: Step, out: &mut Vec<Command>) {
        if let Some(link) = &self.opening
            && step.now >= link.deadline
        {
            let reason = match link.welcomed {
                None => Ended::NoWelcome,
                Some(_) => Ended::NotSubscribed,
            };
            self.give_up(link.id, CloseCode::GoingAway, reason, step, out);
        }
        let links = [self.live(), self.opening.as_ref().map(|link| link.id)];
        for id in links.into_iter().flatten() {
            self.beat(id, step, out);
        }
        if self.reopen.is_some_and(|at| step.now >= at) {
            self.reopen = None;
            self.open(step, out);
        }
    }

    /// A frame came; `bytes` is its length. Frames of connections that were closed are ignored.
    pub fn frame(
        &mut self,
        id: LinkId,
        message: ServerMessage,
        bytes: u32,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        let Some(link) = self.link(id) else { return };
        link.heard(step.now);
        match message {
            ServerMessage::Welcome(welcome) => self.welcome(id, welcome, step, out),
            ServerMessage::Subscribed(subscribed) => self.subscribed(id, subscribed, step, out),
            ServerMessage::Message(message) => self.message(id, message, bytes, step, out),
            ServerMessage::Migrate(migrate) => {
                self.cursors(&migrate.cursors);
                self.migrate(id, migrate, step, out);
            }
            ServerMessage::Error(error) => self.error(id, error, out),
            ServerMessage::Gap(gap) => {
                if let Some(from) = self.table.gap(&gap.channel, &gap.to) {
                    let (channel, to) = (gap.channel, gap.to);
                    out.push(Command::Emit(Event::Gap { channel, from, to }));
                }
            }
            ServerMessage::Unsubscribed(gone) => {
                self.table.leave(&gone.channel);
                let (channel, code) = (gone.channel, gone.code);
                out.push(Command::Emit(Event::Unsubscribed { channel, code }));
            }
            ServerMessage::Pong(pong) => self.cursors(&pong.cursors),
            ServerMessage::Refreshed(_) => {}
        }
    }

    fn cursors(&mut self, cursors: &BTreeMap<ChannelName, Position>) {
        for (channel, position) in cursors {
            self.table.cursor(channel, position);
        }
    }

    /// Something else came that shows life (a Ping frame, a frame of an unknown type).
    pub fn heard(&mut self, id: LinkId, now: Moment) {
        if let Some(link) = self.link(id) {
            link.heard(now);
        }
    }

    /// A connection ended, or could not be opened.
    pub fn ended(&mut self, id: LinkId, reason: Ended, step: Step, out: &mut Vec<Command>) {
        self.end(id, reason, step, out);
    }

    /// The application wants one more channel.
    pub fn subscribe(&mut self, channel: &ChannelName, out: &mut Vec<Command>) {
        if !self.table.follow(channel, None) {
            return;
        }
        for link in [&mut self.live, &mut self.opening].into_iter().flatten() {
            if link.welcomed.is_some() {
                let (link, channel) = (link.id, channel.clone());
                let (after, reference) = (None, None);
                let message = ClientMessage::Subscribe {
                    channel,
                    after,
                    reference,
                };
                out.push(Command::Send { link, message });
            } else {
                let (channel, after) = (channel.clone(), None);
                link.missing.push(channel.clone());
                link.rest.push(Subscription { channel, after });
            }
        }
    }

    /// The application wants one channel less.
    pub fn unsubscribe(&mut self, channel: &ChannelName, out: &mut Vec<Command>) {
        self.table.leave(channel);
        for link in [&mut self.live, &mut self.opening].into_iter().flatten() {
            link.subscribed(channel);
            link.rest.retain(|s| s.channel != *channel);
            let (link, channel, reference) = (link.id, channel.clone(), None);
            let message = ClientMessage::Unsubscribe { channel, reference };
            out.push(Command::Send { link, message });
        }
    }

    /// Ends the session: acknowledges what was taken and closes.
    pub fn stop(&mut self, out: &mut Vec<Command>) {
        self.stopped = true;
        self.reopen = None;
        for mut link in [self.live.take(), self.opening.take()]
            .into_iter()
            .flatten()
        {
            if let Some(seq) = link.welcomed.as_mut().and_then(|w| w.acks.with_beat()) {
                let message = ClientMessage::Ack { seq };
                out.push(Command::Send {
                    link: link.id,
                    message,
                });
            }
            out.push(Command::Close {
                link: link.id,
                code: CloseCode::Normal,
            });
        }
    }

    pub(super) fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        let links = [&mut self.live, &mut self.opening].into_iter().flatten();
        links.into_iter().find(|link| link.id == id)
    }
}
