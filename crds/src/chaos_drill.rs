//! `ChaosDrill`: a schedule that creates `ChaosExperiment`s, as a CronJob creates Jobs (pure data).

use crate::chaos_experiment::{ChaosExperimentSpec, Verdict};
use crate::schema;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When to run which experiment.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "ChaosDrill",
    plural = "chaosdrills",
    shortname = "cdr",
    category = "sluice",
    namespaced,
    derive = "PartialEq",
    status = "ChaosDrillStatus",
    doc = "A schedule of chaos experiments. Runs never overlap: a run that is due while another is going is skipped.",
    printcolumn(
        name = "Schedule",
        type_ = "string",
        json_path = ".spec.schedule",
        description = "Cron expression"
    ),
    printcolumn(
        name = "Timezone",
        type_ = "string",
        json_path = ".spec.timeZone",
        description = "IANA time zone of the schedule"
    ),
    printcolumn(
        name = "Suspend",
        type_ = "boolean",
        json_path = ".spec.suspend",
        description = "Whether runs are held back"
    ),
    printcolumn(
        name = "Last",
        type_ = "date",
        json_path = ".status.lastScheduleTime",
        description = "When a run was last due and made"
    ),
    printcolumn(
        name = "Verdict",
        type_ = "string",
        json_path = ".status.lastVerdict",
        description = "How the last finished run ended"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ChaosDrillSpec {
    /// When to run: five cron fields (minute, hour, day of month, month, day of week), for example
    /// "0 10 * * 1-5".
    #[schemars(length(min = 9, max = 256))]
    pub schedule: String,

    /// IANA time zone of the schedule, for example Europe/Berlin.
    #[serde(default = "default_time_zone")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: String,

    /// While true no experiment is created; one that runs goes on.
    #[serde(default)]
    pub suspend: bool,

    /// Seconds a run may start late, for example after the operator was down; later ones are skipped.
    #[serde(default = "default_starting_deadline")]
    #[schemars(range(min = 10, max = 86_400))]
    pub starting_deadline_seconds: i32,

    /// Finished experiments with verdict Passed that are kept.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 100))]
    pub successful_history_limit: i32,

    /// Finished experiments with any other verdict that are kept.
    #[serde(default = "default_history")]
    #[schemars(range(min = 0, max = 100))]
    pub failed_history_limit: i32,

    /// The experiment to create.
    pub template: ExperimentTemplate,
}

fn default_time_zone() -> String {
    "UTC".to_owned()
}

fn default_starting_deadline() -> i32 {
    60
}

fn default_history() -> i32 {
    3
}

/// The experiment a drill creates.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct ExperimentTemplate {
    /// Spec of the experiment.
    // The rule that freezes an experiment's spec does not hold for a template.
    #[schemars(transform = schema::without_rules)]
    pub spec: ChaosExperimentSpec,
}

/// What a drill last did.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ChaosDrillStatus {
    /// metadata.generation this status was made from.
    pub observed_generation: Option<i64>,
    /// When a run was last due and made.
    #[schemars(schema_with = "schema::time")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// Name of the experiment made last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_experiment: Option<String>,
    /// How the last finished experiment ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_verdict: Option<Verdict>,
    /// SpecValid (schedule and time zone can be read) and Active (an experiment is running).
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
