//! Golden cases of the plan: each folder of `plan/` has what was seen and what is to be done.
//! `UPDATE=1 cargo test -p sluice-operator --test plan` writes the plans anew; read the difference.
#![allow(clippy::unwrap_used, clippy::panic)]

mod story;

use sluice_operator::fleet::plan::{Action, plan};
use std::path::{Path, PathBuf};
use story::{Story, short};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let mut cases: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    cases
}

fn story(case: &Path) -> Story {
    let text = std::fs::read_to_string(case.join("input.yaml")).unwrap();
    // By way of JSON: YAML would write enums as tags.
    let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", case.display()))
}

#[test]
fn plans_are_as_written_down() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let story = story(&case);
        let (observed, now) = story.observed();
        let made = plan(&observed, now);
        let text = serde_yaml::to_string(&short(&made, story.full)).unwrap();
        let file = case.join("plan.yaml");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        if text != expected {
            wrong.push(format!(
                "--- {}\n{text}\n+++ expected\n{expected}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_input_gives_the_same_plan_after_a_round_trip() {
    for case in cases() {
        let (observed, now) = story(&case).observed();
        let text = serde_json::to_string(&observed).unwrap();
        let again = serde_json::from_str(&text).unwrap();
        assert_eq!(observed, again, "{}", case.display());
        assert_eq!(
            plan(&observed, now),
            plan(&again, now),
            "{}",
            case.display()
        );
    }
}

#[test]
fn no_case_deletes_a_pod_that_may_have_clients() {
    for case in cases() {
        let story = story(&case);
        let (observed, now) = story.observed();
        for action in plan(&observed, now).actions {
            let Action::DeletePod { pod, .. } = action else {
                continue;
            };
            let seen = observed
                .pods
                .iter()
                .find(|other| other.uid == pod.uid)
                .unwrap();
            assert!(
                story::may_be_deleted(seen, now),
                "{}: {}",
                case.display(),
                pod.name
            );
        }
    }
}
