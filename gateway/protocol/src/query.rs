//! Pure: the query of a connect request, `channels=a@EPOCH:OFFSET,b&token=…`, read by servers and written by clients.
//!
//! The value of `channels`, after the usual decoding of a query, is a list of items separated by `,`. An item is a
//! channel name, optionally followed by `@EPOCH:OFFSET`. The characters `%`, `,` and `@` inside a name are
//! percent-encoded once more, so names without them are written plainly.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::channel::{ChannelName, NameError, UserId};
use crate::ids::{Epoch, IdError, Offset, Position};
use crate::limits;

/// What a connect request asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectQuery {
    /// Channels to follow, each once, in the order given.
    pub channels: Vec<Subscription>,
    /// Login token; may come in a header or as a subprotocol instead.
    pub token: Option<String>,
    /// Name of the user, in development mode only.
    pub user: Option<UserId>,
    /// Resume token of an earlier welcome; stands for `token`.
    pub resume: Option<String>,
}

/// One channel to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The channel.
    pub channel: ChannelName,
    /// The last position that the client has; `None` follows from now on.
    pub after: Option<Position>,
}

/// What is wrong with a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A `%` that starts no escape, or bytes that are not UTF-8.
    #[error("the query's percent-encoding is broken near {0:?}")]
    Encoding(String),
    /// Longer than servers read.
    #[error("the query has {0} bytes, at most {max} are read: subscribe to the rest after the welcome", max = limits::QUERY_BYTES)]
    TooLong(usize),
    /// More channels than one connection may have.
    #[error("at most {max} channels fit one connection", max = limits::CHANNELS_PER_CONNECTION)]
    TooManyChannels,
    /// A name breaks the rules.
    #[error("channels: {0}")]
    Name(#[from] NameError),
    /// What follows the `@` is not `EPOCH:OFFSET`.
    #[error(
        "channels: after @ comes EPOCH:OFFSET as `subscribed` and `message` gave them, not {0:?}"
    )]
    Position(String),
    /// A parameter that must come once came twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
}

impl ConnectQuery {
    /// Reads the part of a request's URL after the `?`. Unknown parameters are ignored; empty values count as absent.
    ///
    /// # Errors
    /// [`QueryError`], which a server answers as `bad_request`.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        if query.len() > limits::QUERY_BYTES {
            return Err(QueryError::TooLong(query.len()));
        }
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if value.is_empty() {
                continue;
            }
            match key {
                "channels" => read_channels(&decode(value, true)?, &mut parsed.channels)?,
                "token" => once(
                    &mut parsed.token,
                    "token",
                    decode(value, true)?.into_owned(),
                )?,
                "resume" => once(
                    &mut parsed.resume,
                    "resume",
                    decode(value, true)?.into_owned(),
                )?,
                "user" => once(
                    &mut parsed.user,
                    "user",
                    UserId::new(&decode(value, true)?)?,
                )?,
                _ => {}
            }
        }
        Ok(parsed)
    }

    /// The query as text, without the `?`. Reading it back gives the same value.
    pub fn format(&self) -> String {
        let mut query = String::new();
        let mut add = |key: &str, value: &str| {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(key);
            query.push('=');
            escape(value, plain_in_query, &mut query);
        };
        if !self.channels.is_empty() {
            let items: Vec<String> = self.channels.iter().map(Subscription::format).collect();
            add("channels", &items.join(","));
        }
        for (key, value) in [
            ("token", self.token.as_deref()),
            ("user", self.user.as_ref().map(UserId::as_str)),
            ("resume", self.resume.as_deref()),
        ] {
            if let Some(value) = value {
                add(key, value);
            }
        }
        query
    }

    /// Moves channels out of the query until it fits the limit; the client subscribes to them after the welcome.
    pub fn split_to_fit(&mut self) -> Vec<Subscription> {
        let mut rest = Vec::new();
        while self.format().len() > limits::QUERY_BYTES {
            let half = self.channels.len() / 2;
            if half == self.channels.len() {
                break;
            }
            rest.splice(0..0, self.channels.split_off(half));
        }
        rest
    }
}

impl Subscription {
    /// The item in a `channels` list.
    fn format(&self) -> String {
        let mut item = String::new();
        escape(
            self.channel.as_str(),
            |c| !matches!(c, '%' | ',' | '@'),
            &mut item,
        );
        if let Some(Position { epoch, offset }) = &self.after {
            // Writing to a String cannot fail.
            let _ = write!(item, "@{epoch}:{offset}");
        }
        item
    }
}

fn once<T>(slot: &mut Option<T>, name: &'static str, value: T) -> Result<(), QueryError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(QueryError::Twice(name)),
    }
}

fn read_channels(list: &str, channels: &mut Vec<Subscription>) -> Result<(), QueryError> {
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let (name, position) = match item.split_once('@') {
            None => (item, None),
            Some((name, position)) => (name, Some(position)),
        };
        let channel = ChannelName::new(&decode(name, false)?)?;
        let after = position.map(read_position).transpose()?;
        if channels.iter().any(|known| known.channel == channel) {
            continue;
        }
        if channels.len() == limits::CHANNELS_PER_CONNECTION {
            return Err(QueryError::TooManyChannels);
        }
        channels.push(Subscription { channel, after });
    }
    Ok(())
}

fn read_position(text: &str) -> Result<Position, QueryError> {
    let wrong = || QueryError::Position(text.to_owned());
    let (epoch, offset) = text.rsplit_once(':').ok_or_else(wrong)?;
    let epoch = Epoch::new(epoch).map_err(|_: IdError| wrong())?;
    let offset: u64 = offset.parse().map_err(|_| wrong())?;
    let offset = Offset::new(offset).map_err(|_: IdError| wrong())?;
    Ok(Position { epoch, offset })
}

