//! The generated CRDs: committed, documented, structural, small, and read by what they describe.
#![allow(clippy::unwrap_used, clippy::panic)]

use serde_json::Value;
use sluice_crds::{ChaosDrill, ChaosExperiment, NotifyGateway, all, yaml};
use std::path::PathBuf;

/// Client-side `kubectl apply` keeps the whole object in an annotation, limited to 256 KiB.
const MAX_FILE_BYTES: usize = 200 * 1024;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The files for `kubectl apply`, and the chart's copies: a chart is packaged without what lies outside it.
const GENERATED: [&str; 2] = ["yaml", "../charts/sluice/files/crds"];

#[test]
fn yaml_files_are_what_the_types_say() {
    for crd in all() {
        let generated = yaml(&crd).unwrap();
        let plural = &crd.spec.names.plural;
        assert!(
            generated.len() <= MAX_FILE_BYTES,
            "{plural}: {} bytes",
            generated.len()
        );
        for place in GENERATED {
            let path = folder(place).join(format!("{plural}.yaml"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &generated).unwrap();
            }
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == generated,
                "{} is stale: run UPDATE=1 cargo test -p sluice-crds",
                path.display()
            );
        }
    }
}

#[test]
fn every_field_is_documented_and_no_float_is_stored() {
    for crd in all() {
        let value = serde_json::to_value(&crd).unwrap();
        let name = crd.spec.names.kind.clone();
        walk(
            &value["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
            &name,
        );
    }
}

/// Checks one schema and everything below it.
fn walk(schema: &Value, path: &str) {
    let kind = schema["type"].as_str().unwrap_or_default();
    assert_ne!(kind, "number", "{path} is a float");
    let format = schema["format"].as_str().unwrap_or_default();
    assert!(
        ["", "int32", "int64", "date-time"].contains(&format),
        "{path}: the API server does not know the format {format}"
    );
    if kind == "string" && path.contains(".spec") && schema["enum"].is_null() {
        assert!(
            !schema["maxLength"].is_null(),
            "{path}: strings in a spec need a bound"
        );
    }
    if kind == "array" && path.contains(".spec") {
        assert!(
            !schema["maxItems"].is_null(),
            "{path}: lists in a spec need a bound"
        );
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = format!("{path}.{name}");
        let standard = ["apiVersion", "kind", "metadata"].contains(&name.as_str());
        let documented = property["description"]
            .as_str()
            .is_some_and(|text| text.len() > 5);
        assert!(
            documented || standard || ["spec", "status"].contains(&name.as_str()),
            "{below} has no description"
        );
        walk(property, &below);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"));
    }
}

#[test]
fn fleets_can_be_scaled_and_listed() {
    let crd = serde_json::to_value(&all()[0]).unwrap();
    let version = &crd["spec"]["versions"][0];
    assert_eq!(
        version["subresources"]["scale"]["specReplicasPath"],
        ".spec.replicas"
    );
    assert_eq!(
        version["subresources"]["scale"]["statusReplicasPath"],
        ".status.replicas"
    );
    assert_eq!(
        version["subresources"]["scale"]["labelSelectorPath"],
        ".status.selector"
    );
    let columns: Vec<_> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        columns,
        [
            "Desired",
            "Ready",
            "Draining",
            "Connections",
            "Budget",
            "Drill",
            "Age"
        ]
    );
}

#[test]
fn what_rust_fills_in_is_what_the_schema_fills_in() {
    let fleet: NotifyGateway = sample("fleet-minimal.yaml");
    let written = serde_json::to_value(&fleet.spec).unwrap();
    let crd = serde_json::to_value(&all()[0]).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut defaulted = serde_json::to_value(
        serde_yaml::from_str::<Value>(
            &std::fs::read_to_string(folder("samples/fleet-minimal.yaml")).unwrap(),
        )
        .unwrap()["spec"]
            .clone(),
    )
    .unwrap();
    apply_defaults(schema, &mut defaulted);
    assert_eq!(without_nulls(written), defaulted);
}

/// What the API server does with `default`.
fn apply_defaults(schema: &Value, value: &mut Value) {
    let Some(object) = value.as_object_mut() else {
        return;
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if !object.contains_key(name) && !property["default"].is_null() {
            object.insert(name.clone(), property["default"].clone());
        }
        if let Some(below) = object.get_mut(name) {
            apply_defaults(property, below);
        }
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        other => other,
    }
}

fn sample<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let text = std::fs::read_to_string(folder("samples").join(name)).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn samples_are_read_and_say_everything_there_is() {
    let full: NotifyGateway = sample("fleet-full.yaml");
    let text = std::fs::read_to_string(folder("samples/fleet-full.yaml")).unwrap();
    let given: Value = serde_yaml::from_str(&text).unwrap();
    let crd = serde_json::to_value(&all()[0]).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let mut missing = Vec::new();
    unused(schema, &given["spec"], "spec", &mut missing);
    // The other two of three ways to verify tokens.
    assert_eq!(
        missing,
        [
            "spec.auth.hmacSecretRef",
            "spec.auth.jwksConfigMapRef",
            "spec.pod.tolerations[].tolerationSeconds"
        ]
    );
    assert_eq!(full.desired(), 6);

    let drill: ChaosDrill = sample("drill-daily-eviction.yaml");
    assert_eq!(drill.spec.starting_deadline_seconds, 60);
    let experiment: ChaosExperiment = sample("experiment-kill.yaml");
    assert_eq!(
        (
            experiment.spec.fault.count,
            experiment.spec.max_affected_percent
        ),
        (1, 34)
    );
}

/// Collects the fields that `value` leaves out.
fn unused(schema: &Value, value: &Value, path: &str, missing: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let below = format!("{path}.{name}");
        match value.get(name) {
            None => missing.push(below),
            Some(Value::Array(items)) => {
                if let Some(first) = items.first() {
                    unused(&property["items"], first, &format!("{below}[]"), missing);
                }
            }
            Some(found) => unused(property, found, &below, missing),
        }
    }
}

#[test]
fn a_template_may_change_and_an_experiment_may_not() {
    let rules = |index: usize, path: &[&str]| {
        let crd = serde_json::to_value(&all()[index]).unwrap();
        let mut at = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        for step in path {
            at = at["properties"][step].clone();
        }
        at["x-kubernetes-validations"].clone()
    };
    assert!(rules(1, &["spec", "template", "spec"]).is_null());
    assert_eq!(rules(2, &["spec"])[0]["rule"], "self == oldSelf");
}
