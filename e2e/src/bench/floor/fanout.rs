//! Effects (sockets): the floor of delivery: one thread, and per broadcast one `writev` of frame head, prefix and shared suffix on
//! every socket. It reads what clients send and answers their pings, so that its idle cost is the kernel's, and keeps nothing else.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use sluice_protocol::{ChannelName, Epoch, Offset, Seq, message_prefix, message_suffix};
use socket2::SockRef;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::bench::swarm::frames::{self, TEXT};

/// Tags of the two listeners and of the one who gives orders; peers come after them.
const CLIENTS: u64 = 0;
const ORDERS: u64 = 1;
const CHIEF: u64 = 2;
const FIRST_PEER: u64 = 3;

/// Events taken at once.
const EVENTS: usize = 1024;

/// Bytes read at once.
const SCRATCH: usize = 64 * 1024;

/// Send buffer, bytes, as the gateway's sockets have.
const SEND_BUFFER: usize = 16 * 1024;

/// What a ping is answered with.
const PONG: &[u8] = b"{\"type\":\"pong\",\"id\":1,\"time\":1767225600000}";

struct Peer {
    stream: TcpStream,
    upgraded: bool,
    seq: Seq,
}

struct Floor {
    epoll: Epoll,
    peers: Vec<Option<Peer>>,
    scratch: Vec<u8>,
    /// The frame that every ping is answered with.
    pong: Vec<u8>,
}

/// Serves until the one who gives orders is gone.
pub(super) fn serve(clients: SocketAddr, orders: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(clients)?;
    // The backlog of the standard library is 128; newcomers come faster.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096)?)?;
    listener.set_nonblocking(true)?;
    let orders = TcpListener::bind(orders)?;
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let readable = |tag| EpollEvent::new(EpollFlags::EPOLLIN, tag);
    epoll.add(&listener, readable(CLIENTS))?;
    epoll.add(&orders, readable(ORDERS))?;
    let (head, size) = frames::server_head(TEXT, PONG.len());
    let mut floor = Floor {
        epoll,
        peers: Vec::new(),
        scratch: vec![0; SCRATCH],
        pong: [&head[..size], PONG].concat(),
    };
    let mut chief: Option<TcpStream> = None;
    let mut offset = 0;
    let mut events = [EpollEvent::empty(); EVENTS];
    loop {
        let count = floor.epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in &events[..count] {
            match event.data() {
                CLIENTS => floor.accept(&listener)?,
                ORDERS => {
                    let (stream, _) = orders.accept()?;
                    floor.epoll.add(&stream, readable(CHIEF))?;
                    chief = Some(stream);
                }
                CHIEF => {
                    let Some(stream) = &mut chief else { continue };
                    for length in read_orders(stream)? {
                        offset += 1;
                        floor.broadcast(length, offset)?;
                    }
                }
                peer => floor.hear((peer - FIRST_PEER) as usize)?,
            }
        }
    }
}

/// Orders are lengths of data, one per line.
fn read_orders(stream: &mut TcpStream) -> Result<Vec<usize>> {
    let mut bytes = [0; 256];
    let read = stream.read(&mut bytes)?;
    if read == 0 {
        bail!("no more orders");
    }
    let text = std::str::from_utf8(&bytes[..read])?;
    text.lines()
        .map(|line| line.parse().context("an order"))
        .collect()
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER)?;
            let tag = self.peers.len() as u64 + FIRST_PEER;
            self.epoll
                .add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, tag))?;
            self.peers.push(Some(Peer {
                stream,
                upgraded: false,
                seq: Seq::START,
            }));
        }
    }

    /// The load sends its request and its frames in one piece each, so that nothing has to be put together here.
    fn hear(&mut self, index: usize) -> Result<()> {
        let Some(peer) = self.peers.get_mut(index).and_then(Option::as_mut) else {
            return Ok(());
        };
        let Ok(read @ 1..) = peer.stream.read(&mut self.scratch) else {
            self.peers[index] = None;
            return Ok(());
        };
        let bytes = &self.scratch[..read];
        if !peer.upgraded {
            peer.upgraded = true;
            return upgrade(&mut peer.stream, bytes);
        }
        let mut at = 0;
        while let Some(frame) = frames::first(&bytes[at..]) {
            let payload = &bytes[at + frame.start..at + frame.end];
            at += frame.end;
            let mask = frame.mask.unwrap_or_default();
            let ping = b"{\"type\":\"ping\"";
            let same = |((a, m), b): ((&u8, &u8), &u8)| a ^ m == *b;
            if payload.len() > ping.len()
                && payload.iter().zip(mask.iter().cycle()).zip(ping).all(same)
            {
                peer.stream.write_all(&self.pong)?;
            }
        }
        Ok(())
    }

    fn broadcast(&mut self, length: usize, offset: u64) -> Result<()> {
        let channel = ChannelName::new("news")?;
        let epoch = Epoch::new("m-0123456789ab")?;
        let data = super::super::subject::data(length);
        let time = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)?
            .as_millis() as u64;
        let suffix = message_suffix(&channel, &epoch, Offset::new(offset)?, time, &data);
        for peer in self.peers.iter_mut().flatten() {
            peer.seq = peer.seq.next();
            let prefix = message_prefix(peer.seq);
            let whole = prefix.as_bytes().len() + suffix.len();
            let (head, size) = frames::server_head(TEXT, whole);
            let parts = [
                IoSlice::new(&head[..size]),
                IoSlice::new(prefix.as_bytes()),
                IoSlice::new(suffix.as_bytes()),
            ];
            // The socket blocks, so that all of it goes; a peer that is gone says so when it is read.
            let _ = peer.stream.write_vectored(&parts);
        }
        Ok(())
    }
}

fn upgrade(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(request)?;
    let key = text
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .context("a request without a key")?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    Ok(stream.write_all(answer.as_bytes())?)
}
