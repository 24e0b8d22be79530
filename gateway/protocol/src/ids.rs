//! Pure: the small value types of the protocol: epoch, offset, position, payload, reference.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits;

/// Why a text or number is not one of this module's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Epochs go into frames, queries and headers without escaping.
    #[error("an epoch is 1 to {max} characters out of A-Z a-z 0-9 . _ -", max = limits::EPOCH_BYTES)]
    Epoch,
    /// Offsets must be exact in JavaScript.
    #[error("an offset is an integer below 2^53")]
    Offset,
    /// References are echoed.
    #[error("a ref is a string of at most {max} bytes", max = limits::REF_BYTES)]
    Ref,
    /// Payloads are copied into frames as they are.
    #[error("data is one JSON value: {0}")]
    Payload(String),
}

/// One life of a channel's positions: an opaque text, equal or not equal, without order. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Checks and wraps an epoch.
    ///
    /// # Errors
    /// [`IdError::Epoch`] when it is empty, too long or has characters that would need escaping.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > limits::EPOCH_BYTES || !text.bytes().all(plain) {
            return Err(IdError::Epoch);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Epoch {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(&text)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> Self {
        epoch.0.as_ref().to_owned()
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in a channel within one epoch: below 2^53, increasing, not contiguous. Zero is before the first message.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Offset(u64);

impl Offset {
    /// Before the first message of an epoch.
    pub const ZERO: Self = Self(0);

    /// Checks and wraps an offset.
    ///
    /// # Errors
    /// [`IdError::Offset`] at 2^53 and above.
    pub fn new(value: u64) -> Result<Self, IdError> {
        if value < limits::OFFSET_END {
            Ok(Self(value))
        } else {
            Err(IdError::Offset)
        }
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Offset {
    type Error = IdError;

    fn try_from(value: u64) -> Result<Self, IdError> {
        Self::new(value)
    }
}

impl From<Offset> for u64 {
    fn from(offset: Offset) -> Self {
        offset.0
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in a channel. Positions of different epochs cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Which life of the channel.
    pub epoch: Epoch,
    /// Where in it.
    pub offset: Offset,
}

impl Position {
    /// A position from its parts.
    pub fn new(epoch: Epoch, offset: Offset) -> Self {
        Self { epoch, offset }
    }

    /// True when this one is at or behind `other` in the same epoch.
    pub fn reached_by(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.offset <= other.offset
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.offset)
    }
}

/// A notification's content: JSON text that is passed on as it came, never parsed and written again.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// Takes one JSON value as text.
    ///
    /// # Errors
    /// [`IdError::Payload`] when it is not exactly one JSON value.
    pub fn new(json: String) -> Result<Self, IdError> {
        RawValue::from_string(json)
            .map(Self)
            .map_err(|error| IdError::Payload(error.to_string()))
    }

    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Payload {}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.get())
    }
}

/// What a client put into `ref` to find the answer to its message; echoed in answers and errors.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Ref(Box<str>);

impl Ref {
    /// Checks and wraps a reference.
    ///
    /// # Errors
    /// [`IdError::Ref`] when it is too long.
    pub fn new(text: &str) -> Result<Self, IdError> {
        if text.len() > limits::REF_BYTES {
            return Err(IdError::Ref);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Ref {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(&text)
    }
}

impl Serialize for Ref {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl From<Ref> for String {
    fn from(reference: Ref) -> Self {
        reference.0.into_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn epochs_need_no_escaping() {
        assert!(Epoch::new("m1-7f_0.2").is_ok());
        for bad in ["", "a:b", "a,b", "a b", "a\"", "é", "a@b"] {
            assert_eq!(Epoch::new(bad), Err(IdError::Epoch), "{bad}");
        }
        assert!(Epoch::new(&"e".repeat(limits::EPOCH_BYTES)).is_ok());
        assert!(Epoch::new(&"e".repeat(limits::EPOCH_BYTES + 1)).is_err());
    }

    #[test]
    fn offsets_end_where_javascript_loses_exactness() {
        assert!(Offset::new((1 << 53) - 1).is_ok());
        assert_eq!(Offset::new(1 << 53), Err(IdError::Offset));
        assert!(serde_json::from_str::<Offset>("9007199254740992").is_err());
        assert!(serde_json::from_str::<Offset>("-1").is_err());
        assert!(serde_json::from_str::<Offset>("1.5").is_err());
    }

    #[test]
    fn positions_compare_within_one_epoch_only() {
        let at = |e: &str, o| Position::new(Epoch::new(e).unwrap(), Offset::new(o).unwrap());
        assert!(at("a", 3).reached_by(&at("a", 3)));
        assert!(at("a", 3).reached_by(&at("a", 4)));
        assert!(!at("a", 3).reached_by(&at("a", 2)));
        assert!(!at("a", 3).reached_by(&at("b", 9)));
    }

    #[test]
    fn payloads_keep_their_text() {
        let text = r#"{"b":1.0, "a":[ 2e3 ]}"#;
        let payload = Payload::new(text.to_owned()).unwrap();
        assert_eq!(serde_json::to_string(&payload).unwrap(), text);
        assert!(Payload::new("{} {}".to_owned()).is_err());
        assert!(Payload::new(String::new()).is_err());
    }
}
