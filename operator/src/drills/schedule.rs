//! When a drill is due (pure), with a CronJob's rules: the latest run that was missed is made up
//! for within its starting deadline, none runs beside another, and finished ones are kept up to a
//! limit for each kind of end.

use crate::limits::SCHEDULE_HORIZON_DAYS;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use sluice_crds::ChaosDrillSpec;
use sluice_crds::chaos_experiment::Verdict;

/// A schedule that was read.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a schedule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The expression is no cron expression of five fields.
    #[error("schedule {schedule:?} is no cron expression of five fields: {why}")]
    Cron {
        /// The expression.
        schedule: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such time zone.
    #[error("time zone {zone:?} is unknown: use an IANA name like Europe/Berlin, or UTC")]
    Zone {
        /// The name.
        zone: String,
    },
    /// No date matches.
    #[error("schedule {schedule:?} never comes")]
    Never {
        /// The expression.
        schedule: String,
    },
}

impl Schedule {
    /// Reads expression and time zone; `now` only to see that a date will come.
    pub fn read(schedule: &str, zone: &str, now: Timestamp) -> Result<Self, ScheduleError> {
        let bad = |why: String| ScheduleError::Cron {
            schedule: schedule.to_owned(),
            why,
        };
        if schedule.trim_start().starts_with('@') {
            return Err(bad("names like @daily are not supported".to_owned()));
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(schedule)
            .map_err(|error| bad(error.to_string()))?;
        let zone = TimeZone::get(zone).map_err(|_| ScheduleError::Zone {
            zone: zone.to_owned(),
        })?;
        let read = Self { cron, zone };
        if read.next(now).is_none() {
            return Err(ScheduleError::Never {
                schedule: schedule.to_owned(),
            });
        }
        Ok(read)
    }

    /// The first moment after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let from = after.to_zoned(self.zone.clone());
        let next = self
            .cron
            .find_next_occurrence(&from, false)
            .ok()?
            .timestamp();
        let horizon = SignedDuration::from_hours(24 * SCHEDULE_HORIZON_DAYS);
        (next.duration_since(after) <= horizon).then_some(next)
    }

    /// The last moment up to and including `until`, but after `after`.
    pub fn latest(&self, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        let from = until.to_zoned(self.zone.clone());
        let last = self
            .cron
            .find_previous_occurrence(&from, true)
            .ok()?
            .timestamp();
        (last > after && last <= until).then_some(last)
    }
}

/// A drill as far as its schedule goes.
#[derive(Clone, Debug)]
pub struct DrillView {
    /// metadata.name
    pub name: String,
    /// metadata.creationTimestamp
    pub created: Timestamp,
    /// The spec.
    pub spec: ChaosDrillSpec,
    /// status.lastScheduleTime
    pub last: Option<Timestamp>,
    /// Its experiments.
    pub runs: Vec<RunView>,
}

/// An experiment of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// metadata.name
    pub name: String,
    /// metadata.creationTimestamp
    pub created: Timestamp,
    /// Its verdict, once it is over.
    pub verdict: Option<Verdict>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What is to be done about a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The run to make: its moment and its name.
    pub run: Option<(Timestamp, String)>,
    /// Why a run that is due is not made now.
    pub held: Option<String>,
    /// Experiments beyond the history limits.
    pub prune: Vec<String>,
    /// Name of the running experiment.
    pub active: Option<String>,
    /// Verdict of the experiment that finished last.
    pub last_verdict: Option<Verdict>,
    /// The next moment of the schedule.
    pub next: Option<Timestamp>,
}

/// Decides about a drill at `now`.
pub fn decide(drill: &DrillView, schedule: &Schedule, now: Timestamp) -> Due {
    let spec = &drill.spec;
    let deadline = SignedDuration::from_secs(i64::from(spec.starting_deadline_seconds));
    let too_old = now.checked_sub(deadline).unwrap_or(Timestamp::MIN);
    let after = drill.last.unwrap_or(drill.created).max(too_old);
    let due = schedule.latest(after, now);
    let active = drill
        .runs
        .iter()
        .find(|run| run.verdict.is_none())
        .map(|run| run.name.clone());
    let (run, held) = match (due, &active) {
        (None, _) => (None, None),
        (Some(_), _) if spec.suspend => (None, Some("the drill is suspended".to_owned())),
        (Some(_), Some(active)) => (None, Some(format!("{active} is still running"))),
        (Some(at), None) => (Some((at, run_name(&drill.name, at))), None),
    };
    Due {
        run,
        held,
        prune: prune(drill),
        active,
        last_verdict: newest(&drill.runs).and_then(|run| run.verdict),
        next: schedule.next(now),
    }
}

/// Name of the experiment of a moment: the same whoever makes it, so it is made once.
pub fn run_name(drill: &str, at: Timestamp) -> String {
    format!("{drill}-{}", at.as_second().div_euclid(60))
}

fn newest(runs: &[RunView]) -> Option<&RunView> {
    let finished = runs.iter().filter(|run| run.verdict.is_some());
    finished.max_by_key(|run| (run.created, &run.name))
}

