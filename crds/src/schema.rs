//! Helpers that write structural schemas where the derive cannot (pure).

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, ValidationRule,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;

/// A map of resource names to quantities, short where Kubernetes' own schema carries a page of text.
pub(crate) fn resource_list(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "description": "A Kubernetes quantity, for example 500m or 256Mi.",
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]+)?$",
            "x-kubernetes-int-or-string": true,
        },
    })
}

/// An object whose content belongs to another API (a pod).
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "nullable": true,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// Pod tolerations, with Kubernetes' field names and meaning.
pub(crate) fn tolerations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "items": {
            "type": "object",
            "description": "A toleration as in a pod.",
            "properties": {
                "key": {"type": "string", "maxLength": 316, "description": "Taint key; empty with operator Exists matches all taints."},
                "operator": {"type": "string", "maxLength": 16, "description": "Exists, Equal (the default), Lt or Gt."},
                "value": {"type": "string", "maxLength": 63, "description": "Taint value for the operators that compare."},
                "effect": {"type": "string", "enum": ["", "NoSchedule", "PreferNoSchedule", "NoExecute"], "description": "Taint effect; empty matches all."},
                "tolerationSeconds": {"type": "integer", "format": "int64", "description": "Seconds a NoExecute taint is tolerated; absent means forever."},
            },
        },
    })
}

/// Kubernetes conditions, merged by type.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "Name of the aspect."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "reason": {"type": "string", "maxLength": 1024, "description": "One CamelCase word saying why."},
                "message": {"type": "string", "maxLength": 32768, "description": "A sentence saying why, and what to do where something can be done."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When status last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "description": "metadata.generation this was judged by."},
            },
        },
    })
}

/// A point in time.
pub(crate) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time", "nullable": true})
}

/// Bounds are typed as floats in Kubernetes' Rust types; the CRDs hold whole numbers only.
pub(crate) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Number(number) => {
            if let Some(float) = number.as_f64()
                && number.as_i64().is_none()
                && float.fract() == 0.0
            {
                *value = Value::from(float as i64);
            }
        }
        _ => {}
    }
}

/// Takes the rules off the top of an embedded schema.
pub(crate) fn without_rules(schema: &mut Schema) {
    schema.remove("x-kubernetes-validations");
}

/// Adds rules to the object itself, where `metadata.name` can be seen; the derive reaches only `spec`.
pub(crate) fn with_root_rules(
    mut crd: CustomResourceDefinition,
    rules: &Value,
) -> CustomResourceDefinition {
    let rules: Vec<ValidationRule> = rules
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| serde_json::from_value(rule.clone()).ok())
        .collect();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|validation| validation.open_api_v3_schema.as_mut())
        {
            schema.x_kubernetes_validations = Some(rules.clone());
        }
    }
    crd
}
