//! Effects (socket, shard): one task per connection. It reads the client, and it reads the channels' rings from its own positions
//! whenever window and socket allow, so nothing is ever queued for it.
//!
//! ```text
//! socket ─► decoder ─► inbound (client messages) ─┐        ┌─ feed (rings, history) ─┐
//! shard: news, orders ────────────────────────────┴► turn ─┤                         ├─► batch ─► socket
//! shard: wheel (liveness, slow, phase, expiry) ────────────┘─ farewell ──────────────┘      └─► outbox
//! ```
//!
//! The task is this struct and nothing else: a hand-written future, so that its size is what is written here. Buffers belong to the
//! shard; the boxes below exist only while there is something in them.

pub mod batch;
pub mod boundary;
pub mod control;
pub mod decoder;
mod farewell;
mod feed;
pub mod frame;
pub mod guest;
mod health;
mod inbound;
pub mod liveness;
pub mod outbox;
pub mod phase;
pub mod reason;
pub mod slots;
mod subscription;
mod write;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, LocalBoxFuture};
use sluice_protocol::server::{Migrate, Welcome};
use sluice_protocol::{
    CloseCode, ServerMessage, Subscription as Wanted, UserId, Window, WindowLimits,
};
use tokio::net::TcpStream;

use crate::auth::Identity;
use crate::broker::Unavailable;
use crate::health::score::HealthScore;
use crate::history::Stretch;
use crate::shard::Shard;
use crate::shard::slab::Key;
use crate::{events, limits};
use batch::Batch;
use control::Control;
use decoder::Decoder;
pub use farewell::Farewell;
use farewell::Stage;
pub(crate) use farewell::reap;
use frame::PING;
use guest::Guest;
use inbound::Checked;
use liveness::{Liveness, Rule, Verdict};
use outbox::Outbox;
use phase::{Event as PhaseEvent, Phase};
pub use reason::DisconnectReason;
use slots::Slots;
use subscription::Subscription;

/// One client.
pub struct Connection {
    shard: Rc<Shard>,
    key: Key,
    id: u64,
    stream: TcpStream,
    /// Until it has said goodbye.
    guest: Option<Guest>,
    user: UserId,
    /// When the credentials end, seconds since the Unix epoch.
    expires: u64,
    slots: Vec<Option<Subscription>>,
    /// Slots that may have something to send.
    ready: Slots,
    /// Slots that need history.
    behind: Slots,
    reading: Option<BoxFuture<'static, ReadResult>>,
    checking: Option<LocalBoxFuture<'static, Checked>>,
    /// What is due in this turn.
    batch: Option<Box<Batch>>,
    /// While the socket takes nothing more; what it did not take is in it.
    outbox: Option<Box<Outbox>>,
    /// While a frame or message of the client is not whole, or waits.
    decoder: Option<Box<Decoder>>,
    window: Window,
    phase: Phase,
    stage: Stage,
    liveness: Liveness,
    health: HealthScore,
    /// Why it ends, once that is known.
    parted: Option<DisconnectReason>,
    /// History is not read again before this.
    retry_at: Option<Instant>,
    retry_wait_ms: u16,
    /// Which slot is being read for; no slot has the number 255.
    reading_slot: u8,
    /// Which slot is fed next.
    next_slot: u8,
    asked_to_go: bool,
    lagging: bool,
    /// The client's FIN has come.
    ended: bool,
}

/// What the handshake leaves to the connection.
#[derive(Debug)]
pub struct Opening<'a> {
    /// Its answer, which goes out before everything else.
    pub answer: Vec<u8>,
    /// What the client sent behind its request.
    pub read: &'a [u8],
}

type ReadResult = Result<Arc<Stretch>, Unavailable>;

const NO_SLOT: u8 = u8::MAX;

