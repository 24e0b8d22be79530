//! Pure: how connections of a session begin, take over and end.

use super::event::{Command, Ended, Event, LinkId, Open};
use super::heart::Beat;
use super::link::Link;
use super::machine::{Session, Step};
use crate::client::ClientMessage;
use crate::close::{CloseCode, Retry};
use crate::limits;
use crate::query::ConnectQuery;

impl Session {
    pub(super) fn open(&mut self, step: Step, out: &mut Vec<Command>) {
        if self.opening.is_some() || self.stopped {
            return;
        }
        self.links += 1;
        let channels = self.table.subscriptions();
        let missing = channels.iter().map(|s| s.channel.clone()).collect();
        let mut query = ConnectQuery {
            channels,
            resume: self.token.as_deref().map(str::to_owned),
            ..ConnectQuery::default()
        };
        let rest = query.split_to_fit();
        self.opening = Some(Link {
            id: self.links,
            login: self.token.is_none(),
            deadline: step.now + limits::CONNECT_TIMEOUT,
            welcomed: None,
            missing,
            rest,
            retry_after: None,
            migrate: None,
        });
        let (link, url) = (self.links, self.url.take());
        out.push(Command::Open(Open { link, query, url }));
    }

    /// The connection being opened becomes the live one; the one before it is closed.
    pub(super) fn promote(&mut self, step: Step, out: &mut Vec<Command>) {
        let Some(mut link) = self.opening.take() else {
            return;
        };
        let (id, migrate) = (link.id, link.migrate.take());
        self.reopen = None;
        if let Some(old) = self.live.replace(link) {
            if old.lived(step.now) >= limits::BACKOFF_PROVEN_AFTER {
                self.backoff.reset();
            }
            out.push(Command::Close {
                link: old.id,
                code: CloseCode::Normal,
            });
            out.push(Command::Emit(Event::Migrated { link: id }));
        }
        if let Some(migrate) = migrate {
            self.migrate(id, migrate, step, out);
        }
    }

    pub(super) fn beat(&mut self, id: LinkId, step: Step, out: &mut Vec<Command>) {
        let welcomed = self.link(id).and_then(|link| link.welcomed.as_mut());
        let Some(welcomed) = welcomed else { return };
        match welcomed.heart.poll(step.now) {
            Beat::Quiet => {}
            Beat::Ping(ping) => {
                if let Some(seq) = welcomed.acks.with_beat() {
                    let message = ClientMessage::Ack { seq };
                    out.push(Command::Send { link: id, message });
                }
                let message = ClientMessage::Ping {
                    id: ping,
                    reference: None,
                };
                out.push(Command::Send { link: id, message });
            }
            Beat::Dead => self.give_up(id, CloseCode::GoingAway, Ended::Silent, step, out),
        }
    }

    pub(super) fn give_up(
        &mut self,
        id: LinkId,
        code: CloseCode,
        reason: Ended,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        out.push(Command::Close { link: id, code });
        self.end(id, reason, step, out);
    }

    pub(super) fn end(&mut self, id: LinkId, reason: Ended, step: Step, out: &mut Vec<Command>) {
        if let Some(link) = self.opening.take_if(|link| link.id == id) {
            let failed_move = self.live.is_some();
            self.again(&link, reason, failed_move, step, out);
        } else if let Some(link) = self.live.take_if(|link| link.id == id) {
            if self
                .opening
                .as_ref()
                .is_some_and(|next| next.welcomed.is_some())
            {
                // Complete or not, what is being opened delivers already: for the application there is no break.
                self.promote(step, out);
                if let Some(link) = self.live() {
                    out.push(Command::Emit(Event::Migrated { link }));
                }
                return;
            }
            let told = reason.clone();
            out.push(Command::Emit(Event::Disconnected { reason: told }));
            if self.opening.is_none() {
                self.again(&link, reason, false, step, out);
            }
        }
    }

    /// Decides when the next connection is opened after `link` ended and nothing else is under way.
    pub(super) fn again(
        &mut self,
        link: &Link,
        reason: Ended,
        failed_move: bool,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        if link.lived(step.now) >= limits::BACKOFF_PROVEN_AFTER {
            self.backoff.reset();
        }
        let refused_login = link.login && link.welcomed.is_none();
        let retry = match reason.retry() {
            Retry::NewCredentials if refused_login => Retry::Never,
            retry => retry,
        };
        let given = match &reason {
            Ended::Refused { retry_after, .. } => *retry_after,
            _ => link.retry_after,
        };
        let wait = match (retry, given) {
            // A live connection goes on although the move failed for good; the server closes it when it must.
            (Retry::Never, _) if failed_move => return,
            (Retry::Never, _) => {
                self.stopped = true;
                self.reopen = None;
                out.push(Command::Emit(Event::Stopped { reason }));
                return;
            }
            (Retry::NewCredentials, _) => {
                self.token = None;
                self.backoff.at_once(step.random)
            }
            (_, Some(given)) => {
                self.backoff.count();
                given.min(limits::SERVER_WAIT_MAX)
            }
            (Retry::AtOnce, None) => self.backoff.at_once(step.random),
            (Retry::Backoff, None) => self.backoff.wait(step.random),
        };
        self.reopen = Some(step.now + wait);
        let tries = self.backoff.tries();
        if !failed_move {
            out.push(Command::Emit(Event::Reconnecting { wait, tries }));
        }
    }
}
