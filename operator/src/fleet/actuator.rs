//! How one action becomes one write: the border between deciding and doing. `apply` implements it
//! on a cluster, the tests on a simulated one.

use super::plan::Action;

/// Carries out actions, each by itself.
///
/// A plan's actions are tried in order. One that fails holds back only what follows for the same
/// pod; the next reconcile sees what was and was not done and plans anew.
pub trait Actuator {
    /// Carries out one action. Doing it twice is the same as doing it once.
    fn act(&self, action: &Action) -> impl Future<Output = Result<(), ActError>> + Send;
}

/// Why an action was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActError {
    /// The object changed or went since it was seen: look again and plan anew.
    #[error("{what} changed since it was observed")]
    Conflict {
        /// Kind and name of the object.
        what: String,
    },
    /// The gateway has heard of a newer leader: this one must stop.
    #[error("{what} knows a newer leader")]
    StaleLeader {
        /// Kind and name of the object.
        what: String,
    },
    /// The write failed, or it is not known whether it did.
    #[error("{what}: {why}")]
    Failed {
        /// What was being done, to which object.
        what: String,
        /// Why it failed.
        why: String,
    },
}
