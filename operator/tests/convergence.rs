//! The plan against a simulated cluster: whatever interrupts the operator, the end is the same and
//! no promise is broken on the way (DESIGN §8: 2, 3, 4, 6).
#![allow(clippy::unwrap_used, clippy::panic)]

mod story;
mod world;

use futures::executor::block_on;
use serde_json::{Value, json};
use sluice_operator::fleet::actuator::{ActError, Actuator};
use sluice_operator::fleet::observed::Observed;
use sluice_operator::fleet::plan::plan;
use world::{Effects, World};

/// Something that happens to the cluster at a second of a scenario.
type Happening = (u32, fn(&World));

/// A course of events.
struct Scenario {
    name: &'static str,
    spec: fn() -> Value,
    happenings: &'static [Happening],
    seconds: u32,
}

/// 5,000 clients, as in the demo.
fn clients(world: &World) {
    world.connect(5000);
}

const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "create",
        spec: || json!({}),
        happenings: &[(5, clients)],
        seconds: 20,
    },
    Scenario {
        name: "scale out and in",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| world.change(|spec| spec.replicas = 5)),
            (20, |world| world.connect(1500)),
            (30, |world| world.change(|spec| spec.replicas = 2)),
        ],
        seconds: 160,
    },
    Scenario {
        name: "rollout",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| {
                world.change(|spec| spec.max_connections_per_pod = 9000);
            }),
        ],
        seconds: 150,
    },
    Scenario {
        name: "rollout undone half-way",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| {
                world.change(|spec| spec.max_connections_per_pod = 9000);
            }),
            (18, |world| {
                world.change(|spec| spec.max_connections_per_pod = 10_000);
            }),
        ],
        seconds: 150,
    },
    Scenario {
        name: "limits changed without a rollout, during a scale-out",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| {
                world.change(|spec| spec.breaker.memory_percent = 70);
            }),
            (11, |world| world.change(|spec| spec.replicas = 5)),
            (12, |world| {
                world.change(|spec| spec.health.stall_seconds = 9);
            }),
        ],
        seconds: 60,
    },
    Scenario {
        name: "node drain",
        spec: || json!({}),
        happenings: &[(5, clients), (10, |world| world.cordon("n1", true))],
        seconds: 90,
    },
    Scenario {
        name: "node drain taken back half-way",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| world.cordon("n1", true)),
            (17, |world| world.cordon("n1", false)),
        ],
        seconds: 90,
    },
    Scenario {
        name: "eviction",
        spec: || json!({}),
        happenings: &[
            (5, clients),
            (10, |world| {
                world.cordon("n2", true);
                world.evict("news-1");
            }),
        ],
        seconds: 90,
    },
    Scenario {
        name: "kill",
        spec: || json!({}),
        happenings: &[(5, clients), (10, |world| world.kill("news-2"))],
        seconds: 60,
    },
    Scenario {
        name: "rollout, node drain and scale-in at once",
        spec: || json!({"replicas": 6, "maxConnectionsPerPod": 3000}),
        happenings: &[
            (5, clients),
            (10, |world| {
                world.change(|spec| spec.limits.window_messages = 128);
            }),
            (15, |world| world.cordon("n3", true)),
            (20, |world| world.change(|spec| spec.replicas = 4)),
            (200, |world| world.cordon("n3", false)),
        ],
        seconds: 400,
    },
];

/// Seconds without any write or move after which a scenario is over: longer than anything waits.
const REST_SECONDS: u32 = 15;

/// How the operator is treated.
#[derive(Clone, Copy, Debug)]
enum Operator {
    Undisturbed,
    /// Dies after every write and starts again.
    DiesAlways,
    /// Dies after this write.
    DiesAfter(u32),
    /// Reads a cache that is behind, by this seed.
    Lags(u64),
}

/// What is compared between runs.
#[derive(Debug, PartialEq)]
struct Outcome {
    end: Value,
    created: u32,
    deleted: u32,
    scaled: u32,
}

/// Plays a scenario to its end.
fn play(scenario: &Scenario, operator: Operator) -> (Outcome, Effects, World) {
    let world = World::new(story::spec(&(scenario.spec)()));
    let mut writes = 0;
    let mut past: Vec<Observed> = Vec::new();
    let mut random = Random(match operator {
        Operator::Lags(seed) => seed,
        _ => 0,
    });
    let mut resting = 0;
    for second in 0..scenario.seconds {
        for (_, happening) in scenario.happenings.iter().filter(|(at, _)| *at == second) {
            happening(&world);
        }
        // Every write is an event that brings the next look; a second has room for plenty.
        for _ in 0..30 {
            let observed = look(&world, operator, &mut past, &mut random);
            if !reconcile(&world, &observed, operator, &mut writes) {
                break;
            }
        }
        world.tick();
        watch_promises(scenario, &world);
        // Nothing more happens to a fleet that rests.
        let more = scenario.happenings.iter().any(|(at, _)| *at > second);
        let rests = world.state().rests() && !more;
        resting = if rests { resting + 1 } else { 0 };
        if resting > REST_SECONDS {
            break;
        }
    }
    let state = world.state();
    let outcome = Outcome {
        end: state.summary(),
        created: state.effects.created,
        deleted: state.effects.deleted,
        scaled: state.effects.scaled,
    };
    let effects = state.effects.clone();
    drop(state);
    (outcome, effects, world)
}

