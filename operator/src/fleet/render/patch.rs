//! Merge patches on pods (pure): RFC 7386, but lists of named things merge by name, as Kubernetes'
//! own strategic merge does for pods.

use serde_json::Value;

/// Lists that merge, with the field that names an element.
const KEYED: [(&str, &str); 7] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("ports", "containerPort"),
];

/// Applies `patch` to `target`; `null` takes a field away.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
            continue;
        }
        let slot = target.entry(key.clone()).or_insert(Value::Null);
        let keyed = KEYED.iter().find(|(list, _)| list == key);
        match (slot, value, keyed) {
            (Value::Array(items), Value::Array(changes), Some((_, name))) => {
                merge_by(items, changes, name);
            }
            (slot, value, _) => merge(slot, value),
        }
    }
}

/// Merges elements that carry the same name; others are added at the end.
fn merge_by(items: &mut Vec<Value>, changes: &[Value], name: &str) {
    for change in changes {
        let same =
            |item: &&mut Value| item.get(name).is_some() && item.get(name) == change.get(name);
        match items.iter_mut().find(same) {
            Some(item) => merge(item, change),
            None => items.push(change.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn named_things_merge_and_null_takes_away() {
        let mut pod = json!({"spec": {
            "dnsPolicy": "Default",
            "hostname": "x",
            "containers": [{"name": "gateway", "env": [{"name": "A", "value": "1"}], "args": ["a", "b"]}],
        }});
        merge(
            &mut pod,
            &json!({"spec": {
                "hostname": null,
                "nodeName": "n",
                "containers": [
                    {"name": "gateway", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}], "args": ["c"]},
                    {"name": "sidecar"},
                ],
            }}),
        );
        assert_eq!(
            pod,
            json!({"spec": {
                "dnsPolicy": "Default",
                "nodeName": "n",
                "containers": [
                    {"name": "gateway", "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}], "args": ["c"]},
                    {"name": "sidecar"},
                ],
            }})
        );
    }
}
