//! Effects (sockets, clock): the load: thousands of raw clients on one thread and one epoll, some hundred bytes each.

pub mod client;
pub mod dial;
pub mod frames;
mod leave;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::limits;
use crate::progress;
use client::{Client, Dialect, Phase};
use dial::Dialer;

/// Bytes read at once, for all clients together.
const SCRATCH: usize = 256 * 1024;

/// Events taken at once.
const EVENTS: usize = 1024;

/// How many clients received the n-th message of their connection, and when the last one did.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Clients.
    pub clients: usize,
    /// The last one.
    pub last: Instant,
}

/// What all clients saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Clients that are ready.
    pub ready: usize,
    /// Messages.
    pub messages: u64,
    /// Gap notices.
    pub gaps: u64,
    /// Answers to pings.
    pub pongs: u64,
    /// Connections that the server ended.
    pub ended: usize,
    /// Per number of message within a connection.
    pub arrivals: Vec<Arrival>,
    /// Resume tokens of welcomes, by slot.
    pub resume: Vec<Option<String>>,
    /// What the first refusal said.
    pub refusal: Option<String>,
}

#[derive(Debug)]
struct Slot {
    stream: TcpStream,
    client: Client,
    /// Waits for the socket to take more.
    writing: bool,
    /// Reads nothing.
    stalled: bool,
    /// Is in the tally of those that are ready.
    counted: bool,
}

/// What a swarm's clients speak and ask for.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The server's language.
    pub dialect: Dialect,
    /// Subscriptions that make a client ready.
    pub channels: u8,
    /// The first clients have a small receive buffer, so that they stall soon. What they receive is not in the arrivals.
    pub small_buffers: usize,
    /// Keeps resume tokens.
    pub keep_tokens: bool,
}

impl Manner {
    /// Clients of `dialect` with two channels.
    pub fn of(dialect: Dialect) -> Self {
        Self {
            dialect,
            channels: 2,
            small_buffers: 0,
            keep_tokens: false,
        }
    }
}

/// Many clients of one server.
#[derive(Debug)]
pub struct Swarm {
    epoll: Epoll,
    dialer: Dialer,
    manner: Manner,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    /// What they saw.
    pub tally: Tally,
    /// Slots that got ready since this was last emptied.
    pub got_ready: Vec<usize>,
    /// Slots whose connection ended since this was last emptied.
    pub got_ended: Vec<usize>,
}

