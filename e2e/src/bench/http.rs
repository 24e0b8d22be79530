//! Effects (one socket): requests to publish and admin ports over one kept connection, without a runtime beside the load's loop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};

use super::limits;

/// Bytes read at once.
const CHUNK: usize = 64 * 1024;

/// A kept connection.
#[derive(Debug)]
pub struct Http {
    stream: TcpStream,
    pending: bool,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(limits::REQUEST_WITHIN))?;
        Ok(Self {
            stream,
            pending: false,
        })
    }

    /// GET; the body of a 200.
    ///
    /// # Errors
    /// For every other status.
    pub fn get(&mut self, path: &str) -> Result<String> {
        ensure!(!self.pending, "an answer was not taken");
        write!(
            self.stream,
            "GET {path} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n\r\n"
        )?;
        let (status, body) = self.answer()?;
        ensure!(status == 200, "GET {path} answered {status}: {body}");
        Ok(body)
    }

    /// Sends a POST whose answer is taken with [`Self::finish`].
    ///
    /// # Errors
    /// When the socket fails.
    pub fn post(&mut self, path: &str, body: &str) -> Result<()> {
        ensure!(!self.pending, "an answer was not taken");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        self.pending = true;
        Ok(())
    }

    /// Waits for the answer to the last POST, if one is due.
    ///
    /// # Errors
    /// When it is no success.
    pub fn finish(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.pending) {
            return Ok(());
        }
        let (status, body) = self.answer()?;
        ensure!(status == 200, "a POST was answered with {status}: {body}");
        Ok(())
    }

    fn answer(&mut self) -> Result<(u16, String)> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            if let Some(answer) = parse(&bytes)? {
                return Ok(answer);
            }
            let read = self.stream.read(&mut chunk).context("reading an answer")?;
            ensure!(read > 0, "the server closed the connection");
            bytes.extend_from_slice(&chunk[..read]);
        }
    }
}

/// Status and body once all of it is there.
fn parse(bytes: &[u8]) -> Result<Option<(u16, String)>> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..end])?.to_ascii_lowercase();
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let Some(length) = length else {
        bail!("an answer without a length");
    };
    let length: usize = length.trim().parse()?;
    let body = &bytes[end + 4..];
    if body.len() < length {
        return Ok(None);
    }
    Ok(Some((
        status,
        String::from_utf8_lossy(&body[..length]).into_owned(),
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn an_answer_counts_once_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for end in 0..whole.len() {
            assert_eq!(super::parse(&whole[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(
            super::parse(whole).unwrap(),
            Some((200, "hello".to_owned()))
        );
        assert!(super::parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
