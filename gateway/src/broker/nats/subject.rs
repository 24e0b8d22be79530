//! Pure: how channels and ids look to NATS. A channel is one token: letters, digits, `-`, `_` and `:` stay as they are, every other
//! byte becomes `=XX`, so that subjects can be read by people and no name can be a wildcard or a second token.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use sluice_protocol::ChannelName;

/// Subjects of one stream.
#[derive(Clone, Debug)]
pub(super) struct Subjects {
    stream: String,
}

impl Subjects {
    /// For a stream's name.
    pub(super) fn new(stream: &str) -> Self {
        Self {
            stream: stream.to_lowercase(),
        }
    }

    /// Where a channel's messages are stored.
    pub(super) fn stored(&self, channel: &ChannelName) -> String {
        format!("{}.ch.{}", self.stream, token(channel.as_str()))
    }

    /// Where all messages are stored.
    pub(super) fn all_stored(&self) -> String {
        format!("{}.ch.*", self.stream)
    }

    /// Where the server repeats what it has stored, with the name as it stands in the stream's settings.
    pub(super) fn republish_to(&self) -> String {
        format!("{}.live.{{{{wildcard(1)}}}}", self.stream)
    }

    /// Where all messages are repeated.
    pub(super) fn all_live(&self) -> String {
        format!("{}.live.*", self.stream)
    }

    /// The channel of a subject of either kind.
    pub(super) fn channel(subject: &str) -> Option<ChannelName> {
        let (_, token) = subject.rsplit_once('.')?;
        ChannelName::new(&name(token)?).ok()
    }
}

/// The key by which the stream recognises a repeated (channel, id): always the same length, whatever the id holds.
pub(super) fn message_id(channel: &ChannelName, id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update((channel.as_str().len() as u64).to_be_bytes());
    hash.update(channel.as_str());
    hash.update(id);
    URL_SAFE_NO_PAD.encode(hash.finalize())
}

fn token(name: &str) -> String {
    let mut token = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':') {
            token.push(byte as char);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(token, "={byte:02X}");
        }
    }
    token
}

fn name(token: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'=' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || (rest.next()? as char).to_digit(16);
        bytes.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    #[test]
    fn subjects_can_be_read() {
        let subjects = Subjects::new("SLUICE");
        assert_eq!(subjects.stored(&channel("user:ann")), "sluice.ch.user:ann");
        assert_eq!(subjects.stored(&channel("a.b >")), "sluice.ch.a=2Eb=20=3E");
        assert_eq!(subjects.republish_to(), "sluice.live.{{wildcard(1)}}");
    }

    #[test]
    fn ids_are_kept_apart_by_channel() {
        let id = |c: &str, i: &str| message_id(&channel(c), i);
        assert_eq!(id("a", "1"), id("a", "1"));
        assert_ne!(id("a", "1"), id("b", "1"));
        assert_ne!(id("ab", "c"), id("a", "bc"));
    }

    proptest! {
        #[test]
        fn any_channel_is_one_plain_token(text in "\\PC{1,60}|[ -~]{1,60}|[>*. {}\\r\\n=]{1,20}") {
            let Ok(channel) = ChannelName::new(&text) else { return Ok(()) };
            let subject = Subjects::new("s").stored(&channel);
            prop_assert_eq!(subject.matches('.').count(), 2);
            let token = subject.rsplit('.').next().unwrap();
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:=".contains(&b)));
            prop_assert_eq!(Subjects::channel(&subject), Some(channel));
        }
    }
}
