//! Effects: upgrades per core-second with a resume token and with a fresh EdDSA token, and what one allocates, against a bare hyper upgrade.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::json;

use crate::bench::context::{Context, connect_request};
use crate::bench::figure::{Bound, Figure, Findings, Plot, median};
use crate::bench::floor::Kind;
use crate::bench::gateway::{Gateway, Setup};
use crate::bench::subject::{Floor, Ours, Subject, connected};
use crate::bench::swarm::client::Dialect;
use crate::bench::swarm::{Manner, Swarm};
use crate::bench::{limits, svg};
use crate::progress;

/// Upgrades whose allocations are counted on a floor; each one allocates the same.
const COUNTED: usize = 2000;

/// What one run of the gateway gave.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Upgrades per core-second.
    rate: f64,
    /// Allocated per upgrade, bytes.
    allocated: Option<f64>,
    /// Allocations per upgrade.
    allocations: Option<f64>,
    /// Left per upgrade after all connections are gone, bytes.
    left: Option<f64>,
}

/// Floor, resume tokens, EdDSA tokens, in turn.
///
/// # Errors
/// When a server fails or connections do not get in.
pub fn run(bench: &Context) -> Result<Findings> {
    let (mut floor, mut resumed, mut fresh) = (Vec::new(), Vec::new(), Vec::new());
    let (mut default, count) = (Vec::new(), bench.scale.upgrades);
    let issuer = Issuer::new(bench)?;
    let costs = Costs {
        hyper: floor_cost(bench, Kind::Upgrade)?,
        tungstenite: floor_cost(bench, Kind::Tungstenite)?,
    };
    for pair in 1..=bench.scale.pairs {
        floor.push(floor_rate(bench, Kind::Upgrade)?);
        resumed.push(with_resume_tokens(bench)?);
        default.push(floor_rate(bench, Kind::Tungstenite)?);
        fresh.push(with_fresh_tokens(bench, &issuer)?);
        progress::note(&format!(
            "  pair {pair} of {}: {count} upgrades each, per core-second: floor {:.0}, resume {:.0}, EdDSA {:.0}",
            bench.scale.pairs,
            floor.last().unwrap_or(&0.0),
            resumed.last().map_or(0.0, |r| r.rate),
            fresh.last().map_or(0.0, |r| r.rate),
        ));
    }
    Ok(findings(&costs, &floor, &default, &resumed, &fresh))
}

/// What an upgrade allocates on a floor.
#[derive(Clone, Copy, Debug)]
struct Cost {
    bytes: f64,
    allocations: f64,
}

/// Of both floors.
#[derive(Clone, Copy, Debug)]
struct Costs {
    hyper: Cost,
    tungstenite: Cost,
}

fn floor_cost(bench: &Context, kind: Kind) -> Result<Cost> {
    let mut floor = Floor::counted(bench, kind)?;
    let manner = Manner::of(Dialect::Floor);
    drop(connected(&floor, limits::DIALS_IN_FLIGHT, manner)?);
    std::thread::sleep(limits::SETTLE);
    let before = floor.allocated()?;
    let count = COUNTED.min(bench.scale.upgrades);
    let swarm = connected(&floor, count, manner)?;
    let after = floor.allocated()?;
    drop(swarm);
    let each = |after: u64, before: u64| (after - before) as f64 / count as f64;
    Ok(Cost {
        bytes: each(after.bytes, before.bytes),
        allocations: each(after.times, before.times),
    })
}

fn floor_rate(bench: &Context, kind: Kind) -> Result<f64> {
    let count = bench.scale.upgrades;
    let floor = Floor::start(bench, kind)?;
    // The first ones pay for code that is touched once.
    drop(connected(
        &floor,
        limits::DIALS_IN_FLIGHT,
        Manner::of(Dialect::Floor),
    )?);
    std::thread::sleep(limits::SETTLE);
    let before = floor.server().cpu_seconds()?;
    let swarm = connected(&floor, count, Manner::of(Dialect::Floor))?;
    std::thread::sleep(limits::SETTLE);
    let spent = floor.server().cpu_seconds()? - before;
    drop(swarm);
    Ok(count as f64 / spent)
}

/// The first visit earns the tokens, the second one is measured.
fn with_resume_tokens(bench: &Context) -> Result<Round> {
    let count = bench.scale.upgrades;
    let mut ours = Ours::start(bench, Setup::default(), count)?;
    let manner = Manner {
        keep_tokens: true,
        ..Manner::of(Dialect::Sluice)
    };
    let mut first = connected(&ours, count, manner)?;
    let tokens = std::mem::take(&mut first.tally.resume);
    drop(first);
    let tokens: Option<Vec<String>> = tokens.into_iter().collect();
    let tokens = tokens.context("a welcome came without a resume token")?;
    measure(&mut ours.gateway, count, &|n| {
        connect_request(&format!("resume={}", tokens[n]))
    })
}

fn with_fresh_tokens(bench: &Context, issuer: &Issuer) -> Result<Round> {
    let count = bench.scale.upgrades;
    let setup = Setup {
        jwks: Some(&issuer.set),
        ..Setup::default()
    };
    let mut gateway = Gateway::start(bench, setup)?;
    let mut warm = Swarm::new(gateway.clients, Manner::of(Dialect::Sluice))?;
    let token = |n: usize| connect_request(&format!("token={}", issuer.tokens[n]));
    warm.connect(limits::DIALS_IN_FLIGHT, &token)?;
    drop(warm);
    let rest = |n: usize| token(n + limits::DIALS_IN_FLIGHT);
    measure(&mut gateway, count, &rest)
}

