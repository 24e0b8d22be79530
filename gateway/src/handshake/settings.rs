//! Pure: what may be set about handshakes and client messages, as flags and as checked values. 0 always means no limit.

use clap::Args;

/// Limits on what clients do. With --dev those that are not given are off: there a name is anybody's.
#[derive(Clone, Debug, Default, Args)]
pub struct HandshakeArgs {
    /// Most connections of one user to this gateway; 0 sets no limit [default: 100].
    #[arg(long, env = "SLUICE_MAX_CONNECTIONS_PER_USER", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub max_connections_per_user: Option<u32>,
    /// Most connections from one client address (IPv6: from one /64) to this gateway; 0 sets no limit [default: 0]. Give
    /// --trusted-proxy-hops, too, when proxies stand before the gateway.
    #[arg(long, env = "SLUICE_MAX_CONNECTIONS_PER_ADDRESS", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub max_connections_per_address: Option<u32>,
    /// Handshakes per second, of everybody together; beyond it newcomers are told when to come; 0 sets no limit [default: 0].
    #[arg(long, env = "SLUICE_HANDSHAKES_PER_SECOND", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub handshakes_per_second: Option<u32>,
    /// Handshakes of one user per minute, all of which may come at once; 0 sets no limit [default: 120].
    #[arg(long, env = "SLUICE_HANDSHAKES_PER_MINUTE_PER_USER", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub handshakes_per_minute_per_user: Option<u32>,
    /// Handshakes from one client address per minute, all of which may come at once; 0 sets no limit [default: 0].
    #[arg(long, env = "SLUICE_HANDSHAKES_PER_MINUTE_PER_ADDRESS", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub handshakes_per_minute_per_address: Option<u32>,
    /// Frames from one client per second, of which ten seconds' worth may come at once; 0 sets no limit [default: 100].
    #[arg(long, env = "SLUICE_CLIENT_MESSAGES_PER_SECOND", value_parser = clap::value_parser!(u32).range(..=1_000_000), value_name = "N")]
    pub client_messages_per_second: Option<u32>,
    /// Proxies before the gateway that append to X-Forwarded-For; the client's address is the one that the outermost of them
    /// saw. 0 takes the address that the connection comes from.
    #[arg(
        long,
        env = "SLUICE_TRUSTED_PROXY_HOPS",
        default_value_t = 0,
        value_name = "N"
    )]
    pub trusted_proxy_hops: u8,
}

/// Limits on what clients do; 0 sets none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeConfig {
    /// Connections of one user.
    pub connections_per_user: u32,
    /// Connections from one client address.
    pub connections_per_address: u32,
    /// Handshakes per second, of everybody together.
    pub per_second: u32,
    /// Handshakes of one user per minute.
    pub per_minute_per_user: u32,
    /// Handshakes from one client address per minute.
    pub per_minute_per_address: u32,
    /// Frames from one session's clients per second.
    pub messages_per_second: u32,
    /// Proxies whose `X-Forwarded-For` entries are believed.
    pub trusted_hops: u8,
}

/// Connections of one user unless set: far above a person's devices and tabs, far below what one account may take from others.
const CONNECTIONS_PER_USER: u32 = 100;

/// Handshakes of one user per minute unless set: all those connections may come back at once.
const HANDSHAKES_PER_MINUTE_PER_USER: u32 = 120;

/// Frames of one client per second unless set: a client acknowledges half a window at a time, so this allows it some 12,000
/// notifications per second with the default window.
const MESSAGES_PER_SECOND: u32 = 100;

impl HandshakeArgs {
    /// Fills in what was not given.
    pub fn checked(&self, dev: bool) -> HandshakeConfig {
        let unless_dev =
            |given: Option<u32>, usual: u32| given.unwrap_or(if dev { 0 } else { usual });
        HandshakeConfig {
            connections_per_user: unless_dev(self.max_connections_per_user, CONNECTIONS_PER_USER),
            connections_per_address: self.max_connections_per_address.unwrap_or(0),
            per_second: self.handshakes_per_second.unwrap_or(0),
            per_minute_per_user: unless_dev(
                self.handshakes_per_minute_per_user,
                HANDSHAKES_PER_MINUTE_PER_USER,
            ),
            per_minute_per_address: self.handshakes_per_minute_per_address.unwrap_or(0),
            messages_per_second: unless_dev(self.client_messages_per_second, MESSAGES_PER_SECOND),
            trusted_hops: self.trusted_proxy_hops,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_proof_has_no_limits_unless_they_are_asked_for() {
        let nothing = HandshakeArgs::default();
        assert_eq!(nothing.checked(true), HandshakeConfig::default());
        let given = HandshakeArgs {
            max_connections_per_user: Some(3),
            ..HandshakeArgs::default()
        };
        assert_eq!(given.checked(true).connections_per_user, 3);
    }

    #[test]
    fn a_fleet_limits_users_and_no_addresses() {
        let usual = HandshakeArgs::default().checked(false);
        assert!(usual.connections_per_user > 0 && usual.messages_per_second > 0);
        assert!(usual.per_minute_per_user >= usual.connections_per_user);
        assert_eq!(
            (usual.connections_per_address, usual.per_minute_per_address),
            (0, 0)
        );
    }
}
