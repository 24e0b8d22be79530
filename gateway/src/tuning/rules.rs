//! Pure: the thresholds that may be changed while the gateway runs, with their defaults and what values make sense. Flags and
//! `PUT /v1/limits` fill in the same structs. The defaults are those of the CRD.

use clap::Args;
use serde::{Deserialize, Serialize};

/// Everything that may be changed while the gateway runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(default)]
pub struct Rules {
    /// Which set of thresholds this is; the operator sends another one when this is not the one it wants.
    #[arg(
        long = "limits-generation",
        env = "SLUICE_LIMITS_GENERATION",
        default_value = "",
        hide_default_value = true,
        value_name = "TEXT"
    )]
    pub generation: String,
    /// When newcomers are refused.
    #[command(flatten)]
    pub breaker: BreakerRules,
    /// When a connection is given up.
    #[command(flatten)]
    pub health: HealthRules,
}

/// When newcomers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(default)]
pub struct BreakerRules {
    /// Newcomers are refused from this share of the connection limit on, percent.
    #[arg(long = "breaker-connections-percent", env = "SLUICE_BREAKER_CONNECTIONS_PERCENT", default_value_t = Self::default().connections_percent, value_name = "N")]
    pub connections_percent: u8,
    /// Newcomers are refused from this share of the container's memory limit on, percent.
    #[arg(long = "breaker-memory-percent", env = "SLUICE_BREAKER_MEMORY_PERCENT", default_value_t = Self::default().memory_percent, value_name = "N")]
    pub memory_percent: u8,
    /// So far below the threshold a reading must fall to count as good again, percent points.
    #[arg(long = "breaker-margin-percent", env = "SLUICE_BREAKER_MARGIN_PERCENT", default_value_t = Self::default().margin_percent, value_name = "N")]
    pub margin_percent: u8,
    /// Newcomers are refused from this number of tasks on; 0 takes twice the connection limit plus 4096.
    #[arg(long = "breaker-max-tasks", env = "SLUICE_BREAKER_MAX_TASKS", default_value_t = Self::default().max_tasks, value_name = "N")]
    pub max_tasks: u32,
    /// Readings must be good for this long before the first newcomers are tried, seconds.
    #[arg(long = "breaker-open-seconds", env = "SLUICE_BREAKER_OPEN_SECONDS", default_value_t = Self::default().open_seconds, value_name = "N")]
    pub open_seconds: u16,
    /// Readings must stay good for this long with those newcomers before everybody is taken, seconds.
    #[arg(long = "breaker-half-open-seconds", env = "SLUICE_BREAKER_HALF_OPEN_SECONDS", default_value_t = Self::default().half_open_seconds, value_name = "N")]
    pub half_open_seconds: u16,
    /// Newcomers tried per second meanwhile.
    #[arg(long = "breaker-probes-per-second", env = "SLUICE_BREAKER_PROBES_PER_SECOND", default_value_t = Self::default().probes_per_second, value_name = "N")]
    pub probes_per_second: u32,
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self {
            connections_percent: 95,
            memory_percent: 80,
            margin_percent: 5,
            max_tasks: 0,
            open_seconds: 5,
            half_open_seconds: 5,
            probes_per_second: 10,
        }
    }
}

/// When a connection is given up, and when an address is left alone for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Args)]
#[serde(default)]
pub struct HealthRules {
    /// Stalls and late answers count against a connection for this long, seconds.
    #[arg(long = "health-window-seconds", env = "SLUICE_HEALTH_WINDOW_SECONDS", default_value_t = Self::default().window_seconds, value_name = "N")]
    pub window_seconds: u16,
    /// A socket that takes nothing for this long has stalled, seconds.
    #[arg(long = "health-stall-seconds", env = "SLUICE_HEALTH_STALL_SECONDS", default_value_t = Self::default().stall_seconds, value_name = "N")]
    pub stall_seconds: u16,
    /// An answer to a probe that takes longer is late, seconds.
    #[arg(long = "health-answer-seconds", env = "SLUICE_HEALTH_ANSWER_SECONDS", default_value_t = Self::default().answer_seconds, value_name = "N")]
    pub answer_seconds: u16,
    /// A connection with a score below this is evicted, hundredths; 0 evicts nobody.
    #[arg(long = "health-evict-below", env = "SLUICE_HEALTH_EVICT_BELOW", default_value_t = Self::default().evict_below, value_name = "N")]
    pub evict_below: u8,
    /// Once it has been below for this long, seconds.
    #[arg(long = "health-evict-after-seconds", env = "SLUICE_HEALTH_EVICT_AFTER_SECONDS", default_value_t = Self::default().evict_after_seconds, value_name = "N")]
    pub evict_after_seconds: u16,
    /// Evictions from one address after which it is refused for a while; 0 refuses nobody.
    #[arg(long = "health-trip-evictions", env = "SLUICE_HEALTH_TRIP_EVICTIONS", default_value_t = Self::default().trip_evictions, value_name = "N")]
    pub trip_evictions: u8,
    /// Time in which those evictions must happen, seconds.
    #[arg(long = "health-trip-window-seconds", env = "SLUICE_HEALTH_TRIP_WINDOW_SECONDS", default_value_t = Self::default().trip_window_seconds, value_name = "N")]
    pub trip_window_seconds: u16,
    /// How long the address is then refused, seconds.
    #[arg(long = "health-trip-seconds", env = "SLUICE_HEALTH_TRIP_SECONDS", default_value_t = Self::default().trip_seconds, value_name = "N")]
    pub trip_seconds: u16,
    /// An address with more connections than this is a proxy or a NAT and is never refused.
    #[arg(long = "health-trip-connections", env = "SLUICE_HEALTH_TRIP_CONNECTIONS", default_value_t = Self::default().trip_connections, value_name = "N")]
    pub trip_connections: u16,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self {
            window_seconds: 120,
            stall_seconds: 5,
            answer_seconds: 3,
            evict_below: 40,
            evict_after_seconds: 5,
            trip_evictions: 0,
            trip_window_seconds: 300,
            trip_seconds: 60,
            trip_connections: 3,
        }
    }
}

