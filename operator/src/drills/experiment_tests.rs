//! Experiments told as stories against a fleet that is moved by hand (test).

#![allow(clippy::unwrap_used, clippy::panic)]

use super::experiment::{ExperimentView, Step, When, checked, step};
use super::look::{FleetLook, PodLook};
use crate::fleet::observed::DrainReason;
use jiff::Timestamp;
use serde_json::json;
use sluice_crds::ChaosExperimentStatus;
use sluice_crds::chaos_experiment::{CheckResult, FaultType, Phase, Target, Verdict};

#[test]
fn a_kill_that_is_recovered_from_passes() {
    let mut story = Story::new(3);
    story.until_injecting();
    let struck = story.strike();
    assert_eq!(struck.len(), 1);
    assert_eq!(story.view.status.phase, Phase::Injecting);

    story.gone(&struck[0].uid);
    story.write();
    assert_eq!(story.view.status.phase, Phase::Recovering);
    assert!(story.view.status.targets[0].confirmed);
    assert_eq!(story.step(), Step::Wait, "two of three are not whole");
    story.pass(20);
    story.pod("f-new", "u-new");
    story.write();
    assert_eq!(story.view.status.phase, Phase::CheckingAfter);
    assert_eq!(
        story.step(),
        Step::Wait,
        "Prometheus has not seen the new pod yet"
    );
    story.pass(6);
    assert_eq!(story.step(), Step::Check(When::After));
    story.check(When::After, true);
    let status = story.end(Verdict::Passed);
    let report = status.report.unwrap();
    assert_eq!(
        (report.recovery_seconds, report.connections_before),
        (Some(20), 30)
    );
    assert_eq!((report.pods_ready_before, report.pods_ready_after), (3, 3));
}

#[test]
fn the_finalizer_stands_before_anything_else_and_goes_last() {
    let mut story = Story::new(3);
    story.view.finalizer = false;
    assert_eq!(story.step(), Step::AddFinalizer);
    story.view.status.phase = Phase::Completed;
    assert_eq!(story.step(), Step::Done);
    story.view.finalizer = true;
    assert_eq!(story.step(), Step::RemoveFinalizer);
}

#[test]
fn a_hypothesis_that_does_not_hold_before_fails_without_a_fault() {
    let mut story = Story::new(3);
    story.until_checking();
    story.check(When::Before, false);
    let status = story.end(Verdict::Failed);
    assert!(status.targets.is_empty() && status.injected_at.is_none());
}

#[test]
fn a_hypothesis_has_until_the_timeout_to_come_back() {
    let mut story = Story::new(3);
    story.until_injecting();
    let struck = story.strike();
    story.replaced(&struck[0].uid);
    story.write();
    story.write();
    story.pass(30);
    let failed = |story: &Story| checked(&story.view, When::After, results(false), story.now);
    assert_eq!(failed(&story), None, "asked again later");
    story.pass(200);
    assert_eq!(failed(&story).unwrap().verdict, Some(Verdict::Failed));
}

#[test]
fn a_restarted_operator_strikes_the_same_pods_and_no_others() {
    let mut story = Story::new(5);
    story.view.spec.fault.count = 2;
    story.view.spec.max_affected_percent = 50;
    story.until_injecting();
    let first = story.strike();
    assert_eq!(first.len(), 2);
    // It dies after the first of two, which is terminating now; the next one goes on.
    story.terminating(&first[0].uid);
    assert_eq!(
        story.step(),
        Step::Strike(FaultType::PodKill, vec![first[1].clone()])
    );
    story.terminating(&first[1].uid);
    story.write();
    assert_eq!(story.view.status.phase, Phase::Recovering);
    assert!(
        story
            .view
            .status
            .targets
            .iter()
            .all(|target| !target.confirmed)
    );
}

#[test]
fn a_fault_that_does_nothing_proves_nothing() {
    let mut story = Story::new(3);
    story.until_injecting();
    story.strike();
    story.pass(181);
    let status = story.end(Verdict::Unproven);
    assert!(!status.targets[0].confirmed);
}

#[test]
fn a_pod_that_never_goes_proves_nothing() {
    let mut story = Story::new(3);
    story.until_injecting();
    let struck = story.strike();
    story.terminating(&struck[0].uid);
    story.write();
    story.pass(181);
    story.end(Verdict::Unproven);
}

