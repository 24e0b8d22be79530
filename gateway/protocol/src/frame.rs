//! Pure: how a `message` frame is written once per channel and shared by every subscriber.
//!
//! The frame is `prefix + suffix`: the prefix holds the per-connection `seq`, the suffix everything else, so that one
//! vectored write per connection sends both and no payload is copied.

use crate::channel::ChannelName;
use crate::ids::{Epoch, Offset};
use crate::seq::Seq;

const START: &[u8] = b"{\"type\":\"message\",\"seq\":";

/// Bytes of the longest prefix: the start and ten digits.
const PREFIX_BYTES: usize = START.len() + 10;

/// The per-connection start of a `message` frame, without an allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessagePrefix {
    bytes: [u8; PREFIX_BYTES],
    len: u8,
}

impl MessagePrefix {
    /// The bytes to send before the suffix.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len as usize).unwrap_or_default()
    }
}

impl AsRef<[u8]> for MessagePrefix {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The part of a `message` frame that differs per connection.
pub fn message_prefix(seq: Seq) -> MessagePrefix {
    let mut digits = [0_u8; 10];
    let mut rest = seq.get();
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let mut bytes = [0_u8; PREFIX_BYTES];
    let len = START.len() + digits.len() - at;
    bytes[..START.len()].copy_from_slice(START);
    bytes[START.len()..len].copy_from_slice(&digits[at..]);
    MessagePrefix {
        bytes,
        len: len as u8,
    }
}

/// The part of a `message` frame that every subscriber of the channel shares. `time` is in milliseconds since the
/// Unix epoch; `data` must be one JSON value and is copied as it is.
pub fn message_suffix(
    channel: &ChannelName,
    epoch: &Epoch,
    offset: Offset,
    time: u64,
    data: &str,
) -> String {
    // Strings always serialize; the name is escaped here, an epoch never needs it.
    let name = serde_json::to_string(channel.as_str()).unwrap_or_default();
    format!(
        ",\"channel\":{name},\"epoch\":\"{epoch}\",\"offset\":{offset},\"time\":{time},\"data\":{data}}}"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use crate::ids::Payload;
    use crate::server::{Message, ServerMessage};
    use proptest::prelude::*;

    fn whole(prefix: &MessagePrefix, suffix: &str) -> String {
        let mut frame = prefix.as_bytes().to_vec();
        frame.extend_from_slice(suffix.as_bytes());
        String::from_utf8(frame).unwrap()
    }

    proptest! {
        #[test]
        fn prefix_and_suffix_are_the_frame(
            seq in prop_oneof![any::<u32>(), Just(0), Just(u32::MAX)],
            name in "\\PC{1,40}|[\\x00-\\x7f]{1,40}",
            offset in 0_u64..(1 << 53),
            time in any::<u64>(),
            data in prop_oneof![Just("null".to_owned()), Just("{\"a\": [1.50, \"\\u00e9\"]}".to_owned()), any::<i64>().prop_map(|n| n.to_string())],
        ) {
            let Ok(channel) = ChannelName::new(&name) else { return Ok(()) };
            let epoch = Epoch::new("e-1").unwrap();
            let offset = Offset::new(offset).unwrap();
            let expected = ServerMessage::Message(Message {
                seq: Seq::new(seq), channel: channel.clone(), epoch: epoch.clone(), offset, time,
                data: Payload::new(data.clone()).unwrap(),
            });
            let frame = whole(&message_prefix(Seq::new(seq)), &message_suffix(&channel, &epoch, offset, time, &data));
            prop_assert_eq!(&ServerMessage::parse(&frame).unwrap(), &expected);
            prop_assert_eq!(frame, expected.encode());
        }
    }

    #[test]
    fn the_longest_prefix_fits() {
        let prefix = message_prefix(Seq::new(u32::MAX));
        assert_eq!(prefix.as_bytes().len(), PREFIX_BYTES);
        assert!(prefix.as_bytes().ends_with(b"4294967295"));
        assert!(message_prefix(Seq::START).as_bytes().ends_with(b":0"));
    }
}
