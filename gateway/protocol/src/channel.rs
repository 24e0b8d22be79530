//! Pure: the rules for channel names and user ids.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::limits;

/// Start of the name of a user's own channel.
const USER_PREFIX: &str = "user:";

/// Why a text is no channel name or no user id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short or too long for a channel.
    #[error("a channel name is 1 to {max} bytes of UTF-8, this one has {0}", max = limits::CHANNEL_NAME_BYTES)]
    Channel(usize),
    /// Too short or too long for a user.
    #[error("a user id is 1 to {max} bytes of UTF-8, this one has {0}", max = limits::USER_ID_BYTES)]
    User(usize),
}

/// Name of a channel: `user:<id>` is that user's own, every other name is a topic. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`NameError::Channel`] outside 1 to 200 bytes, and when the name is `user:` without an id.
    pub fn new(name: &str) -> Result<Self, NameError> {
        if name.is_empty() || name.len() > limits::CHANNEL_NAME_BYTES {
            return Err(NameError::Channel(name.len()));
        }
        if name == USER_PREFIX {
            return Err(NameError::User(0));
        }
        Ok(Self(Arc::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user whose own channel this is; `None` for a topic.
    pub fn owner(&self) -> Option<&str> {
        self.0.strip_prefix(USER_PREFIX)
    }
}

/// A user's id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct UserId(Arc<str>);

impl UserId {
    /// Checks and wraps an id.
    ///
    /// # Errors
    /// [`NameError::User`] when `user:<id>` would be no channel name.
    pub fn new(id: &str) -> Result<Self, NameError> {
        if id.is_empty() || id.len() > limits::USER_ID_BYTES {
            return Err(NameError::User(id.len()));
        }
        Ok(Self(Arc::from(id)))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The user's own channel.
    pub fn channel(&self) -> ChannelName {
        // On the stack: every connect asks for it.
        let (mut name, id) = ([0; limits::CHANNEL_NAME_BYTES], USER_PREFIX.len());
        let end = id + self.0.len();
        name[..id].copy_from_slice(USER_PREFIX.as_bytes());
        name[id..end].copy_from_slice(self.0.as_bytes());
        // Two texts in a row are one.
        ChannelName(Arc::from(str::from_utf8(&name[..end]).unwrap_or_default()))
    }
}

macro_rules! text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(ChannelName);
text!(UserId);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn names_are_counted_in_bytes() {
        assert!(ChannelName::new("n").is_ok());
        assert!(ChannelName::new(&"é".repeat(100)).is_ok());
        assert_eq!(ChannelName::new(""), Err(NameError::Channel(0)));
        assert_eq!(
            ChannelName::new(&"é".repeat(101)),
            Err(NameError::Channel(202))
        );
    }

    #[test]
    fn a_user_has_a_channel() {
        let ann = UserId::new("ann").unwrap();
        assert_eq!(ann.channel().as_str(), "user:ann");
        assert_eq!(ann.channel().owner(), Some("ann"));
        assert_eq!(ChannelName::new("users").unwrap().owner(), None);
        assert!(ChannelName::new("user:").is_err());
        let longest = UserId::new(&"u".repeat(limits::USER_ID_BYTES)).unwrap();
        assert!(ChannelName::new(longest.channel().as_str()).is_ok());
        assert!(UserId::new(&"u".repeat(limits::USER_ID_BYTES + 1)).is_err());
    }
}