#[test]
fn a_fleet_that_stays_short_fails() {
    let mut story = Story::new(3);
    story.until_injecting();
    let struck = story.strike();
    story.gone(&struck[0].uid);
    story.write();
    story.pass(181);
    story.end(Verdict::Failed);
}

#[test]
fn more_than_the_cap_allows_is_refused() {
    for (pods, count, percent, verdict) in [
        (3, 1, 34, None),
        (3, 1, 33, Some(Verdict::Unproven)),
        (3, 2, 34, Some(Verdict::Unproven)),
        (10, 3, 34, None),
        (1, 1, 99, Some(Verdict::Unproven)),
        (1, 1, 100, None),
    ] {
        let mut story = Story::new(pods);
        story.view.spec.fault.count = count;
        story.view.spec.max_affected_percent = percent;
        story.until_checking();
        let status = checked(&story.view, When::Before, results(true), story.now).unwrap();
        assert_eq!(status.verdict, verdict, "{count} of {pods} at {percent} %");
        assert_eq!(
            status.targets.len(),
            if verdict.is_none() { count as usize } else { 0 }
        );
    }
}

#[test]
fn a_fleet_that_is_not_quiet_is_waited_for_and_then_left_alone() {
    type Trouble = fn(&mut FleetLook);
    let troubles: [(&str, Trouble); 6] = [
        ("unready", |fleet| fleet.pods[0].ready = false),
        ("going", |fleet| fleet.pods[0].terminating = true),
        ("draining", |fleet| {
            fleet.pods[0].drain = Some(DrainReason::NodeDrain);
        }),
        ("rollout", |fleet| fleet.rolled_out = false),
        ("changed", |fleet| fleet.status_current = false),
        ("scaled", |fleet| fleet.desired = 4),
    ];
    for (name, trouble) in troubles {
        let mut story = Story::new(3);
        story.write();
        trouble(story.view.fleet.as_mut().unwrap());
        story.write();
        assert_eq!(story.view.status.phase, Phase::Pending, "{name}");
        assert_eq!(story.step(), Step::Wait, "{name}: says why once");
        story.pass(61);
        story.end(Verdict::Interrupted);
    }
    let mut story = Story::new(3);
    story.view.fleet = None;
    story.write();
    story.pass(61);
    story.end(Verdict::Interrupted);
}

#[test]
fn it_gives_way_to_what_matters_more_but_not_to_its_own_doing() {
    type Trouble = fn(&mut FleetLook);
    let more_important: [Trouble; 4] = [
        |fleet| fleet.rolled_out = false,
        |fleet| fleet.deleting = true,
        |fleet| fleet.pods[2].drain = Some(DrainReason::NodeDrain),
        |fleet| fleet.pods[2].drain = Some(DrainReason::ScaleIn),
    ];
    for trouble in more_important {
        let mut story = Story::new(3);
        story.until_injecting();
        trouble(story.view.fleet.as_mut().unwrap());
        story.end(Verdict::Interrupted);
    }
    let mut story = Story::new(3);
    story.until_injecting();
    let struck = story.strike();
    story.terminating(&struck[0].uid);
    story.write();
    let fleet = story.view.fleet.as_mut().unwrap();
    let pod = fleet
        .pods
        .iter_mut()
        .find(|pod| pod.uid == struck[0].uid)
        .unwrap();
    pod.drain = Some(DrainReason::Eviction);
    assert_eq!(story.step(), Step::Wait);
}

#[test]
fn a_deleted_experiment_is_interrupted_and_let_go() {
    let mut story = Story::new(3);
    story.until_injecting();
    story.view.deleting = true;
    story.end(Verdict::Interrupted);
    assert_eq!(story.step(), Step::RemoveFinalizer);
}

#[test]
fn only_the_first_of_a_fleet_begins() {
    let mut story = Story::new(3);
    story.view.ahead = Some("other".to_owned());
    story.write();
    assert_eq!(story.step(), Step::Wait);
    story.pass(1000);
    assert_eq!(
        story.step(),
        Step::Wait,
        "its turn is waited for without a limit"
    );
    story.view.ahead = None;
    story.until_checking();
}