impl Connection {
    /// Starts a connection's task.
    pub fn start(
        shard: &Rc<Shard>,
        stream: TcpStream,
        opening: Opening<'_>,
        identity: &Identity,
        guest: Guest,
        wanted: Vec<Wanted>,
    ) {
        let (key, id) = shard.enter(identity.session);
        let config = &shard.core().config;
        let window = WindowLimits {
            messages: config.limits.window_messages,
            bytes: config.limits.window_bytes,
        };
        let mut connection = Self {
            shard: Rc::clone(shard),
            key,
            id,
            stream,
            guest: Some(guest),
            user: identity.user.clone(),
            expires: identity.expires,
            slots: Vec::with_capacity(wanted.len()),
            ready: Slots::default(),
            behind: Slots::default(),
            reading: None,
            checking: None,
            batch: None,
            outbox: None,
            decoder: None,
            window: Window::new(window),
            phase: Phase::Live,
            stage: Stage::Live,
            liveness: Liveness::new(Instant::now()),
            health: HealthScore::default(),
            parted: None,
            retry_at: None,
            retry_wait_ms: limits::HISTORY_RETRY.as_millis() as u16,
            reading_slot: NO_SLOT,
            next_slot: 0,
            asked_to_go: false,
            lagging: false,
            ended: false,
        };
        connection.batch().begin(opening.answer);
        if !opening.read.is_empty() {
            let decoder = connection.decoder.insert(shard.lend_decoder());
            decoder.keep(opening.read);
        }
        connection.greet(identity, wanted);
        tokio::task::spawn_local(connection);
    }

    fn greet(&mut self, identity: &Identity, wanted: Vec<Wanted>) {
        let shard = Rc::clone(&self.shard);
        let core = shard.core();
        let name = core.registry.name(self.id);
        core.metrics.welcome(identity.resumed);
        let user = identity.user.as_str();
        events::welcomed(&name, user, identity.resumed, wanted.len());
        self.send(&ServerMessage::Welcome(Welcome {
            connection: name,
            user: identity.user.clone(),
            resume_token: core.auth.ticket(identity),
            heartbeat: core.config.heartbeat,
            limits: core.config.limits,
        }));
        for Wanted { channel, after } in wanted {
            self.subscribe(&channel, after, None);
        }
    }

