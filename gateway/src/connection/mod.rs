//! Effects (socket, timers): one task per connection. It reads the client, and it reads the channels' rings from its own
//! positions whenever window and socket allow, so nothing is ever queued for it.
//!
//! ```text
//! socket ─► inbound (client messages) ─┐          ┌─ feed (ring, history) ─► socket
//! mailbox (news, orders) ──────────────┴► turn ───┤
//! timer (liveness, slow, phase, expiry) ┘         └─ farewell (error, Close, FIN)
//! ```

pub mod control;
mod farewell;
mod feed;
mod health;
mod inbound;
pub mod liveness;
pub mod phase;
pub mod socket;
mod subscription;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sluice_protocol::server::{Migrate, Welcome};
use sluice_protocol::{
    CloseCode, Seq, ServerMessage, Subscription as Wanted, Window, WindowLimits,
};
use tokio::time::Sleep;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};

use crate::auth::{Identity, now_seconds};
use crate::broker::Unavailable;
use crate::core::Core;
use crate::health::score::HealthScore;
use crate::history::Stretch;
use crate::hub::tap::Mailbox;
use crate::metrics::Held;
use crate::registry::Registration;
use crate::{events, limits};
use control::Control;
pub(crate) use farewell::reap;
pub use farewell::{DisconnectReason, Farewell, refuse};
use liveness::{Liveness, Verdict};
use phase::{Event as PhaseEvent, Phase};
use socket::{Io, Socket};
use subscription::Subscription;

/// One client.
pub struct Connection {
    core: Arc<Core>,
    socket: Socket,
    identity: Identity,
    registration: Registration,
    mailbox: Arc<Mailbox>,
    slots: Vec<Option<Subscription>>,
    /// Slots that may have something to send.
    ready: VecDeque<u16>,
    /// Slots that need history.
    behind: VecDeque<u16>,
    reading: Option<BoxFuture<'static, ReadResult>>,
    retry: Retry,
    window: Window,
    phase: Phase,
    liveness: Liveness,
    health: HealthScore,
    asked_to_go: bool,
    lagging: Option<Held>,
    timer: Pin<Box<Sleep>>,
}

type ReadResult = (u16, Result<Arc<Stretch>, Unavailable>);

/// When history may be read again after a read that failed or brought nothing.
#[derive(Clone, Copy, Debug)]
struct Retry {
    wait: Duration,
    not_before: Option<Instant>,
}

enum Event {
    Io(Io),
    Mail,
    Read(ReadResult),
    Tick,
    Again,
}

impl Connection {
    /// Runs a connection from its welcome to its end, and says why it ended.
    pub async fn run(
        core: Arc<Core>,
        socket: Socket,
        identity: Identity,
        registration: Registration,
        wanted: Vec<Wanted>,
    ) -> DisconnectReason {
        let now = Instant::now();
        let silence = Duration::from_millis(core.config.heartbeat.server_ms.into());
        let window = WindowLimits {
            messages: core.config.limits.window_messages,
            bytes: core.config.limits.window_bytes,
        };
        let mut connection = Self {
            liveness: Liveness::new(silence, core.config.heartbeat_server_timeout, now),
            health: HealthScore::default(),
            mailbox: Arc::clone(registration.mailbox()),
            window: Window::new(window),
            phase: Phase::Live,
            socket,
            identity,
            registration,
            slots: Vec::new(),
            ready: VecDeque::new(),
            behind: VecDeque::new(),
            reading: None,
            retry: Retry {
                wait: limits::HISTORY_RETRY,
                not_before: None,
            },
            asked_to_go: false,
            lagging: None,
            timer: Box::pin(tokio::time::sleep(silence)),
            core,
        };
        let farewell = match connection.begin(wanted) {
            Ok(()) => connection.live().await,
            Err(farewell) => farewell,
        };
        let reason = farewell.reason();
        connection.finish(farewell).await;
        reason
    }

    fn begin(&mut self, wanted: Vec<Wanted>) -> Result<(), Farewell> {
        let config = &self.core.config;
        self.send(&ServerMessage::Welcome(Welcome {
            connection: self.registration.name(),
            user: self.identity.user.clone(),
            resume_token: self.core.auth.ticket(&self.identity),
            heartbeat: config.heartbeat,
            limits: config.limits,
        }))?;
        self.core.metrics.welcome(self.identity.resumed);
        let name = self.registration.name();
        events::welcomed(
            &name,
            self.identity.user.as_str(),
            self.identity.resumed,
            wanted.len(),
        );
        for Wanted { channel, after } in wanted {
            self.subscribe(&channel, after, None)?;
        }
        Ok(())
    }

    async fn live(&mut self) -> Farewell {
        loop {
            match self.turn().await {
                Ok(()) => {}
                Err(farewell) => return farewell,
            }
        }
    }

