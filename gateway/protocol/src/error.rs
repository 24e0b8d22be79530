//! Pure: the register of error codes, used in `error` and `unsubscribed` messages and in HTTP answers.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! register {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:literal;)*) => {
        /// What went wrong, for programs; the text beside it is for people.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
            /// A code of a later version.
            #[serde(other)]
            Unknown,
        }

        impl ErrorCode {
            /// Every named code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* Self::Unknown => "unknown" }
            }

            /// The HTTP status that goes with it where it answers a request.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Unknown => 500 }
            }
        }
    };
}

register! {
    /// Not JSON, no type, wrong or missing fields, a bad parameter.
    BadRequest = "bad_request", 400;
    /// A channel name or user id breaks the rules.
    BadChannel = "bad_channel", 400;
    /// The message's type is unknown.
    UnknownMessage = "unknown_message", 400;
    /// No credentials, or wrong ones.
    Unauthorized = "unauthorized", 401;
    /// The credentials were right and have expired.
    Expired = "expired", 401;
    /// The credentials do not allow this.
    Forbidden = "forbidden", 403;
    /// No such path or object.
    NotFound = "not_found", 404;
    /// The path takes another method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// The admin call's term is older than one already seen.
    StaleTerm = "stale_term", 409;
    /// Larger than allowed.
    TooBig = "too_big", 413;
    /// `/v1/connect` without a WebSocket upgrade.
    UpgradeRequired = "upgrade_required", 426;
    /// More channels than one connection may have.
    TooManyChannels = "too_many_channels", 400;
    /// This client or address does too much; wait as told.
    RateLimited = "rate_limited", 429;
    /// The gateway failed.
    Internal = "internal", 500;
    /// The gateway is being drained; connect again after the wait, elsewhere.
    Draining = "draining", 503;
    /// The gateway has no room; connect again after the wait.
    Overload = "overload", 503;
    /// The broker does not answer or did not store; the same request may be sent again.
    BrokerUnavailable = "broker_unavailable", 503;
    /// The process is shutting down.
    Closing = "closing", 503;
    /// The operation took too long.
    Timeout = "timeout", 504;
    /// The client asked for it (in `unsubscribed` only).
    Requested = "requested", 200;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn words_on_the_wire_are_the_documented_ones() {
        let document = include_str!("../PROTOCOL.md");
        for code in ErrorCode::ALL {
            let word = serde_json::to_string(code).unwrap();
            assert_eq!(word, format!("\"{code}\""));
            assert!(
                document.contains(&format!("| `{code}` |")),
                "PROTOCOL.md lacks {code}"
            );
        }
    }

    #[test]
    fn a_later_versions_code_is_not_an_error() {
        let code: ErrorCode = serde_json::from_str("\"made_up_later\"").unwrap();
        assert_eq!(code, ErrorCode::Unknown);
    }
}