fn measure(
    gateway: &mut Gateway,
    count: usize,
    request: &dyn Fn(usize) -> Vec<u8>,
) -> Result<Round> {
    gateway.emptied()?;
    std::thread::sleep(limits::SETTLE);
    let look = gateway.look()?;
    let before = gateway.server.cpu_seconds()?;
    let mut swarm = Swarm::new(gateway.clients, Manner::of(Dialect::Sluice))?;
    swarm.connect(count, request)?;
    std::thread::sleep(limits::SETTLE);
    let spent = gateway.server.cpu_seconds()? - before;
    let open = gateway.look()?;
    drop(swarm);
    gateway.emptied()?;
    std::thread::sleep(limits::SETTLE);
    let closed = gateway.look()?;
    let each = |after: Option<f64>, before: Option<f64>| {
        after
            .zip(before)
            .map(|(after, before)| (after - before) / count as f64)
    };
    Ok(Round {
        rate: count as f64 / spent,
        allocated: each(open.allocated, look.allocated),
        allocations: each(open.allocations, look.allocations),
        left: each(closed.heap, look.heap),
    })
}

fn findings(
    costs: &Costs,
    floor: &[f64],
    default: &[f64],
    resumed: &[Round],
    fresh: &[Round],
) -> Findings {
    let rates = |rounds: &[Round]| rounds.iter().map(|r| r.rate).collect::<Vec<_>>();
    let over = |rates: &[f64], floor: &[f64]| -> Vec<f64> {
        rates
            .iter()
            .zip(floor)
            .map(|(ours, floor)| ours / floor)
            .collect()
    };
    let all =
        |pick: fn(&Round) -> Option<f64>| -> Vec<f64> { resumed.iter().filter_map(pick).collect() };
    let (bytes, allocations) = (all(|r| r.allocated), all(|r| r.allocations));
    let share = |samples: &[f64], of: f64| samples.iter().map(|s| s / of).collect::<Vec<_>>();
    let unit = "upgrades/core-s";
    let bars: Vec<(String, f64)> = [
        ("bare hyper", median(floor)),
        ("Sluice, resume token", median(&rates(resumed))),
        ("Sluice, EdDSA token", median(&rates(fresh))),
        ("tungstenite accept", median(default)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    Findings {
        figures: vec![
            Figure::of("ratio_to_floor", "×", &over(&rates(resumed), floor))
                .must(Bound::AtLeast(limits::HANDSHAKE_RATIO))
                .note("resume token"),
            Figure::of("upgrades_per_core_second", unit, &rates(resumed)).note("resume token"),
            Figure::of("floor_upgrades_per_core_second", unit, floor)
                .note("accept and bare hyper upgrade"),
            Figure::of("eddsa_ratio_to_floor", "×", &over(&rates(fresh), floor))
                .note("a fresh EdDSA token"),
            Figure::of("eddsa_upgrades_per_core_second", unit, &rates(fresh)),
            Figure::of("tungstenite_upgrades_per_core_second", unit, default)
                .note("tungstenite's accept with its defaults"),
            Figure::of("bytes_over_hyper", "×", &share(&bytes, costs.hyper.bytes))
                .must(Bound::AtMost(limits::HANDSHAKE_COST_RATIO))
                .note(format!("bare hyper upgrade: {:.0} B", costs.hyper.bytes)),
            Figure::of(
                "allocations_over_hyper",
                "×",
                &share(&allocations, costs.hyper.allocations),
            )
            .must(Bound::AtMost(limits::HANDSHAKE_COST_RATIO))
            .note(format!(
                "bare hyper upgrade: {:.1}",
                costs.hyper.allocations
            )),
            Figure::of(
                "bytes_over_tungstenite",
                "×",
                &share(&bytes, costs.tungstenite.bytes),
            )
            .must(Bound::AtMost(limits::HANDSHAKE_TUNGSTENITE_SHARE))
            .note(format!(
                "default tungstenite accept: {:.0} B",
                costs.tungstenite.bytes
            )),
            Figure::of("bytes_per_upgrade", "B", &bytes),
            Figure::of("allocations_per_upgrade", "", &allocations),
            Figure::of("left_bytes_per_upgrade", "B", &all(|r| r.left))
                .must(Bound::AtMost(limits::HANDSHAKE_LEFT_BYTES))
                .note("after all are gone"),
        ],
        plots: vec![Plot {
            file: "handshake.svg",
            svg: svg::bars("Handshakes", "upgrades per core-second", &bars),
        }],
        ..Findings::default()
    }
}

/// A key pair, its key set in a file, and tokens signed with it.
struct Issuer {
    set: PathBuf,
    tokens: Vec<String>,
}

impl Issuer {
    fn new(bench: &Context) -> Result<Self> {
        let pair = KeyPair::generate_for(&PKCS_ED25519)?;
        let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "bench", "x": x}]});
        let path = bench.folder.join("keys.json");
        std::fs::write(&path, set.to_string())?;
        let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes())?;
        let header = Header {
            kid: Some("bench".into()),
            ..Header::new(Algorithm::EdDSA)
        };
        let life = i64::try_from(limits::TOKEN_LIFE.as_secs())?;
        let expires = jiff::Timestamp::now().as_second() + life;
        // Users of its own for the warm-up: a token that was seen may be remembered.
        let tokens =
            (0..bench.scale.upgrades + limits::DIALS_IN_FLIGHT).map(|n| -> Result<String> {
                let claims = json!({"sub": format!("user-{n}"), "exp": expires});
                Ok(encode(&header, &claims, &key)?)
            });
        Ok(Self {
            set: path,
            tokens: tokens.collect::<Result<_>>()?,
        })
    }
}