    /// Does everything that can be done now, and sees to it that the task is woken for the rest.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), Farewell> {
        self.take_mail(cx)?;
        self.take_checked(cx)?;
        self.drain_outbox(cx)?;
        let mut again = self.read(cx)?;
        // Looks at new credentials for the first time, which also lets them wake this task.
        again |= self.take_checked(cx)?;
        again |= self.take_history(cx)?;
        again |= self.feed(cx)?;
        if self.start_reading() {
            // The same for history.
            again |= self.take_history(cx)?;
        }
        self.flush(cx)?;
        // After that, because the socket may be stuck since this moment.
        self.check_time()?;
        // A probe.
        self.flush(cx)?;
        self.note_lagging();
        // What the socket took counts as acknowledged for plain clients, so the window may be open again.
        let due = !self.ready.is_empty() || self.may_read();
        if again || (due && self.can_send()) {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    fn take_mail(&mut self, cx: &Context<'_>) -> Result<(), Farewell> {
        let (mut news, orders) = self.shard.attend(self.key, cx.waker());
        while let Some(slot) = news.next_from(0) {
            news.remove(slot);
            self.make_ready(slot);
        }
        for order in orders {
            self.obey(order)?;
        }
        Ok(())
    }

    fn obey(&mut self, order: Control) -> Result<(), Farewell> {
        let now = self.shard.now();
        match order {
            Control::Migrate { reason, not_before } => {
                self.phase = self.phase.after(PhaseEvent::Migrate, now);
                self.asked_to_go = true;
                let cursors = self.cursors();
                self.send(&ServerMessage::Migrate(Migrate {
                    reason: reason.to_string(),
                    not_before_ms: not_before.as_millis() as u32,
                    deadline_ms: limits::MIGRATE_DEADLINE.as_millis() as u32,
                    url: None,
                    cursors,
                }));
            }
            Control::Stay => {
                self.phase = self.phase.after(PhaseEvent::Stay, now);
                self.asked_to_go = false;
            }
            Control::Replaced(overlap) => {
                self.phase = self.phase.after(PhaseEvent::Replaced(overlap), now);
            }
            Control::Drained => {
                return Err(Farewell::close(CloseCode::Drained, DisconnectReason::Drain));
            }
        }
        Ok(())
    }

    /// Whatever is due by the clock; sets the alarm for the next such moment.
    fn check_time(&mut self) -> Result<(), Farewell> {
        let now = self.shard.now();
        if let Some((code, reason)) = self.phase.due(now) {
            return Err(Farewell::close(code, reason));
        }
        let stuck_until = self.stuck_since().map(|since| since + limits::SLOW_AFTER);
        if stuck_until.is_some_and(|until| now >= until) {
            return Err(Farewell::slow());
        }
        let healthy_until = self.check_health(now)?;
        let expires_in =
            Duration::from_secs(self.expires.saturating_sub(self.shard.unix_millis() / 1000));
        if expires_in.is_zero() {
            return Err(Farewell::expired());
        }
        if self.retry_at.is_some_and(|at| now >= at) {
            self.retry_at = None;
        }
        let config = &self.shard.core().config;
        let rule = Rule {
            silence: Duration::from_millis(config.heartbeat.server_ms.into()),
            patience: config.heartbeat_server_timeout,
        };
        let alive_until = match self.liveness.check(rule, now) {
            Verdict::Wait(until) => until,
            Verdict::Probe => {
                self.batch().frame(PING, &[]);
                now + rule.patience
            }
            Verdict::Dead => {
                let reason = DisconnectReason::Heartbeat;
                return Err(Farewell::close(CloseCode::Heartbeat, reason));
            }
        };
        let moments = [
            stuck_until,
            healthy_until,
            self.phase.deadline(),
            self.retry_at,
            Some(now + expires_in),
        ];
        let next = moments
            .into_iter()
            .flatten()
            .fold(alive_until, Instant::min);
        self.shard.wake_at(self.key, next);
        Ok(())
    }

    /// Since when the socket has taken nothing although something waits for it.
    fn stuck_since(&self) -> Option<Instant> {
        self.outbox.as_ref().map(|outbox| outbox.stuck_since())
    }

    fn send(&mut self, message: &ServerMessage) {
        self.batch().say(message);
    }

    fn batch(&mut self) -> &mut Batch {
        let Self { batch, shard, .. } = self;
        batch.get_or_insert_with(|| shard.lend_batch())
    }

    fn note_lagging(&mut self) {
        let waiting = !self.ready.is_empty() || !self.behind.is_empty();
        let lagging = waiting && !self.can_send();
        if lagging == self.lagging {
            return;
        }
        self.lagging = lagging;
        let metrics = &self.shard.core().metrics;
        if lagging {
            metrics.outbox_full.inc();
            metrics.lagging.inc();
        } else {
            metrics.lagging.dec();
        }
    }

    fn make_ready(&mut self, slot: u8) {
        let queued = self.behind.contains(slot) || self.reading_slot == slot;
        if !queued && self.subscription(slot).is_some() {
            self.ready.insert(slot);
        }
    }
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        let shard = Rc::clone(&connection.shard);
        let _turn = shard.turn();
        if matches!(connection.stage, Stage::Live) {
            match connection.turn(cx) {
                Ok(()) => return Poll::Pending,
                Err(farewell) => connection.part(farewell, cx),
            }
        }
        connection.leave(cx)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave_all();
        self.ready = Slots::default();
        self.behind = Slots::default();
        self.note_lagging();
        self.shard.forget(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task adds about 100 bytes and is rounded up to a multiple of 128, so more than this is 128 bytes for every client.
    #[test]
    fn a_connection_is_small() {
        assert!(
            size_of::<Connection>() <= 512,
            "{}",
            size_of::<Connection>()
        );
        assert!(size_of::<Option<Subscription>>() <= 64);
    }
}
