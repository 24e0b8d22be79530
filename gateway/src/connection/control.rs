//! Pure: what others may order a connection to do.

use std::sync::Arc;
use std::time::Duration;

/// One order.
#[derive(Clone, Debug)]
pub enum Control {
    /// Ask the client to connect elsewhere.
    Migrate {
        /// Why, one snake_case word.
        reason: Arc<str>,
        /// Earliest moment for its new connection, from now.
        not_before: Duration,
    },
    /// The drain was taken back: nobody has to go.
    Stay,
    /// Another connection took over the session.
    Replaced,
    /// Close with 1012 now.
    Drained,
}
