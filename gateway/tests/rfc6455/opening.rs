//! Pure: cases of sections 4 and 9.1 and 11.3: the opening handshake, as requests and the answers they must get.

/// What must come back.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// 101, the right `Sec-WebSocket-Accept`, this subprotocol, no extension that was not offered, and a working connection.
    Upgraded(Option<&'static str>),
    /// One of these statuses; 426 names the version that is spoken (section 4.4).
    Refused(&'static [u16]),
    /// Either: the RFC leaves it open, or leaves it to HTTP.
    UpgradedOrRefused(&'static [u16]),
    /// One of these statuses, or the end without an answer: what came is not HTTP.
    RefusedOrEnded(&'static [u16]),
}

/// One opening handshake.
#[derive(Clone, Debug)]
pub struct Opening {
    pub name: &'static str,
    /// Section of RFC 6455.
    pub section: &'static str,
    pub request: Vec<u8>,
    /// One write per byte.
    pub slowly: bool,
    pub answer: Answer,
}

/// The key of the RFC's own example (section 1.3) and what it is answered with.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GET: &str = "GET /v1/connect?user=ann HTTP/1.1";
const BASE: [(&str, &str); 5] = [
    ("Host", "gateway.example"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
];

/// A request: its first line, then the usual header lines, of which those named in `changes` are replaced. An empty value
/// leaves one out; a name that stands there twice makes two lines.
pub fn request(first: &str, changes: &[(&str, &str)]) -> Vec<u8> {
    let kept = BASE
        .iter()
        .filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let lines = kept.chain(changes).filter(|(_, value)| !value.is_empty());
    let mut text = format!("{first}\r\n");
    for (name, value) in lines {
        text.extend([name, ": ", value, "\r\n"]);
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn opening(
    name: &'static str,
    section: &'static str,
    changes: &[(&str, &str)],
    answer: Answer,
) -> Opening {
    raw(name, section, request(GET, changes), answer)
}

fn raw(name: &'static str, section: &'static str, request: Vec<u8>, answer: Answer) -> Opening {
    Opening {
        name,
        section,
        request,
        slowly: false,
        answer,
    }
}

pub fn cases() -> Vec<Opening> {
    [
        proper(),
        incomplete(),
        keys(),
        versions(),
        subprotocols(),
        extensions(),
        not_http(),
    ]
    .concat()
}

const YES: Answer = Answer::Upgraded(None);
const NO: Answer = Answer::Refused(&[400, 426]);
const WRONG_VERSION: Answer = Answer::Refused(&[426]);

fn proper() -> Vec<Opening> {
    let own_order = format!(
        "{GET}\r\nSEC-WEBSOCKET-VERSION:13\r\nsec-websocket-key:   {KEY}  \r\nUPGRADE: websocket\r\nhOsT: a\r\ncOnNeCtIoN: Upgrade\r\n\r\n"
    );
    let mut slow = opening("a request byte by byte", "4.2.1", &[], YES);
    slow.slowly = true;
    vec![
        opening("the shortest request", "4.2.1", &[], YES),
        slow,
        raw(
            "header names in any case and order",
            "4.2.1",
            own_order.into_bytes(),
            YES,
        ),
        opening(
            "words in any case",
            "4.2.1",
            &[("Upgrade", "WebSocket"), ("Connection", "uPGRADE")],
            YES,
        ),
        opening(
            "Connection is a list",
            "4.2.1",
            &[("Connection", "keep-alive, Upgrade")],
            YES,
        ),
        opening(
            "Connection on two lines",
            "4.2.1",
            &[("Connection", "keep-alive"), ("Connection", "Upgrade")],
            YES,
        ),
        opening(
            "Upgrade is a list",
            "4.2.1",
            &[("Upgrade", "h2c, websocket")],
            YES,
        ),
        opening(
            "with an Origin",
            "4.2.1",
            &[("Origin", "https://app.example")],
            YES,
        ),
        opening(
            "with cookies and unknown headers",
            "4.2.1",
            &[("Cookie", "a=b"), ("X-Unknown", "1")],
            YES,
        ),
        raw(
            "an absolute request target",
            "4.2.1",
            request(
                "GET http://gateway.example/v1/connect?user=ann HTTP/1.1",
                &[],
            ),
            YES,
        ),
        raw(
            "another path",
            "4.2.2",
            request("GET /v1/nothing HTTP/1.1", &[]),
            Answer::Refused(&[404]),
        ),
    ]
}

fn incomplete() -> Vec<Opening> {
    vec![
        opening("no Upgrade", "4.2.1", &[("Upgrade", "")], NO),
        opening(
            "Upgrade to something else",
            "4.2.1",
            &[("Upgrade", "h2c")],
            NO,
        ),
        opening(
            "Upgrade to a longer word",
            "4.2.1",
            &[("Upgrade", "websocket2")],
            NO,
        ),
        opening("no Connection", "4.2.1", &[("Connection", "")], NO),
        opening(
            "Connection without Upgrade",
            "4.2.1",
            &[("Connection", "keep-alive")],
            NO,
        ),
        opening(
            "Connection with a longer word",
            "4.2.1",
            &[("Connection", "Upgraded")],
            NO,
        ),
        opening(
            "neither Upgrade nor Connection",
            "4.2.1",
            &[("Upgrade", ""), ("Connection", "")],
            NO,
        ),
        opening("no Host", "4.2.1", &[("Host", "")], NO),
        raw(
            "POST",
            "4.2.1",
            request("POST /v1/connect?user=ann HTTP/1.1", &[]),
            Answer::Refused(&[400, 405]),
        ),
        raw(
            "HEAD",
            "4.2.1",
            request("HEAD /v1/connect?user=ann HTTP/1.1", &[]),
            Answer::Refused(&[400, 405]),
        ),
        raw(
            "HTTP/1.0",
            "4.2.1",
            request("GET /v1/connect?user=ann HTTP/1.0", &[]),
            Answer::Refused(&[400, 426, 505]),
        ),
    ]
}

fn keys() -> Vec<Opening> {
    let key =
        |name, value: &'static str| opening(name, "4.2.1", &[("Sec-WebSocket-Key", value)], NO);
    vec![
        key("no key", ""),
        key("an empty key", " "),
        key("a key that is not base64", "not base64 at all!!!!!!!"),
        key("a key without padding", "dGhlIHNhbXBsZSBub25jZQ"),
        key("a key of 15 bytes", "dGhlIHNhbXBsZSBub25j"),
        key("a key of 17 bytes", "dGhlIHNhbXBsZSBub25jZTE="),
        key("a key of two words", "dGhlIHNhbXBsZSBub25jZQ== x"),
        opening(
            "two keys",
            "11.3.1",
            &[
                ("Sec-WebSocket-Key", KEY),
                ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ],
            NO,
        ),
    ]
}

fn versions() -> Vec<Opening> {
    let version = |name, value: &'static str| {
        opening(
            name,
            "4.4",
            &[("Sec-WebSocket-Version", value)],
            WRONG_VERSION,
        )
    };
    vec![
        opening("no version", "4.2.1", &[("Sec-WebSocket-Version", "")], NO),
        version("version 0", "0"),
        version("version 8", "8"),
        version("version 14", "14"),
        version("version 255", "255"),
        version("version 013", "013"),
        version("a version that is no number", "thirteen"),
        opening(
            "a list of versions",
            "11.3.5",
            &[("Sec-WebSocket-Version", "13, 8")],
            NO,
        ),
        opening(
            "two versions",
            "11.3.5",
            &[
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Version", "8"),
            ],
            NO,
        ),
    ]
}

fn subprotocols() -> Vec<Opening> {
    const OURS: Answer = Answer::Upgraded(Some("sluice.v1.json"));
    let offer = |name, lines: &[&'static str], answer| {
        let lines: Vec<_> = lines
            .iter()
            .map(|line| ("Sec-WebSocket-Protocol", *line))
            .collect();
        opening(name, "4.2.2", &lines, answer)
    };
    // The RFC lets a server that knows none of them go on without one, too.
    let none_known = Answer::UpgradedOrRefused(&[400]);
    vec![
        offer("ours alone", &["sluice.v1.json"], OURS),
        offer("ours among others", &["mqtt, sluice.v1.json, wamp"], OURS),
        offer("ours without spaces", &["mqtt,sluice.v1.json"], OURS),
        offer("ours on a second line", &["mqtt", "sluice.v1.json"], OURS),
        offer("none that is known", &["mqtt"], none_known),
        offer(
            "ours in capitals is another one",
            &["SLUICE.V1.JSON"],
            none_known,
        ),
        offer(
            "ours with more behind it is another one",
            &["sluice.v1.json2"],
            none_known,
        ),
        offer("an empty list", &[" , "], Answer::UpgradedOrRefused(&[400])),
    ]
}

fn extensions() -> Vec<Opening> {
    let offer = |name, line: &'static str, answer| {
        opening(name, "9.1", &[("Sec-WebSocket-Extensions", line)], answer)
    };
    vec![
        offer("an unknown extension", "x-unknown; level=3", YES),
        offer(
            "several unknown extensions",
            "x-one, x-two; a; b=\"c\"",
            YES,
        ),
        offer(
            "a list that is no list of extensions",
            ";;=,",
            Answer::UpgradedOrRefused(&[400]),
        ),
    ]
}

fn not_http() -> Vec<Opening> {
    let refused = Answer::RefusedOrEnded(&[400, 404, 414, 431, 505]);
    let long = "x".repeat(40_000);
    let many: Vec<String> = (0..300).map(|n| format!("X-Header-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    vec![
        raw("nothing", "4.2.1", Vec::new(), refused),
        raw(
            "half a request",
            "4.2.1",
            request(GET, &[])[..60].to_vec(),
            refused,
        ),
        raw(
            "line ends alone",
            "4.2.1",
            b"\r\n\r\n\r\n\r\n\n".to_vec(),
            refused,
        ),
        raw("zeros", "4.2.1", vec![0; 300], refused),
        raw(
            "the start of TLS",
            "4.2.1",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".repeat(9),
            refused,
        ),
        raw(
            "a WebSocket frame",
            "4.2.1",
            super::case::ask(1).bytes(),
            refused,
        ),
        raw(
            "a request of HTTP/2",
            "4.2.1",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            refused,
        ),
        raw(
            "a header without a colon",
            "4.2.1",
            request(GET, &[("X-Odd\r\nOdd", "x")]),
            refused,
        ),
        raw(
            "a space before a colon",
            "4.2.1",
            request(GET, &[("Upgrade ", "websocket")]),
            refused,
        ),
        raw(
            "a header longer than is read",
            "10.4",
            request(GET, &[("X-Long", &long)]),
            refused,
        ),
        raw(
            "more headers than are read",
            "10.4",
            request(GET, &many),
            refused,
        ),
    ]
}
