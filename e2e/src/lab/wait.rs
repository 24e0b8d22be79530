//! Effects: waits for a condition of the cluster with a bound, and says what was last seen when it does not come.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Time between two looks at the condition.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What one look at a condition showed.
pub enum Look<T> {
    /// The condition holds; the wait ends with this value.
    Done(T),
    /// Not yet; the text says what was seen, for the error if time runs out.
    NotYet(String),
}

/// Looks until the condition holds and returns its value and how long that took.
///
/// An error of one look counts as "not yet": API servers come and go in these scenarios.
///
/// # Errors
/// When `limit` passes, with the last thing that was seen.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut look: F) -> Result<(T, Duration)>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<T>>>,
{
    let begun = Instant::now();
    loop {
        let seen = match look().await {
            Ok(Look::Done(value)) => return Ok((value, begun.elapsed())),
            Ok(Look::NotYet(seen)) => seen,
            Err(error) => format!("{error:#}"),
        };
        if begun.elapsed() > limit {
            return Err(anyhow!(
                "{what} did not happen within {} s; last seen: {seen}",
                limit.as_secs()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Keeps looking for the whole `span` and fails at the first look in which the condition does not hold.
///
/// # Errors
/// With what was seen when the condition broke.
pub async fn holds<F, Fut>(what: &str, span: Duration, mut look: F) -> Result<()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Look<()>>>,
{
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Look::NotYet(seen) = look().await? {
            return Err(anyhow!(
                "{what} did not hold: after {:.1} s {seen}",
                begun.elapsed().as_secs_f32()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}