/// Finished experiments beyond the limits, oldest first.
fn prune(drill: &DrillView) -> Vec<String> {
    let over = |passed: bool, limit: i32| {
        let mut runs: Vec<_> = drill
            .runs
            .iter()
            .filter(|run| {
                run.verdict
                    .is_some_and(|v| (v == Verdict::Passed) == passed)
            })
            .collect();
        runs.sort_by_key(|run| (run.created, &run.name));
        let keep = usize::try_from(limit).unwrap_or(0);
        let surplus = runs.len().saturating_sub(keep);
        runs.into_iter()
            .take(surplus)
            .filter(|run| !run.deleting)
            .map(|run| run.name.clone())
            .collect::<Vec<_>>()
    };
    let mut names = over(true, drill.spec.successful_history_limit);
    names.extend(over(false, drill.spec.failed_history_limit));
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::{DrillView, Due, RunView, Schedule, ScheduleError, decide};
    use jiff::Timestamp;
    use serde_json::json;
    use sluice_crds::chaos_experiment::Verdict;

    #[test]
    fn summer_time_neither_repeats_nor_swallows_a_run() {
        let berlin = read("30 2 * * *", "Europe/Berlin");
        // Clocks go back on 2026-10-25: 02:30 comes twice, the run once.
        let mut at = time("2026-10-24T12:00:00Z");
        let mut runs = Vec::new();
        for _ in 0..3 {
            at = berlin.next(at).unwrap();
            runs.push(at.to_string());
        }
        assert_eq!(
            runs,
            [
                "2026-10-25T00:30:00Z",
                "2026-10-26T01:30:00Z",
                "2026-10-27T01:30:00Z"
            ]
        );
        // Clocks go forward on 2026-03-29: there is no 02:30, the run comes after the gap.
        let next = berlin.next(time("2026-03-28T12:00:00Z")).unwrap();
        assert_eq!(next, time("2026-03-29T01:00:00Z"));
        // An hourly drill goes on hourly through both.
        let hourly = read("0 * * * *", "Europe/Berlin");
        let mut at = time("2026-10-24T23:30:00Z");
        for hour in 0..4 {
            at = hourly.next(at).unwrap();
            assert_eq!(at, time(&format!("2026-10-25T0{hour}:00:00Z")));
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_the_reason() {
        let now = time("2026-11-01T00:00:00Z");
        for bad in [
            "",
            "* * * *",
            "61 * * * *",
            "* * * * * *",
            "x * * * *",
            "@daily",
        ] {
            let told = Schedule::read(bad, "UTC", now);
            assert!(
                matches!(told, Err(ScheduleError::Cron { .. })),
                "{bad}: {told:?}"
            );
        }
        let told = Schedule::read("* * * * *", "Mars/Olympus", now);
        assert!(matches!(told, Err(ScheduleError::Zone { .. })), "{told:?}");
        let told = Schedule::read("0 0 30 2 *", "UTC", now);
        assert!(told.is_err(), "{told:?}");
    }

    #[test]
    fn a_due_run_is_made_once_under_a_name_of_its_moment() {
        let mut drill = drill();
        let made = due(&drill, "2026-11-01T10:00:20Z");
        let at = time("2026-11-01T10:00:00Z");
        assert_eq!(made.run, Some((at, "d-29892120".to_owned())));
        assert_eq!(made.next, Some(time("2026-11-01T11:00:00Z")));
        drill.last = Some(at);
        assert_eq!(due(&drill, "2026-11-01T10:00:21Z").run, None);
    }

    #[test]
    fn a_missed_run_is_made_up_for_within_the_deadline_only() {
        let drill = drill();
        assert!(due(&drill, "2026-11-01T10:01:00Z").run.is_none());
        assert!(due(&drill, "2026-11-01T10:00:59Z").run.is_some());
    }

    #[test]
    fn nothing_is_made_up_for_from_before_the_drill() {
        let mut drill = drill();
        drill.created = time("2026-11-01T10:00:10Z");
        assert!(due(&drill, "2026-11-01T10:00:20Z").run.is_none());
    }

    #[test]
    fn suspended_or_running_holds_back_and_says_why() {
        let mut one = drill();
        one.spec.suspend = true;
        let held = due(&one, "2026-11-01T10:00:20Z");
        assert_eq!(
            (held.run, held.held.unwrap()),
            (None, "the drill is suspended".to_owned())
        );
        let mut other = drill();
        other.runs = vec![run("d-1", 9, None)];
        let held = due(&other, "2026-11-01T10:00:20Z");
        assert_eq!(held.active.as_deref(), Some("d-1"));
        assert_eq!(
            (held.run, held.held.unwrap()),
            (None, "d-1 is still running".to_owned())
        );
    }

    #[test]
    fn history_is_kept_for_each_kind_of_end() {
        let mut drill = drill();
        drill.spec.successful_history_limit = 1;
        drill.spec.failed_history_limit = 0;
        drill.runs = vec![
            run("d-3", 3, Some(Verdict::Passed)),
            run("d-1", 1, Some(Verdict::Passed)),
            run("d-2", 2, Some(Verdict::Failed)),
            run("d-4", 4, Some(Verdict::Interrupted)),
            run("d-5", 5, None),
        ];
        let due = due(&drill, "2026-11-01T09:30:00Z");
        assert_eq!(due.prune, ["d-1", "d-2", "d-4"]);
        assert_eq!(due.last_verdict, Some(Verdict::Interrupted));
    }

    fn drill() -> DrillView {
        let spec = json!({
            "schedule": "0 * * * *",
            "template": {"spec": {"fleet": "f", "fault": {"type": "podKill"}}},
        });
        DrillView {
            name: "d".to_owned(),
            created: time("2026-11-01T00:00:00Z"),
            spec: serde_json::from_value(spec).unwrap(),
            last: None,
            runs: Vec::new(),
        }
    }

    fn run(name: &str, hour: i64, verdict: Option<Verdict>) -> RunView {
        RunView {
            name: name.to_owned(),
            created: Timestamp::from_second(hour * 3600).unwrap(),
            verdict,
            deleting: false,
        }
    }

    fn due(drill: &DrillView, now: &str) -> Due {
        let schedule = read(&drill.spec.schedule, &drill.spec.time_zone);
        decide(drill, &schedule, time(now))
    }

    fn read(schedule: &str, zone: &str) -> Schedule {
        Schedule::read(schedule, zone, time("2026-01-01T00:00:00Z")).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
}
