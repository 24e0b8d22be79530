//! Pure: what each kind of frame means for the session.

use std::sync::Arc;
use std::time::Duration;

use super::event::{Command, Ended, Event, LinkId};
use super::link::Link;
use super::machine::{Session, Step};
use super::offsets::{Joined, Taken};
use crate::client::ClientMessage;
use crate::close::CloseCode;
use crate::ids::Position;
use crate::limits;
use crate::seq::Seq;
use crate::server::{ErrorMessage, Message, Migrate, Subscribed, Welcome};

impl Session {
    pub(super) fn welcome(
        &mut self,
        id: LinkId,
        welcome: Welcome,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        let moved = self.live.is_some();
        let Some(link) = self.opening.as_mut().filter(|link| link.id == id) else {
            return;
        };
        link.welcome(&welcome, step.now, step.random);
        link.deadline = step.now + limits::SUBSCRIBE_TIMEOUT;
        let resumed = !link.login;
        let message = ClientMessage::Ack { seq: Seq::START };
        out.push(Command::Send { link: id, message });
        for subscription in std::mem::take(&mut link.rest) {
            let (channel, after, reference) = (subscription.channel, subscription.after, None);
            let message = ClientMessage::Subscribe {
                channel,
                after,
                reference,
            };
            out.push(Command::Send { link: id, message });
        }
        let resume_token: Arc<str> = Arc::from(welcome.resume_token);
        self.token = Some(resume_token.clone());
        out.push(Command::Emit(Event::Welcome {
            link: id,
            connection: welcome.connection,
            user: welcome.user,
            resume_token,
            resumed,
            moved,
        }));
        if !moved {
            self.promote(step, out);
        }
    }

    pub(super) fn subscribed(
        &mut self,
        id: LinkId,
        frame: Subscribed,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        let position = Position::new(frame.epoch, frame.offset);
        let channel = frame.channel;
        match self.table.subscribed(&channel, &position, frame.recovered) {
            Joined::First => {
                let channel = channel.clone();
                out.push(Command::Emit(Event::Subscribed { channel, position }));
            }
            Joined::Missed(from) => {
                let (channel, to) = (channel.clone(), position);
                out.push(Command::Emit(Event::Gap { channel, from, to }));
            }
            Joined::Continued => {}
        }
        if let Some(link) = self.link(id) {
            link.subscribed(&channel);
        }
        if self.live.is_some() && self.opening.as_ref().is_some_and(Link::is_complete) {
            self.promote(step, out);
        }
    }

    pub(super) fn message(
        &mut self,
        id: LinkId,
        frame: Message,
        bytes: u32,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        let acks = self.link(id).and_then(|link| link.welcomed.as_mut());
        let ack = match acks.map(|welcomed| welcomed.acks.taken(frame.seq, bytes)) {
            Some(Ok(ack)) => ack,
            // Taking this message would jump over those that were left out: they come again on the next connection.
            Some(Err(_)) => {
                self.give_up(id, CloseCode::Protocol, Ended::Skipped, step, out);
                return;
            }
            None => return,
        };
        let taken = self
            .table
            .message(&frame.channel, &frame.epoch, frame.offset);
        if taken == Taken::New {
            out.push(Command::Emit(Event::Message {
                channel: frame.channel,
                epoch: frame.epoch,
                offset: frame.offset,
                time: frame.time,
                data: frame.data,
            }));
        }
        if let Some(seq) = ack {
            let message = ClientMessage::Ack { seq };
            out.push(Command::Send { link: id, message });
        }
    }

    pub(super) fn migrate(
        &mut self,
        id: LinkId,
        migrate: Migrate,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        if self.live() != Some(id) {
            if let Some(link) = self.link(id) {
                link.migrate = Some(migrate);
            }
            return;
        }
        let wait = migrate.not_before_ms.min(migrate.deadline_ms);
        let wait = Duration::from_millis(u64::from(wait));
        self.url = migrate.url;
        if self.opening.is_none() {
            self.reopen = Some(step.now + wait);
        }
        let reason = migrate.reason;
        out.push(Command::Emit(Event::Migrating { reason, wait }));
    }

    pub(super) fn error(&mut self, id: LinkId, error: ErrorMessage, out: &mut Vec<Command>) {
        if let Some(link) = self.link(id) {
            link.retry_after = error.retry_after_ms.map(Duration::from_millis);
        }
        let (code, message) = (error.code, error.message);
        out.push(Command::Emit(Event::Error { code, message }));
    }
}
