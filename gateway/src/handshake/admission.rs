//! Effects (clock, random numbers, locks): whether this client may come now, may have one more connection, may say one more thing.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_protocol::{ErrorCode, UserId};

use super::address::client_block;
use super::limiter::{Key, Rate};
use super::metrics::{HandshakeMetrics, Limit};
use super::seats::{Seat, Seats, Taken};
use super::settings::HandshakeConfig;
use crate::auth::resume::SessionId;
use crate::core::Core;
use crate::error::ApiError;
use crate::limits;
use crate::metrics::level;

/// The limits on what clients do.
#[derive(Debug)]
pub struct Admission {
    /// Proxies whose `X-Forwarded-For` entries are believed.
    trusted_hops: u8,
    /// Makes keys that nobody outside can aim at one line of a table.
    hasher: RandomState,
    handshakes: Option<Rate>,
    user_handshakes: Option<Rate>,
    address_handshakes: Option<Rate>,
    messages: Option<Rate>,
    users: Arc<Seats>,
    addresses: Arc<Seats>,
    metrics: HandshakeMetrics,
}

/// A client's right to one connection, for its user and its address; given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    _user: Option<Seat>,
    _address: Option<Seat>,
}

impl Admission {
    /// Nobody is known yet.
    pub fn new(config: &HandshakeConfig, metrics: HandshakeMetrics) -> Self {
        let most = limits::LIMITED_CLIENTS;
        Self {
            trusted_hops: config.trusted_hops,
            hasher: RandomState::new(),
            handshakes: Rate::per_second(config.per_second, 1, 1),
            user_handshakes: Rate::per_minute(config.per_minute_per_user, most),
            address_handshakes: Rate::per_minute(config.per_minute_per_address, most),
            messages: Rate::per_second(
                config.messages_per_second,
                limits::MESSAGE_BURST_SECONDS,
                most,
            ),
            users: Seats::new(config.connections_per_user),
            addresses: Seats::new(config.connections_per_address),
            metrics,
        }
    }

    /// Proxies whose `X-Forwarded-For` entries are believed.
    pub fn trusted_hops(&self) -> u8 {
        self.trusted_hops
    }

    /// Whether it matters which address a client has.
    pub fn asks_for_addresses(&self) -> bool {
        self.address_handshakes.is_some() || self.addresses.are_limited()
    }

    /// One more handshake, from this address when it matters; asked before credentials are looked at.
    pub fn handshake(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        if let (Some(rate), Some(address)) = (&self.address_handshakes, address) {
            let key = self.key(client_block(address));
            self.spend(rate, key, Limit::AddressHandshakes)?;
        }
        let Some(rate) = &self.handshakes else {
            return Ok(());
        };
        rate.check(Key(1)).map_err(|wait| {
            self.metrics.limit(Limit::Handshakes);
            let text = "too many handshakes in this second: come back later";
            ApiError::new(ErrorCode::Overload, text).after_ms(with_jitter(wait))
        })
    }

    /// One more handshake of this user; asked once credentials have shown who it is.
    pub fn user_handshake(&self, user: &UserId) -> Result<(), ApiError> {
        match &self.user_handshakes {
            Some(rate) => self.spend(rate, self.key(user.as_str()), Limit::UserHandshakes),
            None => Ok(()),
        }
    }

    /// One more connection of this user from this address. One that replaces another of its session takes no room.
    pub fn connection(
        &self,
        user: &UserId,
        address: Option<IpAddr>,
        replaces: bool,
    ) -> Result<Admitted, Limit> {
        let key = self.key(user.as_str());
        let user = self.users.take(key, replaces);
        let user = user.map_err(|Taken| Limit::UserConnections)?;
        let address = address.map_or(Ok(None), |address| {
            self.addresses
                .take(self.key(client_block(address)), replaces)
        });
        let address = address.map_err(|Taken| Limit::AddressConnections)?;
        Ok(Admitted {
            _user: user,
            _address: address,
        })
    }

    /// What somebody is told for whom there is no connection left.
    pub fn no_connection(&self, limit: Limit) -> ApiError {
        self.metrics.limit(limit);
        let text = match limit {
            Limit::UserConnections => {
                "this user has as many connections as one may have: close one"
            }
            _ => "this address has as many connections as one may have: close one",
        };
        ApiError::new(ErrorCode::RateLimited, text).after_ms(retry_after_when_full())
    }

    /// One more frame of this session's client, or an error to send before the connection is closed.
    pub fn frame(&self, session: SessionId) -> Result<(), ApiError> {
        match &self.messages {
            Some(rate) => self.spend(rate, self.key(session), Limit::Messages),
            None => Ok(()),
        }
    }

    /// Forgets who was quiet, for ever; ends with its task.
    pub async fn sweep(core: Arc<Core>) {
        let mut every = tokio::time::interval(limits::LIMIT_SWEEP);
        loop {
            every.tick().await;
            core.auth.sweep();
            core.admission.sweep_now();
        }
    }

    fn sweep_now(&self) {
        let mut clients = 0;
        for rate in [
            &self.user_handshakes,
            &self.address_handshakes,
            &self.messages,
        ]
        .into_iter()
        .flatten()
        {
            rate.sweep();
            clients += rate.clients();
        }
        for seats in [&self.users, &self.addresses] {
            seats.shrink();
            clients += seats.clients();
        }
        self.metrics.limited_clients.set(level(clients));
    }

    fn spend(&self, rate: &Rate, key: Key, limit: Limit) -> Result<(), ApiError> {
        rate.check(key).map_err(|wait| {
            self.metrics.limit(limit);
            let text = match limit {
                Limit::Messages => "too many messages: say less",
                Limit::AddressHandshakes => {
                    "too many handshakes from this address: come back later"
                }
                _ => "too many handshakes of this user: come back later",
            };
            ApiError::new(ErrorCode::RateLimited, text).after_ms(with_jitter(wait))
        })
    }

    fn key(&self, client: impl Hash) -> Key {
        Key(self.hasher.hash_one(client))
    }
}

/// Until there is room again, and a little longer, differently for each: those who were refused together must not come back
/// together.
fn with_jitter(wait: Duration) -> u64 {
    wait.as_millis() as u64 + retry_after()
}

/// A wait for newcomers that are refused because of everybody, milliseconds.
pub fn retry_after() -> u64 {
    draw(limits::RETRY_AFTER_SECONDS)
}

/// A wait for those that can only wait for their own other connections to end, milliseconds.
fn retry_after_when_full() -> u64 {
    draw(limits::RETRY_AFTER_WHEN_FULL_SECONDS)
}

fn draw((least, most): (u64, u64)) -> u64 {
    rand::random_range(least * 1000..=most * 1000)
}