    /// Feeds what can be fed, then waits for the next thing to happen and handles it.
    async fn turn(&mut self) -> Result<(), Farewell> {
        let again = self.feed()?;
        self.start_reading();
        self.note_lagging();
        self.check_time()?;
        match self.next_event(again).await {
            Event::Io(Io::Frame(message)) => {
                self.heard(Instant::now());
                self.inbound(message).await
            }
            Event::Io(Io::Flushed) => {
                self.liveness.flushed(Instant::now());
                self.window.socket_took(self.window.last_sent());
                Ok(())
            }
            Event::Io(Io::Failed(error)) => Err(Farewell::of_error(error)),
            Event::Io(Io::Ended) => Err(Farewell::gone(DisconnectReason::Peer)),
            Event::Mail => self.read_mail(),
            Event::Read((slot, result)) => {
                self.reading = None;
                self.take_history(slot, result)
            }
            Event::Tick | Event::Again => Ok(()),
        }
    }

    async fn next_event(&mut self, again: bool) -> Event {
        let Self {
            socket,
            mailbox,
            reading,
            timer,
            ..
        } = self;
        tokio::select! {
            biased;
            io = std::future::poll_fn(|cx| socket.poll(cx)) => Event::Io(io),
            () = mailbox.notified() => Event::Mail,
            result = optional(reading.as_mut()) => Event::Read(result),
            () = timer.as_mut() => Event::Tick,
            () = tokio::task::yield_now(), if again => Event::Again,
        }
    }

    fn read_mail(&mut self) -> Result<(), Farewell> {
        for slot in self.mailbox.take_slots() {
            if let Some(Some(subscription)) = self.slots.get_mut(slot as usize) {
                subscription.tap.answered();
                self.make_ready(slot);
            }
        }
        for order in self.mailbox.take_orders() {
            self.obey(order)?;
        }
        Ok(())
    }

    fn obey(&mut self, order: Control) -> Result<(), Farewell> {
        let now = Instant::now();
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
                }))
            }
            Control::Stay => {
                self.phase = self.phase.after(PhaseEvent::Stay, now);
                self.asked_to_go = false;
                Ok(())
            }
            Control::Replaced => {
                self.phase = self.phase.after(PhaseEvent::Replaced, now);
                Ok(())
            }
            Control::Drained => Err(Farewell::close(CloseCode::Drained, DisconnectReason::Drain)),
        }
    }

    /// Whatever is due by the clock; arms the timer for the next such moment.
    fn check_time(&mut self) -> Result<(), Farewell> {
        let now = Instant::now();
        if let Some((code, reason)) = self.phase.due(now) {
            return Err(Farewell::close(code, reason));
        }
        let stuck_until = self
            .socket
            .stuck_since()
            .map(|since| since + limits::SLOW_AFTER);
        if stuck_until.is_some_and(|until| now >= until) {
            return Err(Farewell::slow());
        }
        let healthy_until = self.check_health(now)?;
        let expires_in = Duration::from_secs(self.identity.expires.saturating_sub(now_seconds()));
        if expires_in.is_zero() {
            return Err(Farewell::expired());
        }
        let alive_until = match self.liveness.check(now) {
            Verdict::Wait(until) => until,
            Verdict::Probe => {
                self.write(Message::Ping(Bytes::new()))?;
                now + self.core.config.heartbeat_server_timeout
            }
            Verdict::Dead => {
                return Err(Farewell::close(
                    CloseCode::Heartbeat,
                    DisconnectReason::Heartbeat,
                ));
            }
        };
        let moments = [
            stuck_until,
            healthy_until,
            self.phase.deadline(),
            self.retry.not_before,
            Some(now + expires_in),
        ];
        let next = moments
            .into_iter()
            .flatten()
            .fold(alive_until, Instant::min);
        let armed = self.timer.deadline().into_std();
        // A timer that fires early costs one look; moving it with every frame would cost more.
        if next < armed || armed <= now {
            self.timer.as_mut().reset(next.into());
        }
        Ok(())
    }

    fn send(&mut self, message: &ServerMessage) -> Result<(), Farewell> {
        self.write(Message::text(message.encode()))
    }

    fn write(&mut self, message: Message) -> Result<(), Farewell> {
        self.socket.send(message).map_err(|error| match error {
            // It makes us answer and does not read.
            Error::WriteBufferFull(_) => Farewell::slow(),
            other => Farewell::of_error(other),
        })
    }

    fn can_send(&self) -> bool {
        self.socket.stuck_since().is_none() && self.window.is_open()
    }

    fn note_lagging(&mut self) {
        let waiting = !self.ready.is_empty() || !self.behind.is_empty();
        let waits = waiting && !self.can_send();
        match (&self.lagging, waits) {
            (None, true) => {
                self.core.metrics.outbox_full.inc();
                self.lagging = Some(Held::new(&self.core.metrics.lagging));
            }
            (Some(_), false) => self.lagging = None,
            _ => {}
        }
    }

    fn make_ready(&mut self, slot: u16) {
        if let Some(Some(subscription)) = self.slots.get_mut(slot as usize)
            && !subscription.queued
        {
            subscription.queued = true;
            self.ready.push_back(slot);
        }
    }

    /// Number of the last message, for the log.
    fn last_sent(&self) -> Seq {
        self.window.last_sent()
    }
}

async fn optional<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
