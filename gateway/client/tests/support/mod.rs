//! Effects: a server on loopback whose every frame is written by the test.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::{Response, StatusCode};
use sluice_client::{Client, Config, Credentials, Event, fixed};
use sluice_protocol::{ClientMessage, ConnectQuery};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Everything awaited in these tests comes at once or never.
const LIMIT: Duration = Duration::from_secs(10);

pub struct Server {
    listener: TcpListener,
    pub url: String,
}

/// One accepted connection, and what its request asked for.
pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub query: ConnectQuery,
    pub bearer: Option<String>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        Self { listener, url }
    }

    pub fn client(&self) -> (Client, mpsc::Receiver<Event>) {
        Client::start(self.config())
    }

    pub fn config(&self) -> Config {
        let mut config = Config::new(fixed([self.url.clone()]), Credentials::token("login"));
        config.follow("news").unwrap();
        config
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = timeout(LIMIT, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        let mut query = None;
        let mut bearer = None;
        // The type of the refusal is the library's choice.
        #[allow(clippy::result_large_err)]
        let look = |request: &Request, response| {
            query = ConnectQuery::parse(request.uri().query().unwrap_or_default()).ok();
            let header = request.headers().get("authorization");
            bearer = header.map(|value| value.to_str().unwrap().to_owned());
            Ok(response)
        };
        let socket = accept_hdr_async(stream, look).await.unwrap();
        Peer {
            socket,
            query: query.unwrap(),
            bearer,
        }
    }

    pub async fn refuse(&self, status: u16, body: &str) {
        let (stream, _) = timeout(LIMIT, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        let (body, status) = (body.to_owned(), StatusCode::from_u16(status).unwrap());
        #[allow(clippy::result_large_err)]
        let refuse = |_: &Request, _| -> Result<_, ErrorResponse> {
            let length = body.len();
            let response = Response::builder()
                .status(status)
                .header("content-length", length);
            Err(response.body(Some(body)).unwrap())
        };
        assert!(accept_hdr_async(stream, refuse).await.is_err());
    }
}

impl Peer {
    pub async fn send(&mut self, frame: &str) {
        self.socket.send(Message::text(frame)).await.unwrap();
    }

    pub async fn welcome(&mut self, token: &str) {
        let frame = format!(
            r#"{{"type":"welcome","connection":"c","user":"ann","resume_token":"{token}","heartbeat":{{"client_ms":15000,"client_timeout_ms":8000,"server_ms":30000}},"limits":{{"window_messages":4,"window_bytes":100000,"message_bytes":16384}}}}"#
        );
        self.send(&frame).await;
    }

    pub async fn subscribed(&mut self, channel: &str, offset: u64, recovered: bool) {
        let frame = format!(
            r#"{{"type":"subscribed","channel":"{channel}","epoch":"e","offset":{offset},"recovered":{recovered}}}"#
        );
        self.send(&frame).await;
    }

    pub async fn message(&mut self, seq: u32, offset: u64) {
        let frame = format!(
            r#"{{"type":"message","seq":{seq},"channel":"news","epoch":"e","offset":{offset},"time":1,"data":{offset}}}"#
        );
        self.send(&frame).await;
    }

    /// The next message from the client.
    pub async fn next(&mut self) -> ClientMessage {
        match timeout(LIMIT, self.socket.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Message::Text(text) => ClientMessage::parse(text.as_str()).unwrap(),
            other => panic!("not a text frame: {other:?}"),
        }
    }

    /// The code of the Close frame with which the client ends this connection.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match timeout(LIMIT, self.socket.next()).await.unwrap() {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(Message::Text(_))) => {}
                other => panic!("no Close frame: {other:?}"),
            }
        }
    }

    pub async fn close(&mut self, code: u16) {
        let frame = CloseFrame {
            code: code.into(),
            reason: "".into(),
        };
        self.socket.close(Some(frame)).await.unwrap();
    }
}

/// The next event that is not just progress.
pub async fn event(events: &mut mpsc::Receiver<Event>) -> Event {
    loop {
        match timeout(LIMIT, events.recv()).await.unwrap().unwrap() {
            Event::Reconnecting { .. } | Event::Migrating { .. } => {}
            event => return event,
        }
    }
}

/// The offset of the next event, which is a message.
pub async fn offset(events: &mut mpsc::Receiver<Event>) -> u64 {
    match event(events).await {
        Event::Message { offset, data, .. } => {
            assert_eq!(data.get(), offset.to_string());
            offset.get()
        }
        other => panic!("not a message: {other:?}"),
    }
}
