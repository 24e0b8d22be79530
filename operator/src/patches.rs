//! Merge patches that are safe to send (pure): bound to the object that was seen.

use serde_json::{Map, Value, json};

/// A merge patch of a status from `old` to `new`. With `version` it fails when the object was
/// written since; with the UID alone it fails only for another object of the same name.
pub fn status(old: &Value, new: Value, uid: &str, version: Option<&str>) -> Value {
    let mut patch = json!({"metadata": {"uid": uid}, "status": with_nulls(old, new)});
    if let Some(version) = version {
        patch["metadata"]["resourceVersion"] = version.into();
    }
    patch
}

/// `new`, with null for what only `old` has: a merge patch keeps what it does not name.
fn with_nulls(old: &Value, new: Value) -> Value {
    let (Value::Object(old), Value::Object(mut new)) = (old, new.clone()) else {
        return new;
    };
    for (key, before) in old {
        let after = match new.remove(key) {
            Some(after) => with_nulls(before, after),
            None => Value::Null,
        };
        new.insert(key.clone(), after);
    }
    Value::Object(new)
}

/// A merge patch of a pod's labels and annotations, `None` removing, bound to what was seen of it.
pub fn pod_marks(
    uid: &str,
    version: &str,
    labels: &[(&str, Option<&str>)],
    annotations: &[(&str, Option<String>)],
) -> Value {
    let labels: Map<_, _> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    let annotations: Map<_, _> = annotations
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    json!({"metadata": {
        "uid": uid,
        "resourceVersion": version,
        "labels": labels,
        "annotations": annotations,
    }})
}

#[cfg(test)]
mod tests {
    use super::{pod_marks, status};
    use serde_json::json;

    #[test]
    fn what_is_gone_is_taken_away() {
        let old = json!({"a": 1, "drill": "x", "report": {"m": "n", "s": 3}, "list": [1, 2]});
        let new = json!({"a": 2, "report": {"m": "o"}, "list": [2]});
        assert_eq!(
            status(&old, new, "u", Some("7")),
            json!({
                "metadata": {"uid": "u", "resourceVersion": "7"},
                "status": {"a": 2, "drill": null, "report": {"m": "o", "s": null}, "list": [2]},
            })
        );
    }

    #[test]
    fn a_missing_status_is_written_whole() {
        let patch = status(&json!(null), json!({"a": 1}), "u", None);
        assert_eq!(patch, json!({"metadata": {"uid": "u"}, "status": {"a": 1}}));
    }

    #[test]
    fn marks_are_bound_to_the_pod_that_was_seen() {
        let patch = pod_marks(
            "u",
            "3",
            &[("on", Some("true")), ("off", None)],
            &[("a", None)],
        );
        assert_eq!(
            patch,
            json!({"metadata": {"uid": "u", "resourceVersion": "3",
                "labels": {"on": "true", "off": null}, "annotations": {"a": null}}})
        );
    }
}
