//! Effects (sockets): a client of bare TCP that does what a case says and watches what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::case::{Case, Step};
use super::opening::{self, ACCEPT, Answer, Opening};
use super::wire::{NO_CODE, Said, close, question, read, text};

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Number of the question that shows that a connection still works.
const STILL_THERE: u64 = 9_000_000;

/// What went wrong, for a person.
type Verdict<T = ()> = Result<T, String>;

/// An end of a TCP connection to the gateway.
pub struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

/// The answer to a request, without its body.
struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn all(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(header, _)| header == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

impl Peer {
    pub async fn connect(address: SocketAddr) -> Verdict<Self> {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|e| format!("connect: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            received: Vec::new(),
        })
    }

    /// A connection that is upgraded and has read its welcome.
    pub async fn welcomed(address: SocketAddr) -> Verdict<Self> {
        let mut peer = Self::connect(address).await?;
        peer.send(&opening::request("GET /v1/connect?user=ann HTTP/1.1", &[]))
            .await?;
        let head = peer.head().await?.ok_or("ended instead of an answer")?;
        check_upgrade(&head, None)?;
        peer.read_welcome().await?;
        Ok(peer)
    }

    pub async fn send(&mut self, bytes: &[u8]) -> Verdict {
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await;
        sent.map_err(|_| "the gateway takes no bytes".to_owned())?
            .map_err(|e| format!("write: {e}"))
    }

    /// More bytes; false at the end.
    async fn more(&mut self) -> Verdict<bool> {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
        read.map_err(|_| "nothing came".to_owned())?
            .map(|bytes| bytes > 0)
            .map_err(|e| format!("read: {e}"))
    }

    /// The head of an HTTP answer; `None` when the connection ends without one.
    async fn head(&mut self) -> Verdict<Option<Head>> {
        let end = loop {
            let found = self
                .received
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = found {
                break end;
            }
            // A server that refuses by closing may do so with a reset.
            match self.more().await {
                Ok(true) => {}
                Ok(false) if self.received.is_empty() => return Ok(None),
                Err(error) if self.received.is_empty() && error.starts_with("read:") => {
                    return Ok(None);
                }
                Ok(false) => return Err("the answer's head is cut".into()),
                Err(error) => return Err(error),
            }
        };
        let head: Vec<u8> = self.received.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|e| e.to_string())?;
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .or(first.strip_prefix("HTTP/1.0 "));
        let status = status.and_then(|rest| rest.get(..3)?.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(':'));
        Ok(Some(Head {
            status: status.ok_or_else(|| format!("no status line: {first}"))?,
            headers: headers
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
        }))
    }

    /// The next frame; `None` at the end.
    async fn next(&mut self) -> Verdict<Option<Said>> {
        loop {
            if let Some((said, length)) = read(&self.received)? {
                self.received.drain(..length);
                return Ok(Some(said));
            }
            if !self.more().await? {
                return if self.received.is_empty() {
                    Ok(None)
                } else {
                    Err("a frame is cut".into())
                };
            }
        }
    }

    async fn read_welcome(&mut self) -> Verdict {
        for kind in ["welcome", "subscribed"] {
            match self.next().await? {
                Some(Said::Text(text)) if text.contains(&format!("\"type\":\"{kind}\"")) => {}
                other => return Err(format!("{other:?} instead of {kind}")),
            }
        }
        Ok(())
    }

    pub async fn step(&mut self, step: &Step) -> Verdict {
        match step {
            Step::Send(bytes) => self.send(bytes).await,
            Step::Slowly(bytes) => {
                for byte in bytes {
                    self.send(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            Step::Fin => self
                .stream
                .shutdown()
                .await
                .map_err(|e| format!("shutdown: {e}")),
            Step::Reset => self
                .stream
                .set_zero_linger()
                .map_err(|e| format!("linger: {e}")),
            Step::Pong(payload) => match self.next().await? {
                Some(Said::Pong(got)) if got == *payload => Ok(()),
                other => Err(format!("{other:?} instead of a Pong with {payload:?}")),
            },
            Step::Pongs(payloads) => self.pongs(payloads).await,
            Step::Answer(id, reference) => {
                check_answer(self.next().await?.as_ref(), *id, reference)
            }
            Step::Close(codes) => {
                let said = self.next().await?;
                self.check_close(said, codes).await
            }
            Step::AnswerOrClose(id, codes) => match self.next().await? {
                said @ Some(Said::Text(_)) => check_answer(said.as_ref(), *id, ""),
                said => self.check_close(said, codes).await,
            },
            Step::End => match self.next().await? {
                None => Ok(()),
                other => Err(format!("{other:?} instead of the end")),
            },
        }
    }

    /// Pongs for some of the payloads, in order, until the last one's.
    async fn pongs(&mut self, payloads: &[Vec<u8>]) -> Verdict {
        let mut expected = payloads.iter();
        loop {
            let Some(Said::Pong(got)) = self.next().await? else {
                return Err("no Pong".into());
            };
            if !expected.any(|payload| *payload == got) {
                return Err(format!("a Pong with {got:?} out of order"));
            }
            if payloads.last() == Some(&got) {
                return Ok(());
            }
        }
    }

    async fn check_close(&mut self, said: Option<Said>, codes: &[u16]) -> Verdict {
        let said = match said {
            Some(Said::Text(text)) if text.contains("\"type\":\"error\"") => self.next().await?,
            other => other,
        };
        match said {
            Some(Said::Close(code, _)) if codes.contains(&code) => Ok(()),
            other => Err(format!("{other:?} instead of a Close with {codes:?}")),
        }
    }

    /// Asks, and closes in order.
    async fn still_works(&mut self) -> Verdict {
        self.send(&text(question(STILL_THERE, "")).bytes()).await?;
        check_answer(self.next().await?.as_ref(), STILL_THERE, "")?;
        self.send(&close(1000, b"").bytes()).await?;
        self.step(&Step::Close(&[1000])).await?;
        self.step(&Step::End).await
    }
}

/// Runs a case to its end.
pub async fn run(address: SocketAddr, case: &Case) -> Verdict {
    let mut peer = Peer::welcomed(address).await?;
    let mut failed = false;
    for (number, step) in case.steps.iter().enumerate() {
        let done = peer.step(step).await;
        done.map_err(|error| format!("step {}: {error}", number + 1))?;
        failed |= matches!(step, Step::AnswerOrClose(..));
    }
    match case.steps.last() {
        Some(Step::End | Step::Reset) => Ok(()),
        // Whichever way it went, the connection is in a defined state; the answer's way is tried by other cases.
        _ if failed => Ok(()),
        _ => peer
            .still_works()
            .await
            .map_err(|error| format!("afterwards: {error}")),
    }
}

/// Runs an opening handshake.
pub async fn open(address: SocketAddr, opening: &Opening) -> Verdict {
    let mut peer = Peer::connect(address).await?;
    let written = if opening.slowly {
        peer.step(&Step::Slowly(opening.request.clone())).await
    } else {
        peer.send(&opening.request).await
    };
    // A server may refuse before it has read everything.
    if !matches!(opening.answer, Answer::RefusedOrEnded(_)) {
        written?;
    } else if !opening.request.ends_with(b"\r\n\r\n") {
        let _ = peer.stream.shutdown().await;
    }
    let head = peer.head().await?;
    match (opening.answer, head) {
        (Answer::RefusedOrEnded(_), None) => Ok(()),
        (_, None) => Err("ended without an answer".into()),
        (Answer::Upgraded(subprotocol), Some(head)) => peer.upgraded(&head, subprotocol).await,
        (Answer::UpgradedOrRefused(_), Some(head)) if head.status == 101 => {
            peer.upgraded(&head, None).await
        }
        (
            Answer::Refused(statuses)
            | Answer::UpgradedOrRefused(statuses)
            | Answer::RefusedOrEnded(statuses),
            Some(head),
        ) => check_refusal(&head, statuses),
    }
}

impl Peer {
    async fn upgraded(&mut self, head: &Head, subprotocol: Option<&str>) -> Verdict {
        check_upgrade(head, subprotocol)?;
        self.read_welcome().await?;
        self.still_works().await
    }
}

fn check_upgrade(head: &Head, subprotocol: Option<&str>) -> Verdict {
    if head.status != 101 {
        return Err(format!("status {} instead of 101", head.status));
    }
    for (name, value) in [("upgrade", "websocket"), ("connection", "upgrade")] {
        if !head
            .all(name)
            .iter()
            .any(|got| got.eq_ignore_ascii_case(value))
        {
            return Err(format!("4.2.2: {name} is {:?}", head.all(name)));
        }
    }
    if head.all("sec-websocket-accept") != [ACCEPT] {
        return Err(format!(
            "4.2.2: Accept is {:?}",
            head.all("sec-websocket-accept")
        ));
    }
    if head.all("sec-websocket-protocol") != subprotocol.into_iter().collect::<Vec<_>>() {
        return Err(format!(
            "4.2.2: Protocol is {:?}",
            head.all("sec-websocket-protocol")
        ));
    }
    if !head.all("sec-websocket-extensions").is_empty() {
        return Err("9.1: an extension that was not offered".into());
    }
    Ok(())
}

fn check_refusal(head: &Head, statuses: &[u16]) -> Verdict {
    if !statuses.contains(&head.status) {
        return Err(format!("status {} instead of {statuses:?}", head.status));
    }
    if head.status == 426 && head.all("sec-websocket-version") != ["13"] {
        return Err(format!(
            "4.4: Version is {:?}",
            head.all("sec-websocket-version")
        ));
    }
    Ok(())
}

fn check_answer(said: Option<&Said>, id: u64, reference: &str) -> Verdict {
    let Some(Said::Text(text)) = said else {
        return Err(format!("{} instead of answer {id}", describe(said)));
    };
    let json: Value = serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))?;
    let right = json["type"] == "pong"
        && json["id"] == id
        && json["ref"].as_str().unwrap_or_default() == reference;
    if right {
        Ok(())
    } else {
        Err(format!("{text} instead of answer {id} {reference}"))
    }
}

fn describe(said: Option<&Said>) -> String {
    match said {
        None => "the end".into(),
        Some(Said::Close(NO_CODE, _)) => "a Close without a code".into(),
        Some(other) => format!("{other:?}"),
    }
}