fn decode(text: &str, plus_is_space: bool) -> Result<Cow<'_, str>, QueryError> {
    if !text
        .bytes()
        .any(|b| b == b'%' || (plus_is_space && b == b'+'))
    {
        return Ok(Cow::Borrowed(text));
    }
    let broken = || QueryError::Encoding(text.chars().take(40).collect());
    let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = rest.next().and_then(hex).ok_or_else(broken)?;
                let low = rest.next().and_then(hex).ok_or_else(broken)?;
                high * 16 + low
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| broken())
}

fn plain_in_query(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-._~:@,/".contains(c)
}

fn escape(text: &str, plain: impl Fn(char) -> bool, out: &mut String) {
    for c in text.chars() {
        if plain(c) {
            out.push(c);
            continue;
        }
        for byte in c.encode_utf8(&mut [0; 4]).bytes() {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn follow(name: &str, after: Option<(&str, u64)>) -> Subscription {
        Subscription {
            channel: ChannelName::new(name).unwrap(),
            after: after
                .map(|(e, o)| Position::new(Epoch::new(e).unwrap(), Offset::new(o).unwrap())),
        }
    }

    #[test]
    fn what_a_person_types_works() {
        let query = ConnectQuery::parse("user=ann&channels=news,user:bob@e1:7,&x=y").unwrap();
        assert_eq!(query.user, Some(UserId::new("ann").unwrap()));
        assert_eq!(
            query.channels,
            [follow("news", None), follow("user:bob", Some(("e1", 7)))]
        );
        assert_eq!(ConnectQuery::parse("").unwrap(), ConnectQuery::default());
        assert_eq!(
            ConnectQuery::parse("token=&channels").unwrap(),
            ConnectQuery::default()
        );
    }

    #[test]
    fn what_a_browser_encodes_works() {
        let query = ConnectQuery::parse("channels=news%40e1%3A7%2Cb+c").unwrap();
        assert_eq!(
            query.channels,
            [follow("news", Some(("e1", 7))), follow("b c", None)]
        );
    }

    #[test]
    fn reserved_characters_are_encoded_once_more() {
        let query = ConnectQuery {
            channels: vec![follow("a,b@c%d", None)],
            ..Default::default()
        };
        assert_eq!(query.format(), "channels=a%252Cb%2540c%2525d");
        assert_eq!(ConnectQuery::parse(&query.format()).unwrap(), query);
    }

    #[test]
    fn mistakes_are_named() {
        let error = |q: &str| ConnectQuery::parse(q).unwrap_err();
        assert!(matches!(error("channels=a@7"), QueryError::Position(_)));
        assert!(matches!(error("channels=a@e:x"), QueryError::Position(_)));
        assert!(matches!(
            error("channels=a@e:9007199254740992"),
            QueryError::Position(_)
        ));
        assert!(matches!(
            error("channels=@e:1"),
            QueryError::Name(NameError::Channel(0))
        ));
        assert!(matches!(error("channels=%zz"), QueryError::Encoding(_)));
        assert!(matches!(error("channels=%ff"), QueryError::Encoding(_)));
        assert!(matches!(error("user=a&user=b"), QueryError::Twice("user")));
        let many: Vec<String> = (0..=limits::CHANNELS_PER_CONNECTION)
            .map(|n| format!("c{n}"))
            .collect();
        assert_eq!(
            error(&format!("channels={}", many.join(","))),
            QueryError::TooManyChannels
        );
        assert!(matches!(
            error(&"x".repeat(limits::QUERY_BYTES + 1)),
            QueryError::TooLong(_)
        ));
    }

    #[test]
    fn a_channel_counts_once_and_its_first_position_wins() {
        let query = ConnectQuery::parse("channels=a@e:1,a@e:2&channels=a,b").unwrap();
        assert_eq!(
            query.channels,
            [follow("a", Some(("e", 1))), follow("b", None)]
        );
    }

    #[test]
    fn channels_that_do_not_fit_are_handed_back_in_order() {
        let names: Vec<String> = (0..100)
            .map(|n| format!("{n}-{}", "x".repeat(190)))
            .collect();
        let all: Vec<Subscription> = names.iter().map(|n| follow(n, None)).collect();
        let mut query = ConnectQuery {
            channels: all.clone(),
            resume: Some("r".into()),
            ..Default::default()
        };
        let rest = query.split_to_fit();
        assert!(!query.channels.is_empty() && !rest.is_empty());
        assert!(ConnectQuery::parse(&query.format()).is_ok());
        assert_eq!([query.channels, rest].concat(), all);
    }

    proptest! {
        #[test]
        fn reading_undoes_writing(
            names in proptest::collection::vec(("\\PC{1,20}|[ -~]{1,20}", proptest::option::of(("[A-Za-z0-9._-]{1,64}", 0_u64..(1 << 53)))), 0..6),
            token in proptest::option::of("[ -~]{1,30}|\\PC{1,10}"),
            resume in proptest::option::of("[ -~]{1,30}"),
            user in proptest::option::of("\\PC{1,20}"),
        ) {
            let mut query = ConnectQuery { token, resume, user: user.and_then(|u| UserId::new(&u).ok()), ..Default::default() };
            for (name, after) in &names {
                if ChannelName::new(name).is_ok() && !query.channels.iter().any(|c| c.channel.as_str() == name) {
                    query.channels.push(follow(name, after.as_ref().map(|(e, o)| (e.as_str(), *o))));
                }
            }
            prop_assert_eq!(ConnectQuery::parse(&query.format()).unwrap(), query);
        }

        #[test]
        fn reading_never_panics(text in "\\PC{0,80}|(channels=)?[%@:,+&=a-z0-9]{0,60}") {
            let _ = ConnectQuery::parse(&text);
        }
    }
}