/// One look, plan and act. False when there was nothing to do.
fn reconcile(world: &World, observed: &Observed, operator: Operator, writes: &mut u32) -> bool {
    let now = world.state().now;
    let made = plan(observed, now);
    let done = !made.actions.is_empty();
    for action in &made.actions {
        match block_on(world.act(action)) {
            Ok(()) => *writes += 1,
            Err(ActError::Conflict { .. } | ActError::Failed { .. }) => continue,
            Err(error) => panic!("{error}"),
        }
        match operator {
            Operator::DiesAlways => return true,
            Operator::DiesAfter(write) if write == *writes => return true,
            _ => {}
        }
    }
    let mut state = world.state();
    state
        .status
        .stable_revision
        .clone_from(&made.status.stable_revision);
    done
}

/// What the operator sees: now, or what its cache held a while ago with what gateways say now.
fn look(
    world: &World,
    operator: Operator,
    past: &mut Vec<Observed>,
    random: &mut Random,
) -> Observed {
    let observed = world.observe();
    let Operator::Lags(_) = operator else {
        return observed;
    };
    past.push(observed.clone());
    let behind = if random.below(2) == 0 {
        random.below(8) as usize
    } else {
        0
    };
    let mut seen = past[past.len().saturating_sub(1 + behind)].clone();
    for pod in &mut seen.pods {
        let live = observed.pods.iter().find(|other| other.uid == pod.uid);
        pod.gateway = live.map(|other| other.gateway.clone()).unwrap_or_default();
    }
    seen
}

/// What must hold at every moment.
fn watch_promises(scenario: &Scenario, world: &World) {
    let state = world.state();
    let budget = state.spec.reconnect_budget.rate_per_second as u64;
    assert!(
        state.peak <= budget * 11 / 10,
        "{}: {} clients moved in one second",
        scenario.name,
        state.peak
    );
    assert_eq!(state.cut_off, 0, "{}: clients were cut off", scenario.name);
}

#[test]
fn an_undisturbed_operator_gets_there_and_rests() {
    for scenario in SCENARIOS {
        let (outcome, _, world) = play(scenario, Operator::Undisturbed);
        let state = world.state();
        assert_eq!(state.homeless, 0, "{}: {:?}", scenario.name, outcome);
        assert_eq!(outcome.end["marked"], 0, "{}: {:?}", scenario.name, outcome);
        assert_eq!(
            outcome.end["pods"], outcome.end["replicas"],
            "{}: {:?}",
            scenario.name, outcome
        );
        assert_eq!(
            outcome.end["accepting"], outcome.end["replicas"],
            "{}: {:?}",
            scenario.name, outcome
        );
        let rest = plan(&state.observe(), state.now);
        assert_eq!(rest.actions, [], "{}", scenario.name);
        assert_eq!(rest.waits, [], "{}", scenario.name);
    }
}

#[test]
fn a_rollout_moves_each_client_once() {
    let (_, _, world) = play(&SCENARIOS[2], Operator::Undisturbed);
    let state = world.state();
    assert!(
        state.moves >= 5000 && state.moves <= 5250,
        "{} moves of 5000 clients",
        state.moves
    );
}

#[test]
fn dying_after_every_write_changes_nothing() {
    for scenario in SCENARIOS {
        let (expected, ..) = play(scenario, Operator::Undisturbed);
        let (outcome, ..) = play(scenario, Operator::DiesAlways);
        assert_eq!(outcome, expected, "{}", scenario.name);
    }
}

#[test]
fn dying_after_any_single_write_changes_nothing() {
    for scenario in SCENARIOS {
        let (expected, effects, _) = play(scenario, Operator::Undisturbed);
        for write in 1..=effects.all {
            let (outcome, ..) = play(scenario, Operator::DiesAfter(write));
            assert_eq!(
                outcome, expected,
                "{} with a crash after write {write}",
                scenario.name
            );
        }
    }
}

#[test]
fn a_cache_that_lags_changes_nothing() {
    let seeds = std::env::var("SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(12u64);
    for scenario in SCENARIOS {
        let (expected, ..) = play(scenario, Operator::Undisturbed);
        for seed in 1..=seeds {
            let (outcome, ..) = play(scenario, Operator::Lags(seed));
            assert_eq!(outcome, expected, "{} with seed {seed}", scenario.name);
        }
    }
}

#[test]
fn a_fleet_out_of_earshot_is_left_as_it_is() {
    let world = World::new(story::spec(&json!({})));
    for second in 0..60 {
        if second == 5 {
            world.connect(5000);
        }
        if second == 10 {
            world.state().silent = vec!["n1".to_owned(), "n2".to_owned(), "n3".to_owned()];
            world.change(|spec| spec.replicas = 1);
        }
        let mut writes = 0;
        let observed = world.observe();
        reconcile(&world, &observed, Operator::Undisturbed, &mut writes);
        world.tick();
    }
    assert_eq!(world.state().effects.deleted, 0);
    assert_eq!(world.state().pods.len(), 3);
}

/// A small generator (xorshift), so that a seed is a whole run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        self.0 ^= self.0 >> 30;
        self.0 % bound
    }
}
