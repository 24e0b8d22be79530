//! Pure: resume tokens. One MAC with the fleet's key makes them valid on every pod of the fleet, without a table anywhere.
//!
//! Layout before base64url: version (1 byte), session (16), login (8, big endian seconds), expiry (8), user (the rest up to
//! the MAC), HMAC-SHA256 of all that (32). Later versions add fields under another version number.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use sluice_protocol::UserId;
use sluice_protocol::limits::USER_ID_BYTES;

use super::AuthError;

const VERSION: u8 = 1;
const MAC_BYTES: usize = 32;
const HEAD_BYTES: usize = 1 + 16 + 8 + 8;

/// The longest token before base64url, bytes.
const TICKET_BYTES: usize = HEAD_BYTES + USER_ID_BYTES + MAC_BYTES;

/// What survives reconnects, as a random number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// What a resume token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Who.
    pub user: UserId,
    /// Which session.
    pub session: SessionId,
    /// When the user logged in with full credentials, seconds since the Unix epoch.
    pub login: u64,
    /// When it ends, seconds since the Unix epoch; never later than the credentials it came from.
    pub expires: u64,
}

/// The fleet's key for them.
#[derive(Clone)]
pub struct ResumeKey(Hmac<Sha256>);

impl std::fmt::Debug for ResumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ResumeKey(..)")
    }
}

impl ResumeKey {
    /// From the bytes of the fleet's `resume` key.
    pub fn new(key: &[u8]) -> Self {
        // The key is hashed with a purpose first, so that it has the right length and MACs of other uses never fit.
        let digest = Sha256::new()
            .chain_update(b"sluice resume token v1\0")
            .chain_update(key)
            .finalize();
        // HMAC fills a key up to its block with zeros; doing it here leaves no length to be wrong about.
        let mut block = [0_u8; 64];
        block[..MAC_BYTES].copy_from_slice(&digest);
        Self(KeyInit::new(&block.into()))
    }

    /// Writes a token.
    pub fn seal(&self, ticket: &Ticket) -> String {
        let (mut bytes, mut len) = ([0; TICKET_BYTES], 0);
        let mut add = |part: &[u8]| {
            bytes[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        };
        add(&[VERSION]);
        add(&ticket.session.0);
        add(&ticket.login.to_be_bytes());
        add(&ticket.expires.to_be_bytes());
        add(ticket.user.as_str().as_bytes());
        let mac = self.0.clone().chain_update(&bytes[..len]).finalize();
        bytes[len..len + MAC_BYTES].copy_from_slice(&mac.into_bytes());
        URL_SAFE_NO_PAD.encode(&bytes[..len + MAC_BYTES])
    }

    /// Checks and reads a token.
    pub fn open(&self, token: &str, now: u64) -> Result<Ticket, AuthError> {
        let wrong = || AuthError::Invalid("not a resume token of this fleet".into());
        let mut buffer = [0; TICKET_BYTES];
        // What does not fit is none.
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut buffer);
        let bytes = &buffer[..len.map_err(|_| wrong())?];
        let split = bytes
            .len()
            .checked_sub(MAC_BYTES)
            .filter(|at| *at > HEAD_BYTES)
            .ok_or_else(wrong)?;
        let (body, mac) = bytes.split_at(split);
        // Compares in constant time.
        self.0
            .clone()
            .chain_update(body)
            .verify_slice(mac)
            .map_err(|_| wrong())?;
        let (head, user) = body.split_at(HEAD_BYTES);
        if head.first() != Some(&VERSION) {
            return Err(wrong());
        }
        let number = |at: usize| {
            head.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes)
                .ok_or_else(wrong)
        };
        let session = head
            .get(1..17)
            .and_then(|b| b.try_into().ok())
            .map(SessionId)
            .ok_or_else(wrong)?;
        let user = std::str::from_utf8(user)
            .ok()
            .and_then(|u| UserId::new(u).ok())
            .ok_or_else(wrong)?;
        let ticket = Ticket {
            user,
            session,
            login: number(17)?,
            expires: number(25)?,
        };
        if ticket.expires <= now {
            return Err(AuthError::Expired("resume token"));
        }
        Ok(ticket)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn ticket(user: &str) -> Ticket {
        Ticket {
            user: UserId::new(user).unwrap(),
            session: SessionId([7; 16]),
            login: 1000,
            expires: 2000,
        }
    }

    #[test]
    fn any_pod_with_the_fleets_key_reads_it() {
        let token = ResumeKey::new(b"fleet key").seal(&ticket("ann"));
        assert_eq!(
            ResumeKey::new(b"fleet key").open(&token, 1999),
            Ok(ticket("ann"))
        );
    }

    #[test]
    fn another_fleet_does_not() {
        let token = ResumeKey::new(b"fleet key").seal(&ticket("ann"));
        assert!(matches!(
            ResumeKey::new(b"other key").open(&token, 1999),
            Err(AuthError::Invalid(_))
        ));
    }

    #[test]
    fn it_expires_on_the_second() {
        let key = ResumeKey::new(b"fleet key");
        let token = key.seal(&ticket("ann"));
        assert_eq!(
            key.open(&token, 2000),
            Err(AuthError::Expired("resume token"))
        );
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(user in "\\PC{1,40}", session in any::<[u8; 16]>(), login: u64, expires in 1_u64..) {
            let Ok(user) = UserId::new(&user) else { return Ok(()) };
            let ticket = Ticket { user, session: SessionId(session), login, expires };
            let key = ResumeKey::new(b"k");
            prop_assert_eq!(key.open(&key.seal(&ticket), 0), Ok(ticket));
        }

        #[test]
        fn a_changed_token_is_refused(at in 0_usize..80, flip in 1_u8..=255) {
            let key = ResumeKey::new(b"k");
            let mut bytes = URL_SAFE_NO_PAD.decode(key.seal(&ticket("ann"))).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(key.open(&URL_SAFE_NO_PAD.encode(bytes), 0).is_err());
        }

        #[test]
        fn nonsense_never_panics(text in "\\PC{0,200}|[A-Za-z0-9_-]{0,200}") {
            prop_assert!(ResumeKey::new(b"k").open(&text, 0).is_err());
        }
    }
}