#[test]
fn the_choice_follows_from_the_seed() {
    let choice = |uid: &str| {
        let mut story = Story::new(9);
        story.view.uid = uid.to_owned();
        story.until_injecting();
        story.view.status.targets[0].uid.clone()
    };
    assert_eq!(choice("a"), choice("a"));
    let all: std::collections::BTreeSet<_> = (0..40).map(|n| choice(&n.to_string())).collect();
    assert!(all.len() > 5, "{all:?}");
}

struct Story {
    view: ExperimentView,
    now: Timestamp,
}

impl Story {
    fn new(pods: usize) -> Self {
        let spec = json!({"fleet": "f", "fault": {"type": "podKill"}});
        let mut story = Self {
            now: Timestamp::from_second(1_800_000_000).unwrap(),
            view: ExperimentView {
                uid: "seed".to_owned(),
                generation: 1,
                deleting: false,
                finalizer: true,
                spec: serde_json::from_value(spec).unwrap(),
                status: ChaosExperimentStatus::default(),
                ahead: None,
                fleet: Some(FleetLook {
                    deleting: false,
                    status_current: true,
                    rolled_out: true,
                    desired: pods as u32,
                    pods: Vec::new(),
                    connections: 30,
                    prometheus: None,
                }),
            },
        };
        for n in 0..pods {
            story.pod(&format!("f-{n}"), &format!("u-{n}"));
        }
        story
    }

    fn step(&self) -> Step {
        step(&self.view, self.now)
    }

    /// The next step must be a status; writes it.
    fn write(&mut self) {
        match self.step() {
            Step::Write(status) => {
                assert_ne!(*status, self.view.status, "a write must say something new");
                self.view.status = *status;
            }
            other => panic!("expected a status, got {other:?} in {:?}", self.view.status),
        }
    }

    fn until_checking(&mut self) {
        self.write();
        self.write();
        assert_eq!(self.step(), Step::Check(When::Before));
    }

    fn until_injecting(&mut self) {
        self.until_checking();
        self.check(When::Before, true);
        assert_eq!(self.view.status.phase, Phase::Injecting);
    }

    fn check(&mut self, when: When, ok: bool) {
        self.view.status = checked(&self.view, when, results(ok), self.now).unwrap();
    }

    fn strike(&self) -> Vec<Target> {
        match self.step() {
            Step::Strike(FaultType::PodKill, targets) => targets,
            other => panic!("expected a fault, got {other:?}"),
        }
    }

    /// Goes on until it is over, which must be now and with this verdict.
    fn end(&mut self, verdict: Verdict) -> ChaosExperimentStatus {
        if self.view.status.phase != Phase::Completed {
            self.write();
        }
        let status = self.view.status.clone();
        assert_eq!(status.verdict, Some(verdict), "{:?}", status.report);
        assert_eq!(status.phase, Phase::Completed);
        let complete = &status.conditions[0];
        assert_eq!(
            (complete.type_.as_str(), complete.status.as_str()),
            ("Complete", "True")
        );
        assert_eq!(complete.reason, format!("{verdict:?}"));
        assert!(status.finished_at.is_some());
        status
    }

    fn pass(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
    }

    fn pod(&mut self, name: &str, uid: &str) {
        self.view.fleet.as_mut().unwrap().pods.push(PodLook {
            name: name.to_owned(),
            uid: uid.to_owned(),
            ready: true,
            terminating: false,
            drain: None,
        });
    }

    fn terminating(&mut self, uid: &str) {
        let fleet = self.view.fleet.as_mut().unwrap();
        fleet
            .pods
            .iter_mut()
            .find(|pod| pod.uid == uid)
            .unwrap()
            .terminating = true;
    }

    fn gone(&mut self, uid: &str) {
        self.view
            .fleet
            .as_mut()
            .unwrap()
            .pods
            .retain(|pod| pod.uid != uid);
    }

    fn replaced(&mut self, uid: &str) {
        self.gone(uid);
        self.pod("f-new", "u-new");
    }
}

fn results(ok: bool) -> Vec<CheckResult> {
    vec![CheckResult {
        name: "c".to_owned(),
        when: "x".to_owned(),
        value: "1".to_owned(),
        ok,
    }]
}