/// Most evictions of one address that may be asked for: each is remembered.
pub const TRIP_EVICTIONS_MAX: u8 = 10;

/// Longest generation, bytes.
pub const GENERATION_BYTES: usize = 64;

impl Rules {
    /// What is wrong with these values and what would work; `Ok` when nothing is. The same bounds as in the CRD.
    pub fn check(&self) -> Result<(), String> {
        let (breaker, health) = (&self.breaker, &self.health);
        if self.generation.len() > GENERATION_BYTES {
            return Err(format!(
                "the generation may have {GENERATION_BYTES} bytes at most"
            ));
        }
        let ranges = [
            (
                "breaker connections_percent",
                breaker.connections_percent.into(),
                1,
                100,
            ),
            (
                "breaker memory_percent",
                breaker.memory_percent.into(),
                1,
                100,
            ),
            (
                "breaker margin_percent",
                breaker.margin_percent.into(),
                0,
                50,
            ),
            ("breaker open_seconds", breaker.open_seconds.into(), 1, 600),
            (
                "breaker half_open_seconds",
                breaker.half_open_seconds.into(),
                1,
                600,
            ),
            (
                "breaker probes_per_second",
                breaker.probes_per_second,
                1,
                100_000,
            ),
            (
                "health window_seconds",
                health.window_seconds.into(),
                1,
                3600,
            ),
            ("health stall_seconds", health.stall_seconds.into(), 1, 600),
            (
                "health answer_seconds",
                health.answer_seconds.into(),
                1,
                600,
            ),
            ("health evict_below", health.evict_below.into(), 0, 100),
            (
                "health evict_after_seconds",
                health.evict_after_seconds.into(),
                0,
                600,
            ),
            (
                "health trip_evictions",
                health.trip_evictions.into(),
                0,
                TRIP_EVICTIONS_MAX.into(),
            ),
            (
                "health trip_window_seconds",
                health.trip_window_seconds.into(),
                1,
                3600,
            ),
            ("health trip_seconds", health.trip_seconds.into(), 1, 3600),
            (
                "health trip_connections",
                health.trip_connections.into(),
                1,
                1000,
            ),
        ];
        for (name, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} {value}: use {least} to {most}"));
            }
        }
        let lowest = breaker.connections_percent.min(breaker.memory_percent);
        if breaker.margin_percent >= lowest {
            return Err(format!(
                "breaker margin_percent {} would never be reached: use less than {lowest}",
                breaker.margin_percent
            ));
        }
        if health.evict_after_seconds >= health.window_seconds {
            return Err(format!(
                "health evict_after_seconds {}: nothing counts that long, use less than {}",
                health.evict_after_seconds, health.window_seconds
            ));
        }
        if health.trip_evictions == 1 {
            return Err("health trip_evictions 1: one eviction is no pattern, use 0 or 2".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Rules {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        assert_eq!(read("{}"), Rules::default());
        let some = read(r#"{"generation":"g","breaker":{"memory_percent":70,"of_tomorrow":1}}"#);
        assert_eq!(
            (
                some.breaker.memory_percent,
                some.breaker.connections_percent
            ),
            (70, 95)
        );
        assert_eq!(some.check(), Ok(()));
        assert_eq!(Rules::default().check(), Ok(()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let cases = [
            (r#"{"breaker":{"connections_percent":0}}"#, "1 to 100"),
            (r#"{"breaker":{"memory_percent":101}}"#, "1 to 100"),
            (r#"{"breaker":{"memory_percent":5}}"#, "less than 5"),
            (r#"{"breaker":{"open_seconds":0}}"#, "1 to 600"),
            (r#"{"breaker":{"probes_per_second":0}}"#, "1 to 100000"),
            (r#"{"health":{"trip_evictions":1}}"#, "use 0 or 2"),
            (r#"{"health":{"trip_evictions":11}}"#, "0 to 10"),
            (
                r#"{"health":{"window_seconds":5,"evict_after_seconds":5}}"#,
                "less than 5",
            ),
        ];
        for (text, works) in cases {
            let why = read(text).check().unwrap_err();
            assert!(why.contains(works), "{text}: {why}");
        }
        let long = Rules {
            generation: "g".repeat(GENERATION_BYTES + 1),
            ..Rules::default()
        };
        assert!(long.check().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(percent in 1u8..=100, seconds in 1u16..=600, tasks: u32) {
            let rules = Rules {
                generation: format!("g{percent}"),
                breaker: BreakerRules { connections_percent: percent, open_seconds: seconds, max_tasks: tasks, ..BreakerRules::default() },
                health: HealthRules { stall_seconds: seconds, ..HealthRules::default() },
            };
            let text = serde_json::to_string(&rules).unwrap();
            prop_assert_eq!(read(&text), rules);
        }
    }
}
