//! Effects: carries out what the session machine decides, in one task per client.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{SinkExt, Stream, StreamExt};
use sluice_protocol::server::FrameError;
use sluice_protocol::session::{Command, Ended, Event, LinkId, Open, Session, Step};
use sluice_protocol::{ChannelName, ClientMessage, CloseCode, ServerMessage};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::config::Config;
use crate::deliver::{Deliver, NoTap, Tap};
use crate::dial::{Attempt, Socket, dial};
use crate::limits;

/// Longest sleep when nothing is due: a day, only so that there is a number.
const IDLE: Duration = Duration::from_hours(24);

/// A running client. Dropping it ends the session without a goodbye; [`Client::stop`] says one.
#[derive(Debug)]
pub struct Client {
    control: mpsc::Sender<Control>,
    task: JoinHandle<()>,
}

enum Control {
    Subscribe(ChannelName),
    Unsubscribe(ChannelName),
    Stop,
}

impl Client {
    /// Starts a session whose events come through a bounded channel. Must be called within a tokio runtime.
    pub fn start(config: Config) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = mpsc::channel(config.events.max(1));
        (Self::start_with(config, events, NoTap), receiver)
    }

    /// Starts a session with its own ends for events and raw frames.
    pub fn start_with(config: Config, deliver: impl Deliver, tap: impl Tap) -> Self {
        let (control, orders) = mpsc::channel(limits::CONTROLS);
        let driver = Driver::new(config, deliver, tap);
        let task = tokio::spawn(driver.run(orders));
        Self { control, task }
    }

    /// Follows one more channel; `Event::Subscribed` confirms it.
    pub async fn subscribe(&self, channel: ChannelName) {
        // A session that has ended follows nothing; its end was an event.
        let _ = self.control.send(Control::Subscribe(channel)).await;
    }

    /// Follows one channel less.
    pub async fn unsubscribe(&self, channel: ChannelName) {
        let _ = self.control.send(Control::Unsubscribe(channel)).await;
    }

    /// Acknowledges what was delivered, closes, and waits for the end.
    pub async fn stop(mut self) {
        let _ = self.control.send(Control::Stop).await;
        // An error means that the task panicked or was aborted: then it has ended, too.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Dial = Pin<Box<dyn Future<Output = Result<Box<Socket>, Ended>> + Send>>;

struct Driver<D, T> {
    config: Config,
    session: Session,
    origin: Instant,
    url: usize,
    /// At most the live connection and the next one.
    links: Vec<(LinkId, Box<Socket>)>,
    dial: Option<(LinkId, Dial)>,
    deliver: D,
    tap: T,
}

/// What the task woke up for.
enum Input {
    Frame(LinkId, Option<Result<Message, Error>>),
    Dialed(LinkId, Result<Box<Socket>, Ended>),
    Control(Option<Control>),
    Due,
}

impl<D: Deliver, T: Tap> Driver<D, T> {
    fn new(config: Config, deliver: D, tap: T) -> Self {
        Self {
            session: Session::new(config.resume.clone()),
            url: config.first_url,
            config,
            origin: Instant::now(),
            links: Vec::with_capacity(1),
            dial: None,
            deliver,
            tap,
        }
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Control>) {
        let mut queue = VecDeque::new();
        let mut out = Vec::new();
        let mut armed = self.origin;
        let mut timer = Box::pin(sleep_until(armed));
        let mut frames = 0_u32;
        loop {
            // The timer is only ever moved nearer: with every frame the next beat moves away, and re-arming for each
            // would cost more than waking up once too early.
            let due = self.origin + self.session.next_wake().unwrap_or(IDLE);
            if due < armed || timer.is_elapsed() {
                armed = due;
                timer.as_mut().reset(due);
            }
            let input = poll_fn(|cx| self.poll_input(cx, &mut orders, timer.as_mut())).await;
            frames = if matches!(input, Input::Frame(..)) {
                frames + 1
            } else {
                0
            };
            if self.take(input, &mut out).is_break() {
                return;
            }
            loop {
                queue.extend(out.drain(..));
                let Some(command) = queue.pop_front() else {
                    break;
                };
                if self.carry_out(command, &mut out).await.is_break() {
                    return;
                }
            }
            if self.session.is_stopped() {
                return;
            }
            if frames >= limits::FRAMES_PER_TURN {
                frames = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Frames come before time: a client that was held up must not take its own delay for the server's silence.
    fn poll_input(
        &mut self,
        cx: &mut Context<'_>,
        orders: &mut mpsc::Receiver<Control>,
        timer: Pin<&mut Sleep>,
    ) -> Poll<Input> {
        if let Poll::Ready(control) = orders.poll_recv(cx) {
            return Poll::Ready(Input::Control(control));
        }
        for (id, socket) in self.links.iter_mut().rev() {
            if let Poll::Ready(frame) = Pin::new(socket).poll_next(cx) {
                return Poll::Ready(Input::Frame(*id, frame));
            }
        }
        if let Some((id, dial)) = &mut self.dial
            && let Poll::Ready(result) = dial.as_mut().poll(cx)
        {
            return Poll::Ready(Input::Dialed(*id, result));
        }
        timer.poll(cx).map(|()| Input::Due)
    }

    fn step(&self) -> Step {
        Step {
            now: self.origin.elapsed(),
            random: rand::random(),
        }
    }

    fn take(&mut self, input: Input, out: &mut Vec<Command>) -> ControlFlow<()> {
        let step = self.step();
        match input {
            Input::Frame(id, frame) => self.frame(id, frame, step, out),
            Input::Dialed(id, result) => {
                self.dial = None;
                match result {
                    Ok(socket) => self.links.push((id, socket)),
                    Err(reason) => {
                        tracing::debug!(link = id, %reason, "connection not opened");
                        self.session.ended(id, reason, step, out);
                    }
                }
            }
            Input::Control(Some(Control::Subscribe(c))) => self.session.subscribe(&c, out),
            Input::Control(Some(Control::Unsubscribe(c))) => self.session.unsubscribe(&c, out),
            Input::Control(Some(Control::Stop)) => self.session.stop(out),
            Input::Control(None) => return ControlFlow::Break(()),
            Input::Due => {}
        }
        if self.session.next_wake().is_some_and(|at| step.now >= at) {
            self.session.wake(step, out);
        }
        ControlFlow::Continue(())
    }

    fn frame(
        &mut self,
        id: LinkId,
        frame: Option<Result<Message, Error>>,
        step: Step,
        out: &mut Vec<Command>,
    ) {
        let ended = match frame {
            Some(Ok(Message::Text(text))) => match ServerMessage::parse(text.as_str()) {
                Ok(message) => {
                    self.tap.frame(id, &message, text.len());
                    let bytes = text.len() as u32;
                    return self.session.frame(id, message, bytes, step, out);
                }
                Err(FrameError::UnknownType(_)) => return self.session.heard(id, step.now),
                Err(error) => Ended::Failed(error.to_string()),
            },
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(CloseCode::Normal, |f| CloseCode::from(u16::from(f.code)));
                Ended::Closed(code)
            }
            Some(Ok(Message::Binary(_))) => Ended::Failed("a binary frame came".into()),
            Some(Ok(_)) => return self.session.heard(id, step.now),
            Some(Err(error)) => Ended::Failed(error.to_string()),
            None => Ended::Closed(CloseCode::Abnormal),
        };
        tracing::debug!(link = id, reason = %ended, "connection ended");
        if let (Some(socket), Ended::Closed(code)) = (self.forget(id), &ended)
            && *code != CloseCode::Abnormal
        {
            // The answer to a Close frame is queued in the socket and must still leave.
            tokio::spawn(farewell(socket, None));
        }
        self.session.ended(id, ended, step, out);
    }

    async fn carry_out(&mut self, command: Command, out: &mut Vec<Command>) -> ControlFlow<()> {
        match command {
            Command::Open(open) => self.open(open, out),
            Command::Close { link, code } => {
                if let Some(socket) = self.forget(link) {
                    let last = farewell(socket, Some(code));
                    if self.session.is_stopped() {
                        last.await;
                    } else {
                        tokio::spawn(last);
                    }
                }
            }
            Command::Send { link, message } => {
                if let Err(reason) = self.send(link, &message).await {
                    self.forget(link);
                    self.session.ended(link, reason, self.step(), out);
                }
            }
            Command::Emit(event) => {
                if !self.deliver.deliver(event).await {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn open(&mut self, open: Open, out: &mut Vec<Command>) {
        let known = self.config.urls.borrow();
        let turn = known.get(self.url % known.len().max(1)).cloned();
        drop(known);
        let Some(url) = open.url.or(turn) else {
            let reason = Ended::Failed("no base URL is known".into());
            self.session.ended(open.link, reason, self.step(), out);
            return;
        };
        // The next attempt goes elsewhere, whether this one fails or the server asks to move.
        self.url = self.url.wrapping_add(1);
        let attempt = Attempt {
            url,
            query: open.query,
            credentials: self.config.credentials.clone(),
            source: self.config.source,
        };
        self.dial = Some((open.link, Box::pin(dial(attempt))));
    }

    async fn send(&mut self, link: LinkId, message: &ClientMessage) -> Result<(), Ended> {
        let Some((_, socket)) = self.links.iter_mut().find(|(id, _)| *id == link) else {
            return Ok(());
        };
        let sent = timeout(
            limits::WRITE_TIMEOUT,
            socket.send(Message::text(message.encode())),
        );
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::Failed(format!("write: {error}"))),
            Err(_) => Err(Ended::Failed("write: the socket took nothing".into())),
        }
    }

    /// Takes a connection, open or being opened, out of the driver's hands.
    fn forget(&mut self, link: LinkId) -> Option<Box<Socket>> {
        self.dial.take_if(|(id, _)| *id == link);
        let at = self.links.iter().position(|(id, _)| *id == link)?;
        Some(self.links.swap_remove(at).1)
    }
}

/// Says goodbye and reads until the other end is done, so that no reset destroys what is under way.
async fn farewell(mut socket: Box<Socket>, code: Option<CloseCode>) {
    let frame = code.map(|code| CloseFrame {
        code: code.code().into(),
        reason: code.reason().into(),
    });
    let goodbye = async {
        // Errors mean that the other end is gone already.
        if (*socket).close(frame).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(limits::CLOSE_TIMEOUT, goodbye).await;
}
