//! Pure: the register of close codes, and what each one means for the client's next step.

use serde::{Deserialize, Serialize};

/// What a client does after a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request fails again: stop, tell the application.
    Never,
    /// Drop the resume token and log in with full credentials once; stop when those are refused, too.
    NewCredentials,
    /// Reconnect after the usual backoff, or after the wait that the server gave.
    Backoff,
    /// Resume at once on another gateway; only repeated failures back off.
    AtOnce,
}

macro_rules! register {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $word:literal, $retry:ident;)*) => {
        /// Why a connection was closed, as sent in the Close frame.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
            /// A code of this protocol's ranges, or of RFC 6455, that this version has no name for.
            Other(u16),
        }

        impl CloseCode {
            /// Every named code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The number in the Close frame.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)* Self::Other(code) => code }
            }

            /// The reason text in the Close frame: one snake_case word.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $word,)* Self::Other(_) => "other" }
            }

            /// What the client does next.
            pub const fn retry(self) -> Retry {
                match self { $(Self::$name => Retry::$retry,)* Self::Other(code) => by_range(code) }
            }
        }

        impl From<u16> for CloseCode {
            fn from(code: u16) -> Self {
                match code { $($code => Self::$name,)* other => Self::Other(other) }
            }
        }
    };
}

register! {
    /// RFC 6455: the other end is done; a client that did not ask for it reconnects.
    Normal = 1000, "normal", Backoff;
    /// RFC 6455: the other end goes away (a closed tab, a stopped process).
    GoingAway = 1001, "going_away", Backoff;
    /// RFC 6455: the frames themselves were wrong (unmasked, reserved bits, bad fragmentation).
    Protocol = 1002, "protocol", Never;
    /// RFC 6455: a binary frame where text is spoken.
    Unsupported = 1003, "unsupported", Never;
    /// RFC 6455: no Close frame came before the connection ended. Never sent.
    Abnormal = 1006, "abnormal", Backoff;
    /// RFC 6455: a text frame that is not UTF-8.
    NotUtf8 = 1007, "not_utf8", Never;
    /// Credentials expired or became invalid after the handshake.
    Credentials = 1008, "credentials", NewCredentials;
    /// A message was larger than `limits.message_bytes`.
    TooBig = 1009, "too_big", Never;
    /// The gateway is drained or shuts down: resume on another one.
    Drained = 1012, "drained", AtOnce;
    /// The gateway is overloaded: come back after the wait given by the `error` before the close, or after backoff.
    Overload = 1013, "overload", Backoff;
    /// A message was not JSON, had no type or wrong fields.
    BadRequest = 4000, "bad_request", Never;
    /// The handshake's credentials were refused (sent where the client cannot see HTTP status: browsers).
    Unauthorized = 4001, "unauthorized", NewCredentials;
    /// A message's type is unknown to this server.
    UnknownMessage = 4002, "unknown_message", Never;
    /// The credentials are good but do not allow this.
    Forbidden = 4003, "forbidden", Never;
    /// Another connection took over this session (same resume token).
    Replaced = 4004, "replaced", Never;
    /// The server failed in a way that is not the client's doing.
    Internal = 4100, "internal", Backoff;
    /// The client's socket took nothing for too long.
    Slow = 4101, "slow", Backoff;
    /// The client answered no probe in time.
    Heartbeat = 4102, "heartbeat", Backoff;
    /// The server wants the client to connect again now, for example to leave a broken broker link.
    ResumeAtOnce = 4200, "resume_at_once", AtOnce;
}

/// The rule for codes without a name: later servers may add some, and clients must still do the right thing.
const fn by_range(code: u16) -> Retry {
    match code {
        4000..=4099 => Retry::Never,
        4200..=4299 => Retry::AtOnce,
        _ => Retry::Backoff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_are_one_to_one() {
        for code in CloseCode::ALL {
            assert_eq!(CloseCode::from(code.code()), *code);
            let twins = CloseCode::ALL
                .iter()
                .filter(|c| c.code() == code.code() || c.reason() == code.reason());
            assert_eq!(twins.count(), 1, "{code:?}");
        }
    }

    #[test]
    fn named_codes_keep_the_rule_of_their_range() {
        for code in CloseCode::ALL.iter().filter(|c| c.code() >= 4000) {
            let rule = match code.code() {
                4000..=4099 => vec![Retry::Never, Retry::NewCredentials],
                4100..=4199 => vec![Retry::Backoff],
                _ => vec![Retry::AtOnce],
            };
            assert!(rule.contains(&code.retry()), "{code:?}");
        }
    }

    #[test]
    fn unknown_codes_follow_their_range() {
        assert_eq!(CloseCode::from(4077).retry(), Retry::Never);
        assert_eq!(CloseCode::from(4177).retry(), Retry::Backoff);
        assert_eq!(CloseCode::from(4277).retry(), Retry::AtOnce);
        assert_eq!(CloseCode::from(3999).retry(), Retry::Backoff);
    }

    #[test]
    fn the_document_lists_every_code() {
        let document = include_str!("../PROTOCOL.md");
        for code in CloseCode::ALL {
            let row = format!("| {} | `{}` |", code.code(), code.reason());
            assert!(document.contains(&row), "PROTOCOL.md lacks {row}");
        }
    }
}