impl Swarm {
    /// No client yet.
    ///
    /// # Errors
    /// When the kernel refuses an epoll instance.
    pub fn new(target: SocketAddr, manner: Manner) -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            dialer: Dialer::new(target),
            manner,
            slots: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; SCRATCH],
            tally: Tally::default(),
            got_ready: Vec::new(),
            got_ended: Vec::new(),
        })
    }

    /// Opens one connection and sends its request.
    ///
    /// # Errors
    /// When the server does not listen.
    pub fn dial(&mut self, request: &[u8]) -> Result<usize> {
        let index = self.free.pop().unwrap_or(self.slots.len());
        let mut stream = self.dialer.dial(index < self.manner.small_buffers)?;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        self.epoll.add(&stream, event)?;
        let mut client = Client::default();
        let mut writing = false;
        match stream.write(request) {
            Ok(sent) => client.output.extend_from_slice(&request[sent..]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                client.output.extend_from_slice(request);
            }
            Err(error) => return Err(error).context("sending a request"),
        }
        if !client.output.is_empty() {
            writing = true;
            self.watch(&stream, index, true, true)?;
        }
        let slot = Slot {
            stream,
            client,
            writing,
            stalled: false,
            counted: false,
        };
        if index == self.slots.len() {
            self.slots.push(Some(slot));
        } else {
            self.slots[index] = Some(slot);
        }
        Ok(index)
    }

    /// Opens connections until `count` are ready, a few at a time.
    ///
    /// # Errors
    /// When one is refused, or it takes too long.
    pub fn connect(&mut self, count: usize, request: &dyn Fn(usize) -> Vec<u8>) -> Result<()> {
        let begun = Instant::now();
        let mut told = begun;
        let mut dialled = self.tally.ready;
        while self.tally.ready < count {
            while dialled < count && dialled - self.tally.ready < limits::DIALS_IN_FLIGHT {
                self.dial(&request(dialled))?;
                dialled += 1;
            }
            self.turn(Duration::from_millis(100))?;
            if let Some(refusal) = &self.tally.refusal {
                bail!("a connection was refused: {refusal}");
            }
            let ready = self.tally.ready;
            if told.elapsed() > limits::PROGRESS {
                told = Instant::now();
                progress::note(&format!("  {ready} of {count} connected"));
            }
            let ended = self.tally.ended;
            ensure!(
                ended == 0,
                "the server ended {ended} of {dialled} connections"
            );
            ensure!(
                begun.elapsed() < limits::CONNECT_WITHIN,
                "{ready} of {count} connections within {} s",
                limits::CONNECT_WITHIN.as_secs()
            );
        }
        self.got_ready.clear();
        Ok(())
    }

    /// Waits for the next events, at most for `longest`, and deals with them.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub fn turn(&mut self, longest: Duration) -> Result<()> {
        let mut events = [EpollEvent::empty(); EVENTS];
        let milliseconds = u16::try_from(longest.as_millis()).unwrap_or(u16::MAX);
        let count = match self.epoll.wait(&mut events, milliseconds) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        for event in &events[..count] {
            let index = event.data() as usize;
            if event.events().contains(EpollFlags::EPOLLOUT) {
                self.flush(index)?;
            }
            let gone = event
                .events()
                .intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR);
            let stalled = self.slots[index].as_ref().is_some_and(|s| s.stalled);
            match (gone, stalled) {
                // It reads nothing, so nothing else would tell it.
                (true, true) => self.ended(index),
                _ => self.read(index)?,
            }
        }
        Ok(())
    }

    /// Takes turns until `done`, at most for `within`; says whether it got there.
    ///
    /// # Errors
    /// Those of [`Self::turn`].
    pub fn until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&Tally) -> bool,
    ) -> Result<bool> {
        let begun = Instant::now();
        while !done(&self.tally) {
            if begun.elapsed() > within {
                return Ok(false);
            }
            self.turn(limits::LOOK)?;
        }
        Ok(true)
    }

    /// Takes turns for `time`.
    ///
    /// # Errors
    /// Those of [`Self::turn`].
    pub fn rest(&mut self, time: Duration) -> Result<()> {
        self.until(time, |_| false).map(|_| ())
    }

    fn read(&mut self, index: usize) -> Result<()> {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(slot) = self.slots[index].as_mut().filter(|slot| !slot.stalled) {
            match slot.stream.read(&mut scratch) {
                Ok(0) => {
                    self.ended(index);
                    break;
                }
                Ok(read) => {
                    self.took(index, &scratch[..read])?;
                    if read < scratch.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.ended(index);
                    break;
                }
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    fn took(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(slot) = self.slots[index].as_mut() else {
            return Ok(());
        };
        let before = slot.client.received as usize;
        let news = slot
            .client
            .take(self.manner.dialect, self.manner.channels, bytes);
        let after = slot.client.received as usize;
        let over = slot.client.phase == Phase::Over;
        let due = !slot.client.output.is_empty();
        let tally = &mut self.tally;
        tally.messages += u64::from(news.messages);
        tally.gaps += u64::from(news.gaps);
        tally.pongs += u64::from(news.pongs);
        if after > before && index >= self.manner.small_buffers {
            let last = Instant::now();
            if tally.arrivals.len() < after {
                tally.arrivals.resize(after, Arrival { clients: 0, last });
            }
            for arrival in &mut tally.arrivals[before..after] {
                arrival.clients += 1;
                arrival.last = last;
            }
        }
        if news.ready {
            slot.counted = true;
            tally.ready += 1;
            self.got_ready.push(index);
        }
        if self.manner.keep_tokens && news.resume.is_some() {
            if tally.resume.len() <= index {
                tally.resume.resize(index + 1, None);
            }
            tally.resume[index] = news.resume;
        }
        if tally.refusal.is_none() {
            tally.refusal = news.refused;
        }
        if due {
            self.flush(index)?;
        }
        if over && self.slots[index].is_some() {
            self.ended(index);
        }
        Ok(())
    }

    /// Queues a text frame for one client.
    ///
    /// # Errors
    /// When the kernel's queue fails.
    pub fn send(&mut self, index: usize, text: &[u8]) -> Result<()> {
        if let Some(slot) = self.slots.get_mut(index).and_then(Option::as_mut) {
            slot.client.send(text);
            self.flush(index)?;
        }
        Ok(())
    }

    fn flush(&mut self, index: usize) -> Result<()> {
        let Some(slot) = self.slots[index].as_mut() else {
            return Ok(());
        };
        while !slot.client.output.is_empty() {
            match slot.stream.write(&slot.client.output) {
                Ok(sent) if sent == slot.client.output.len() => slot.client.output = Vec::new(),
                Ok(sent) => drop(slot.client.output.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The read side will say so.
                Err(_) => slot.client.output = Vec::new(),
            }
        }
        let writing = !slot.client.output.is_empty();
        if writing != slot.writing {
            slot.writing = writing;
            let reading = !slot.stalled;
            let Some(slot) = &self.slots[index] else {
                return Ok(());
            };
            self.watch(&slot.stream, index, reading, writing)?;
        }
        Ok(())
    }

    fn watch(&self, stream: &TcpStream, index: usize, reading: bool, writing: bool) -> Result<()> {
        let mut flags = EpollFlags::empty();
        flags.set(EpollFlags::EPOLLIN, reading);
        flags.set(EpollFlags::EPOLLOUT, writing);
        let mut event = EpollEvent::new(flags, index as u64);
        Ok(self.epoll.modify(stream, &mut event)?)
    }

    /// Messages that one client received.
    pub fn received(&self, index: usize) -> usize {
        let slot = self.slots.get(index).and_then(Option::as_ref);
        slot.map_or(0, |slot| slot.client.received as usize)
    }
}
