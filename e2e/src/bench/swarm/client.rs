//! Pure (bytes in, bytes out): one client of the load: its handshake, what it counts, what it acknowledges.

use super::frames::{self, BINARY, CLOSE, PING, PONG, TEXT};

/// Messages after which a client acknowledges: half of the default window.
const ACK_MESSAGES: u32 = 128;

/// Bytes after which a client acknowledges: half of the default window.
const ACK_BYTES: u32 = 128 * 1024;

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `sluice.v1.json`: ready when welcomed and subscribed; acknowledges.
    Sluice,
    /// Sluice's messages without a welcome: the floor. Acknowledges all the same.
    Floor,
    /// Every data frame is a message.
    Plain,
    /// The NATS protocol in binary frames, subscribed to one subject.
    Nats,
}

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for the 101.
    Upgrading,
    /// Waits for the server's greeting.
    Greeting,
    /// Receives.
    Ready,
    /// The server said goodbye, or answered something else than 101.
    Over,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Where it stands.
    pub phase: Phase,
    /// Bytes of a frame that is not whole yet.
    pub input: Vec<u8>,
    /// Bytes that the socket did not take yet.
    pub output: Vec<u8>,
    /// Messages received.
    pub received: u32,
    subscribed: u8,
    unacked: u32,
    unacked_bytes: u32,
}

/// What one piece of input brought.
#[derive(Debug, Default)]
pub struct News {
    /// Messages.
    pub messages: u32,
    /// Gap notices.
    pub gaps: u32,
    /// Answers to pings.
    pub pongs: u32,
    /// True when it got ready just now.
    pub ready: bool,
    /// The resume token of a welcome.
    pub resume: Option<String>,
    /// What a refusal said.
    pub refused: Option<String>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            phase: Phase::Upgrading,
            input: Vec::new(),
            output: Vec::new(),
            received: 0,
            subscribed: 0,
            unacked: 0,
            unacked_bytes: 0,
        }
    }
}

impl Client {
    /// Takes what was read. `channels` is how many subscriptions make it ready.
    pub fn take(&mut self, dialect: Dialect, channels: u8, bytes: &[u8]) -> News {
        let mut news = News::default();
        if self.input.is_empty() {
            let used = self.consume(dialect, channels, bytes, &mut news);
            self.input.extend_from_slice(&bytes[used..]);
        } else {
            let mut input = std::mem::take(&mut self.input);
            input.extend_from_slice(bytes);
            let used = self.consume(dialect, channels, &input, &mut news);
            if used < input.len() {
                input.drain(..used);
                self.input = input;
            }
        }
        self.acknowledge(dialect);
        news
    }

    fn consume(&mut self, dialect: Dialect, channels: u8, bytes: &[u8], news: &mut News) -> usize {
        let mut at = 0;
        if self.phase == Phase::Upgrading {
            let Some(end) = frames::http_end(bytes) else {
                return 0;
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                self.phase = Phase::Over;
                news.refused = Some(String::from_utf8_lossy(bytes).into_owned());
                return bytes.len();
            }
            at = end;
            self.phase = match dialect {
                Dialect::Sluice | Dialect::Nats => Phase::Greeting,
                Dialect::Floor | Dialect::Plain => Phase::Ready,
            };
            news.ready = self.phase == Phase::Ready;
        }
        while let Some(frame) = frames::first(&bytes[at..]) {
            let payload = &bytes[at + frame.start..at + frame.end];
            at += frame.end;
            match frame.opcode {
                TEXT | BINARY => self.data(dialect, channels, payload, news),
                PING => frames::client_frame(&mut self.output, PONG, payload),
                CLOSE => {
                    frames::client_frame(&mut self.output, CLOSE, payload);
                    self.phase = Phase::Over;
                }
                _ => {}
            }
        }
        at
    }

    fn data(&mut self, dialect: Dialect, channels: u8, payload: &[u8], news: &mut News) {
        let is = |start: &[u8]| payload.starts_with(start);
        let message = match dialect {
            Dialect::Sluice | Dialect::Floor => is(b"{\"type\":\"message\""),
            Dialect::Plain => true,
            Dialect::Nats => false,
        };
        if message {
            self.received += 1;
            self.unacked += 1;
            self.unacked_bytes = self.unacked_bytes.saturating_add(payload.len() as u32);
            news.messages += 1;
        } else if dialect == Dialect::Nats {
            self.nats(payload, news);
        } else if is(b"{\"type\":\"pong\"") {
            news.pongs += 1;
        } else if is(b"{\"type\":\"gap\"") {
            news.gaps += 1;
        } else if is(b"{\"type\":\"welcome\"") {
            news.resume = field(payload, "\"resume_token\":\"");
            self.send(b"{\"type\":\"ack\",\"seq\":0}");
        } else if is(b"{\"type\":\"subscribed\"") {
            self.subscribed += 1;
            if self.phase == Phase::Greeting && self.subscribed >= channels {
                self.phase = Phase::Ready;
                news.ready = true;
            }
        } else if is(b"{\"type\":\"error\"") {
            news.refused = Some(String::from_utf8_lossy(payload).into_owned());
        }
    }

