//! What the scenarios share: gateways on free ports, a raw client, a NATS server.
#![allow(clippy::unwrap_used, clippy::panic, dead_code, missing_docs)]

pub mod nats;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use clap::Parser as _;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use sluice_gateway::Gateway;
use sluice_gateway::broker::Broker;
use sluice_gateway::broker::memory::MemoryBroker;
use sluice_gateway::cli::Cli;
use sluice_gateway::config::Config;
use sluice_protocol::server::Message as Notification;
use sluice_protocol::{ClientMessage, Seq, ServerMessage};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Making one is slow; keeping connections would tie tests' runtimes together.
static HTTP: LazyLock<reqwest::Client> = LazyLock::new(|| {
    reqwest::Client::builder()
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
});

/// Longest wait for anything that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn config(more: &[&str]) -> Config {
    // RUST_LOG shows what a failing scenario did.
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_test_writer()
        .try_init();
    let free = [
        "--client-addr",
        "127.0.0.1:0",
        "--publish-addr",
        "127.0.0.1:0",
        "--admin-addr",
        "127.0.0.1:0",
    ];
    let lag = if more.contains(&"--endpoint-lag-seconds") {
        &[][..]
    } else {
        &["--endpoint-lag-seconds", "0"]
    };
    let all = [&["sluice-gateway", "--dev"], &free[..], lag, more].concat();
    Config::from_cli(&Cli::parse_from(all).serve).unwrap()
}

pub fn memory() -> Arc<MemoryBroker> {
    Arc::new(MemoryBroker::new(config(&[]).broker.history))
}

/// A gateway on its own memory broker.
pub fn alone(more: &[&str]) -> Gateway {
    let config = config(more);
    let broker = Arc::new(MemoryBroker::new(config.broker.history));
    Gateway::start(config, broker).unwrap()
}

/// A gateway of a fleet that shares broker and keys.
pub fn member(broker: Arc<dyn Broker>, more: &[&str]) -> Gateway {
    let mut config = config(more);
    config.keys.resume = b"the fleet's resume key".to_vec();
    Gateway::start(config, broker).unwrap()
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(
        tokio::time::timeout(PATIENCE, waiting).await.is_ok(),
        "never happened: {what}"
    );
}

pub async fn publish(gateway: &Gateway, channel: &str, data: Value) -> Value {
    let body = serde_json::json!({"channel": channel, "data": data});
    post(gateway.addresses().publish, "/v1/publish", &body)
        .await
        .1
}

pub async fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, Value) {
    call(reqwest::Method::POST, address, path, body).await
}

pub async fn call(
    method: reqwest::Method,
    address: SocketAddr,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let request = HTTP
        .request(method, format!("http://{address}{path}"))
        .body(body.to_string());
    let answer = request.send().await.unwrap();
    (
        answer.status().as_u16(),
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null),
    )
}

/// A client that speaks the wire protocol and nothing more.
pub struct Client {
    pub ws: WebSocketStream<TcpStream>,
    pub resume_token: String,
    pub last_seq: u32,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Close(u16, String),
    Cut,
}

/// An upgrade that was refused.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub body: Value,
    pub retry_after: Option<String>,
}

impl Client {
    pub async fn connect(gateway: &Gateway, query: &str) -> Self {
        Self::try_connect(gateway, query, &[]).await.unwrap()
    }

    pub async fn try_connect(
        gateway: &Gateway,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        Self::over(
            TcpStream::connect(gateway.addresses().client)
                .await
                .unwrap(),
            query,
            headers,
        )
        .await
    }

    pub async fn over(
        stream: TcpStream,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let path = if query.starts_with('/') {
            query.to_owned()
        } else {
            format!("/v1/connect?{query}")
        };
        let mut request = format!("ws://gateway{path}").into_client_request().unwrap();
        for (name, value) in headers {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((ws, _)) => Ok(Self {
                ws,
                resume_token: String::new(),
                last_seq: 0,
            }),
            Err(Error::Http(answer)) => Err(Refused {
                status: answer.status().as_u16(),
                body: serde_json::from_slice(answer.body().as_deref().unwrap_or_default())
                    .unwrap_or(Value::Null),
                retry_after: answer
                    .headers()
                    .get("retry-after")
                    .map(|v| v.to_str().unwrap().to_owned()),
            }),
            Err(other) => panic!("{other}"),
        }
    }

    /// Connects and reads welcome and `subscribed` for so many channels, the user's own included.
    pub async fn welcomed(gateway: &Gateway, query: &str, channels: usize) -> Self {
        let mut client = Self::connect(gateway, query).await;
        client.read_welcome(channels).await;
        client
    }

    pub async fn read_welcome(&mut self, channels: usize) {
        let ServerMessage::Welcome(welcome) = self.next().await else {
            panic!("no welcome")
        };
        self.resume_token = welcome.resume_token;
        for _ in 0..channels {
            let next = self.next().await;
            assert!(matches!(next, ServerMessage::Subscribed(_)), "{next:?}");
        }
    }

    pub async fn next(&mut self) -> ServerMessage {
        match tokio::time::timeout(PATIENCE, self.step())
            .await
            .expect("nothing came")
        {
            Ok(message) => message,
            Err(end) => panic!("ended: {end:?}"),
        }
    }

    async fn step(&mut self) -> Result<ServerMessage, End> {
        loop {
            match self.ws.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(ServerMessage::parse(text.as_str()).unwrap());
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.unwrap();
                    return Err(End::Close(frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(End::Cut),
            }
        }
    }

    /// The next notification; anything else but pongs fails.
    pub async fn message(&mut self) -> Notification {
        loop {
            match self.next().await {
                ServerMessage::Message(message) => {
                    assert_eq!(
                        message.seq.get(),
                        self.last_seq.wrapping_add(1),
                        "sequence numbers have no holes"
                    );
                    self.last_seq = message.seq.get();
                    return message;
                }
                ServerMessage::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Data of the next `count` notifications.
    pub async fn data(&mut self, count: usize) -> Vec<i64> {
        let mut data = Vec::new();
        for _ in 0..count {
            data.push(self.message().await.data.get().parse().unwrap());
        }
        data
    }

    /// Everything until the end.
    pub async fn rest(&mut self) -> (Vec<ServerMessage>, End) {
        let mut messages = Vec::new();
        let reading = async {
            loop {
                match self.step().await {
                    Ok(message) => messages.push(message),
                    Err(end) => return end,
                }
            }
        };
        let end = tokio::time::timeout(PATIENCE, reading)
            .await
            .expect("never ended");
        (messages, end)
    }

    pub async fn send(&mut self, message: &ClientMessage) {
        self.ws.send(Message::text(message.encode())).await.unwrap();
    }

    pub async fn text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).await.unwrap();
    }

    pub async fn ack(&mut self, seq: u32) {
        self.send(&ClientMessage::Ack { seq: Seq::new(seq) }).await;
    }

    pub async fn ping(&mut self, id: u64) -> sluice_protocol::server::Pong {
        self.send(&ClientMessage::Ping {
            id,
            reference: None,
        })
        .await;
        loop {
            if let ServerMessage::Pong(pong) = self.next().await {
                return pong;
            }
        }
    }
}
