//! Effects (NATS requests): reads stored messages. Batches come from any replica (direct get), which may lag; whether there is
//! anything more is asked of the stream's leader.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::{Client, HeaderMap, Message, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::broker::{StoredMessage, Unavailable};
use crate::limits;

/// Header with the time of publishing, milliseconds since the Unix epoch.
pub(super) const TIME: &str = "Sluice-Time";
/// Header with a repeated or read message's sequence number.
pub(super) const SEQUENCE: &str = "Nats-Sequence";
/// Header of a repeated message with the sequence number of the one before it on its subject.
pub(super) const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
const SUBJECT: &str = "Nats-Subject";
const PENDING: &str = "Nats-Num-Pending";

const END_OF_BATCH: u16 = 204;
const NOT_FOUND: u16 = 404;

/// A message as read, with its subject.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) subject: String,
    pub(super) message: StoredMessage,
}

/// A batch.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<Read>,
    /// Messages on the subject from the first one on, as the answering replica knows.
    pub(super) total: u64,
}

/// Sends reads and sorts their answers: one subscription for all of them.
#[derive(Debug)]
pub(super) struct Reader {
    client: Client,
    stream: String,
    inbox: String,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
}

impl Reader {
    /// Subscribes to an inbox of its own; [`Self::pump`] must run.
    pub(super) async fn new(
        client: Client,
        stream: String,
    ) -> Result<(Self, async_nats::Subscriber), Unavailable> {
        let inbox = client.new_inbox();
        let answers = client
            .subscribe(format!("{inbox}.*"))
            .await
            .map_err(|error| Unavailable(format!("inbox: {error}")))?;
        let waiting = Mutex::default();
        Ok((
            Self {
                client,
                stream,
                inbox,
                next: AtomicU64::new(1),
                waiting,
            },
            answers,
        ))
    }

    /// Hands answers to those who wait for them; ends with the connection.
    pub(super) async fn pump(&self, mut answers: async_nats::Subscriber) {
        while let Some(message) = answers.next().await {
            let id = message
                .subject
                .rsplit_once('.')
                .and_then(|(_, id)| id.parse::<u64>().ok());
            let Some(sender) = id.and_then(|id| self.waiting().get(&id).cloned()) else {
                continue;
            };
            // A reader has room for its whole batch; one that is gone needs nothing.
            let _ = sender.try_send(message);
        }
    }

    /// Reads up to `most` messages from `from` on, on a subject or pattern.
    pub(super) async fn batch(
        &self,
        subject: &str,
        from: u64,
        most: usize,
    ) -> Result<Batch, Unavailable> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answers) = mpsc::channel(most + 1);
        self.waiting().insert(id, sender);
        let _forget = Forget { reader: self, id };
        let request = json!({"seq": from, "next_by_subj": subject, "batch": most, "max_bytes": limits::HISTORY_BATCH_BYTES});
        let target = format!("$JS.API.DIRECT.GET.{}", self.stream);
        let reading = async {
            let reply = format!("{}.{id}", self.inbox);
            let sent = self
                .client
                .publish_with_reply(target, reply, request.to_string().into())
                .await;
            sent.map_err(|error| Unavailable(format!("history: {error}")))?;
            let mut batch = Batch::default();
            while let Some(message) = answers.recv().await {
                match message.status.map(|status| status.as_u16()) {
                    Some(END_OF_BATCH | NOT_FOUND) => return Ok(batch),
                    Some(code) => {
                        let text = message.description.unwrap_or_default();
                        return Err(Unavailable(format!("history: {code} {text}")));
                    }
                    None => {
                        let headers = message.headers.as_ref();
                        if batch.messages.is_empty() {
                            batch.total = headers.and_then(|h| number(h, PENDING)).unwrap_or(0) + 1;
                        }
                        let read =
                            headers.and_then(|headers| read(headers, message.payload.clone()));
                        batch.messages.push(
                            read.ok_or_else(|| Unavailable("history: headers are missing".into()))?,
                        );
                    }
                }
            }
            Err(Unavailable("history: the link ended".into()))
        };
        tokio::time::timeout(limits::BROKER_REQUEST, reading)
            .await
            .unwrap_or_else(|_| Err(Unavailable("history: no answer in time".into())))
    }

    /// Asks the stream's leader for the first message from `from` on.
    pub(super) async fn first(
        &self,
        subject: &str,
        from: u64,
    ) -> Result<Option<Read>, Unavailable> {
        let body = json!({"seq": from, "next_by_subj": subject}).to_string();
        let request = Request::new()
            .payload(body.into())
            .timeout(Some(limits::BROKER_REQUEST));
        let target = format!("$JS.API.STREAM.MSG.GET.{}", self.stream);
        let reply = self.client.send_request(target, request).await;
        let reply = reply.map_err(|error| Unavailable(format!("history: {error}")))?;
        let answer: Answer = serde_json::from_slice(&reply.payload)
            .map_err(|error| Unavailable(format!("history: {error}")))?;
        match (answer.message, answer.error) {
            (Some(message), _) => message
                .read()
                .map(Some)
                .ok_or_else(|| Unavailable("history: not readable".into())),
            (None, Some(error)) if error.err_code == NO_MESSAGE => Ok(None),
            (None, error) => Err(Unavailable(format!(
                "history: {}",
                error.unwrap_or_default().description
            ))),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Forget<'a> {
    reader: &'a Reader,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.reader.waiting().remove(&self.id);
    }
}

/// Error code of JetStream when no message matches.
const NO_MESSAGE: u32 = 10037;

#[derive(Deserialize)]
struct Answer {
    message: Option<Raw>,
    error: Option<Refusal>,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Raw {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: jiff::Timestamp,
}

impl Raw {
    fn read(self) -> Option<Read> {
        let headers = String::from_utf8(STANDARD.decode(self.hdrs).ok()?).ok()?;
        let time = headers.lines().find_map(|line| {
            line.strip_prefix(TIME)?
                .strip_prefix(':')?
                .trim()
                .parse()
                .ok()
        });
        let message = StoredMessage {
            offset: self.seq,
            time: time.unwrap_or(self.time.as_millisecond().max(0) as u64),
            data: STANDARD.decode(self.data).ok()?.into(),
        };
        Some(Read {
            subject: self.subject,
            message,
        })
    }
}

fn read(headers: &HeaderMap, data: Bytes) -> Option<Read> {
    let subject = headers.get(SUBJECT)?.as_str().to_owned();
    let message = StoredMessage {
        offset: number(headers, SEQUENCE)?,
        time: number(headers, TIME).unwrap_or(0),
        data,
    };
    Some(Read { subject, message })
}

/// A header that holds a number.
pub(super) fn number(headers: &HeaderMap, name: &'static str) -> Option<u64> {
    headers.get(name)?.as_str().parse().ok()
}