    /// One frame may hold several of the protocol's lines, and messages with what they carry.
    fn nats(&mut self, mut payload: &[u8], news: &mut News) {
        while let Some(end) = payload.windows(2).position(|w| w == b"\r\n") {
            let line = &payload[..end];
            payload = &payload[end + 2..];
            if line.starts_with(b"MSG ") {
                self.received += 1;
                news.messages += 1;
                let length = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
                let length = std::str::from_utf8(length).unwrap_or_default();
                let carried = length.parse::<usize>().unwrap_or(0) + 2;
                payload = payload.get(carried..).unwrap_or_default();
            } else if line.starts_with(b"INFO ")
                && self.phase == Phase::Greeting
                && self.subscribed == 0
            {
                self.subscribed = 1;
                let hello = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"protocol\":1}\r\nSUB news 1\r\nPING\r\n";
                frames::client_frame(&mut self.output, BINARY, hello);
            } else if line == b"PONG" {
                news.ready = self.phase == Phase::Greeting;
                self.phase = Phase::Ready;
            } else if line == b"PING" {
                frames::client_frame(&mut self.output, BINARY, b"PONG\r\n");
            }
        }
    }

    fn acknowledge(&mut self, dialect: Dialect) {
        let due = self.unacked >= ACK_MESSAGES || self.unacked_bytes >= ACK_BYTES;
        if due && matches!(dialect, Dialect::Sluice | Dialect::Floor) {
            (self.unacked, self.unacked_bytes) = (0, 0);
            // The messages of a connection are numbered from 1.
            let ack = format!("{{\"type\":\"ack\",\"seq\":{}}}", self.received);
            self.send(ack.as_bytes());
        }
    }

    /// Queues a text frame.
    pub fn send(&mut self, text: &[u8]) {
        frames::client_frame(&mut self.output, TEXT, text);
    }
}

/// The text after `key` up to the next quote.
fn field(payload: &[u8], key: &str) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let rest = &text[text.find(key)? + key.len()..];
    rest.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &str) -> Vec<u8> {
        let (head, size) = frames::server_head(TEXT, text.len());
        [&head[..size], text.as_bytes()].concat()
    }

    #[test]
    fn it_is_ready_when_welcomed_and_subscribed_however_the_bytes_are_cut() {
        let whole = [
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec(),
            frame("{\"type\":\"welcome\",\"resume_token\":\"r.1\"}"),
            frame("{\"type\":\"subscribed\",\"channel\":\"a\"}"),
            frame("{\"type\":\"subscribed\",\"channel\":\"b\"}"),
            frame("{\"type\":\"message\",\"seq\":1}"),
        ]
        .concat();
        for cut in 0..=whole.len() {
            let mut client = Client::default();
            let first = client.take(Dialect::Sluice, 2, &whole[..cut]);
            let second = client.take(Dialect::Sluice, 2, &whole[cut..]);
            assert!(first.ready || second.ready, "{cut}");
            assert_eq!(first.resume.or(second.resume).as_deref(), Some("r.1"));
            assert_eq!((client.received, client.phase), (1, Phase::Ready));
            assert!(client.input.is_empty() && !client.output.is_empty());
        }
    }

    #[test]
    fn half_a_window_is_acknowledged() {
        let mut client = Client {
            phase: Phase::Ready,
            ..Client::default()
        };
        let message = frame("{\"type\":\"message\",\"seq\":1}");
        for _ in 1..ACK_MESSAGES {
            client.take(Dialect::Floor, 0, &message);
        }
        assert!(client.output.is_empty());
        client.take(Dialect::Floor, 0, &message);
        assert!(!client.output.is_empty());
    }

    #[test]
    fn one_nats_frame_may_hold_a_ping_and_messages() {
        let mut client = Client {
            phase: Phase::Ready,
            ..Client::default()
        };
        let text = "PING\r\nMSG news 1 4\r\n\r\nab\r\nMSG news 1 2\r\ncd\r\n";
        let news = client.take(Dialect::Nats, 0, &frame(text));
        assert_eq!((news.messages, client.received), (2, 2));
        assert!(!client.output.is_empty());
    }

    #[test]
    fn a_refusal_is_kept_for_the_reader() {
        let mut client = Client::default();
        let news = client.take(
            Dialect::Sluice,
            2,
            b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}",
        );
        assert!(news.refused.is_some());
        assert_eq!(client.phase, Phase::Over);
    }
}
